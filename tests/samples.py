"""Small random panels with titles that are hard to tell apart, and real surveys where a machine has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from laborllm.tokens import TitleUnits, Tokens

HARD_TITLES = (
    "Physicians",
    "Physicians' assistants",
    "Managers",
    "Managers, n.e.c.",
    "Cooks",
    "a",
    "b",
    "Not employed",
)
"""Titles that begin other titles, that share first tokens, that are one token, that end in punctuation."""

SURVEYS = Path(__file__).parents[1].parent / "shared" / "data"


def careers(titles: tuple[str, ...], *, workers: int = 6, years: int = 5, seed: int = 0) -> pa.Table:
    """Random careers of different lengths, with gaps, gender, race and education."""
    random = np.random.default_rng(seed)
    rows = []
    for worker in range(workers):
        gender, race = random.choice(["female", "male"]), random.choice(["black", "hispanic", "white"])
        span = np.arange(1980, 1980 + 2 * years)
        graduates = 1980 + random.integers(2 * years)
        rows += [
            {
                "worker_id": worker,
                "year": int(year),
                "occupation": str(random.choice(titles)),
                "gender": str(gender),
                "race": str(race),
                "education": "college" if year >= graduates else "high school",
            }
            for year in np.sort(random.choice(span, size=random.integers(1, years + 1), replace=False))
        ]
    return pa.Table.from_pylist(rows)


def survey(name: str) -> Path:
    """The folder of a real survey, or a skip where this machine has none."""
    folder = SURVEYS / name
    if not (folder / "careers.parquet").exists():
        pytest.skip(f"the careers of {name} are not on this machine")
    return folder


def random_texts(units: TitleUnits, *, years: tuple[int, ...], vocabulary: int, seed: int = 0) -> Tokens:
    """Texts of random tokens with a title in each year, a header before the first and a few tokens between them."""
    random = np.random.default_rng(seed)
    texts: list[list[int]] = []
    starts, stops, states = [], [], []
    for count in years:
        ids = random.integers(vocabulary, size=random.integers(10, 25)).tolist()
        for _ in range(count):
            ids += random.integers(vocabulary, size=random.integers(1, 6)).tolist()
            state = int(random.integers(len(units.ids)))
            states.append(state)
            starts.append(len(ids))
            ids += units.ids[state]
            stops.append(len(ids))
        texts.append(ids)
    return Tokens(
        ids=np.array([token for text in texts for token in text], np.int32),
        offsets=np.cumsum([0, *map(len, texts)]),
        rows=np.cumsum([0, *years]),
        starts=np.array(starts, np.int32),
        stops=np.array(stops, np.int32),
        states=np.array(states, np.int32),
    )

"""Careers as token ids and random models of real shapes, for the scorer's bench on a GPU.

score_ids.json holds what resumes of the labor-llm template are put together from, as two full tokenizers of
tests/families.py spell it: the header, "1987 (college):" for every year and education, and the units of the 333 states
of occ1990dd. So the bench needs no tokenizer. `python benches/gpu/gpu_cases.py` writes it anew.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benches"), str(ROOT / "python")]

from laborllm.tokens import TitleUnits, Tokens  # noqa: E402

IDS = Path(__file__).parent / "score_ids.json"
YEARS = range(1980, 2010)
EDUCATION = ("high school", "college", "graduate degree")


@dataclass(frozen=True)
class Shape:
    """A model and the size of what it scores.

    Attributes:
        name: For the table.
        family: Whose ids.
        config: Of the model.
        titles: States, from the first; all by default.
        years: Shortest and longest career.
        whole, chunked, masked, observed: Workers scored for the whole law (by flex, by chunks), the masked one, and
            what happened.
        prompts: Prompts at which rivals score every title.
        max_rows: Rows of one pass.
    """

    name: str
    family: str
    config: dict[str, int]
    titles: int = 333
    years: tuple[int, int] = (10, 25)
    whole: int = 12
    chunked: int = 4
    masked: int = 48
    observed: int = 400
    prompts: int = 4
    max_rows: int = 32_768


LLAMA = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
SHAPES = {
    "7b": Shape("7B, V=32,000", "llama-2", LLAMA | {"intermediate_size": 11_008, "num_key_value_heads": 32}),
    "8b": Shape("8B, V=128,256", "llama-3", LLAMA | {"intermediate_size": 14_336, "num_key_value_heads": 8}),
    "tiny": Shape(
        "tiny",
        "llama-2",
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        titles=12,
        years=(2, 3),
        whole=3,
        chunked=2,
        masked=3,
        observed=3,
        prompts=2,
        max_rows=160,
    ),
}


def model_of(shape: Shape, *, device: str, dtype: torch.dtype, vocabulary: int, layers: int | None = None) -> Any:
    """A model of random weights, made on the device; its distributions are not uniform at any width."""
    sizes = shape.config | ({} if layers is None else {"num_hidden_layers": layers})
    spread = 1.3 * sizes["hidden_size"] ** -0.5
    config = LlamaConfig(vocab_size=vocabulary, initializer_range=spread, max_position_embeddings=4096, **sizes)
    torch.manual_seed(0)
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(requires_grad=False)


class Cases:
    """Careers of random titles.

    Args:
        shape: How many states, and how long careers are.

    Attributes:
        units: The states' units.
        vocabulary: Entries of the tokenizer; with few states, of the tokens that are used.
    """

    def __init__(self, shape: Shape) -> None:
        ids = json.loads(IDS.read_text(encoding="utf-8"))[shape.family]
        self._shape = shape
        self._header: list[int] = ids["header"]
        self._prompts: list[list[list[int]]] = ids["prompts"]
        units: list[list[int]] = ids["units"][: shape.titles]
        self.vocabulary: int = ids["vocabulary"]
        if shape.titles < len(ids["units"]):  # number the tokens that are used anew
            used = {token for text in (self._header, *chain(*self._prompts), *units) for token in text}
            number = {token: at for at, token in enumerate(sorted(used))}
            self.vocabulary = len(used)
            self._header = [number[token] for token in self._header]
            self._prompts = [[[number[token] for token in text] for text in year] for year in self._prompts]
            units = [[number[token] for token in unit] for unit in units]
        self.units = TitleUnits(tuple(map(tuple, units)), (True,) * len(units))

    def careers(self, workers: int, *, seed: int) -> Tokens:
        """Workers of consecutive years; each year's title is as likely as any other."""
        random = np.random.default_rng(seed)
        texts, starts, stops, states, rows = [], [], [], [], [0]
        for _ in range(workers):
            text = list(self._header)
            years = int(random.integers(self._shape.years[0], self._shape.years[1] + 1))
            begin = int(random.integers(len(YEARS) - years + 1))
            for year, education in enumerate(np.sort(random.integers(len(EDUCATION), size=years)).tolist(), begin):
                state = int(random.integers(len(self.units.ids)))
                text += self._prompts[year][education]
                starts.append(len(text))
                text += self.units.ids[state]
                stops.append(len(text))
                states.append(state)
            texts.append(np.array(text, np.int32))
            rows.append(len(states))
        return Tokens(
            ids=np.concatenate(texts),
            offsets=np.cumsum([0, *map(len, texts)]),
            rows=np.array(rows, np.int64),
            starts=np.array(starts, np.int32),
            stops=np.array(stops, np.int32),
            states=np.array(states, np.int32),
        )


def write() -> None:
    """Spell the parts by the full tokenizers, and check that careers made of parts are what the tokenizers give."""
    import pyarrow as pa

    from laborllm.encoder import PanelEncoder
    from laborllm.occupations import Occupations
    from laborllm.panel import Panel
    from laborllm.resume import Template
    from tests.families import family

    occupations = Occupations.occ1990dd()
    person = {"gender": "female", "race": "white", "region": "south", "birth_year": 1960}
    rows = [
        {"worker_id": at, "year": year, "occupation": occupations.titles[(year + 7 * at) % len(occupations)]}
        | {"education": education}
        | person
        for at, education in enumerate(EDUCATION)
        for year in (YEARS[0] - 1, *YEARS)
    ]
    panel = Panel.from_arrow(pa.Table.from_pylist(rows), occupations=occupations, dataset="NLSY79")
    template = Template.load("labor-llm").bind(panel.table.column_names)
    found = {}
    for name in ("llama-2", "llama-3"):
        tokenizer = family(name, full=True)
        encode = PanelEncoder(tokenizer, occupations, template)
        tokens = encode(panel)
        step = len(YEARS) + 1
        between = [
            [
                tokens.text(worker)[tokens.stops[row - 1] : tokens.starts[row]].tolist()
                for worker in range(len(EDUCATION))
                for row in [worker * step + 1 + at]
            ]
            for at in range(len(YEARS))
        ]
        first = tokenizer.encode(f"{YEARS[0] - 1} (high school):", add_special_tokens=False).ids
        header = tokens.text(0)[: tokens.starts[0]].tolist()
        assert header[-len(first) + 1 :] == first[1:]  # SentencePiece spells the start of a text otherwise
        found[name] = {
            "vocabulary": tokenizer.get_vocab_size(),
            "header": header[: len(header) - (len(between[0][0]))],
            "prompts": between,
            "units": [list(unit) for unit in encode.units.ids],
        }
    IDS.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()

"""Careers, tokenizers and random models of the scorer's bench.

Weights are drawn so that distributions are far from uniform at any width; a wrong mask or position then shows.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from laborllm.occupations import Occupations  # noqa: E402
from laborllm.panel import Panel  # noqa: E402
from laborllm.resume import Template  # noqa: E402
from laborllm.score import TitleScorer  # noqa: E402
from tests.families import FULL_SIZE, SMALL_SIZE, family  # noqa: E402

if TYPE_CHECKING:
    import tokenizers

NLSY97 = ROOT.parent / "shared" / "data" / "nlsy97"
EDUCATION = ("high school", "college", "graduate degree")


@dataclass(frozen=True)
class Shape:
    """How large the cases are.

    Attributes:
        hidden, layers, heads: Of the model of the whole law.
        observed_hidden, observed_layers, observed_heads: Of the model that reads what happened.
        full: Tokenizers of released size.
        titles: Titles of occ1990dd, from the first; None for all.
        years: Of the career whose law is timed.
        row_years: Of the careers whose rows are counted.
        memory_rows: Rows of trie nodes in the run whose memory is measured.
        survey_workers: Of NLSY97's test split; 0 takes random careers.
        batches: Sizes of batch that peers try, in texts.
        budgets: Sizes of batch that peers of `observed` try, in padded tokens.
    """

    hidden: int
    layers: int
    heads: int
    observed_hidden: int
    observed_layers: int
    observed_heads: int
    full: bool
    titles: int | None
    years: int
    row_years: tuple[int, ...]
    memory_rows: int
    survey_workers: int
    batches: tuple[int, ...]
    budgets: tuple[int, ...]


SHAPES = {
    "small": Shape(
        hidden=512,
        layers=4,
        heads=8,
        observed_hidden=384,
        observed_layers=6,
        observed_heads=6,
        full=True,
        titles=None,
        years=10,
        row_years=(10, 17, 25),
        memory_rows=41_000,
        survey_workers=200,
        batches=(8, 32),
        budgets=(512, 1_024, 2_048, 4_096),
    ),
    "tiny": Shape(
        hidden=32,
        layers=2,
        heads=4,
        observed_hidden=32,
        observed_layers=2,
        observed_heads=4,
        full=False,
        titles=12,
        years=2,
        row_years=(2, 3),
        memory_rows=200,
        survey_workers=0,
        batches=(16,),
        budgets=(512,),
    ),
}


def model(vocab: int, *, hidden: int, layers: int, heads: int, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A Llama of random weights; the same weights in every type, rounded to bfloat16."""
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=hidden * 43 // 16,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=4_096,
    )
    made = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in made.parameters():
            if weights.dim() > 1:
                drawn = torch.empty(weights.shape, dtype=torch.float32).normal_(0, 1.7 * hidden**-0.5)
                weights.copy_(drawn.bfloat16())
    return made


@cache
def tokenizer(name: str, *, full: bool) -> tokenizers.Tokenizer:
    """A tokenizer of a family."""
    return family(name, full=full)


def vocabulary(name: str, *, full: bool) -> int:
    """Its released size; a tokenizer may have learned less."""
    return (FULL_SIZE if full else SMALL_SIZE)[name]


def titles_of(shape: Shape, count: int | None = None) -> Occupations:
    """The titles of occ1990dd, or the first of them."""
    whole = Occupations.occ1990dd()
    most = count or shape.titles
    return whole if most is None else Occupations.from_titles(list(whole.titles[:most]))


def careers(occupations: Occupations, *, workers: int, years: int, first_worker: int = 0) -> Panel:
    """Random careers without gaps; four years in ten a worker stays. Each worker's draws are its own."""
    rows: list[dict[str, Any]] = []
    for worker in range(first_worker, first_worker + workers):
        random = np.random.default_rng((1997, worker))
        header = {"gender": random.choice(["female", "male"]), "race": random.choice(["black", "hispanic", "white"])}
        header |= {
            "region": random.choice(["south", "west", "northeast"]),
            "birth_year": int(random.integers(1957, 1965)),
        }
        state = 0
        for year in range(years):
            if year == 0 or random.random() > 0.4:
                state = int(random.integers(len(occupations)))
            education = EDUCATION[min(2, year // 8)]
            cell = {"occupation": occupations.titles[state], "education": education}
            rows.append({"worker_id": worker, "year": 1985 + year, **header, **cell})
    return Panel.from_arrow(pa.Table.from_pylist(rows), occupations=occupations, dataset="NLSY79")


def survey(shape: Shape) -> Panel:
    """Careers of NLSY97's test split, every n-th worker; random ones where the shape asks for none."""
    if not shape.survey_workers:
        return careers(titles_of(shape), workers=8, years=5)
    occupations = Occupations.read(NLSY97 / "occupations.csv")
    table = pq.read_table(NLSY97 / "careers.parquet", filters=[("split", "==", "test")])
    ids = pc.unique(table["worker_id"])
    chosen = ids.take(np.linspace(0, len(ids) - 1, shape.survey_workers).astype(int))
    table = table.filter(pc.is_in(table["worker_id"], chosen)).drop_columns(["split"])
    return Panel.from_arrow(table, occupations=occupations, dataset="NLSY97")


def scorer(panel: Panel, body: PreTrainedModel, encoder: tokenizers.Tokenizer, **options: Any) -> TitleScorer:
    """A scorer under the paper's template."""
    template = Template.load("labor-llm").bind(panel.table.column_names)
    return TitleScorer(body, encoder, occupations=panel.occupations, template=template, **options)

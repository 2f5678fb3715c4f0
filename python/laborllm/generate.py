"""Titles decoded under the trie: the next occupation of a history as text that is always on the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import GenerationConfig

from laborllm.errors import PanelError
from laborllm.panel import Panel
from laborllm.score import TitleScorer
from laborllm.trie import TitleTrie


@dataclass(frozen=True)
class Decoded:
    """One title decoded behind one history.

    Attributes:
        dataset, worker_id: The worker.
        year: The year that the title is for.
        title: The title, always one of the J.
        log_p: Its log-probability under the `raw` law.
        log_p_masked: Its log-probability under the `masked` law, from which samples are drawn.
    """

    dataset: str
    worker_id: int | str
    year: int
    title: str
    log_p: float
    log_p_masked: float


def next_rows(panel: Panel, *, year: int | None = None, education: str | None = None) -> Panel:
    """Append to each worker the row to be predicted, and make these rows the only targets.

    The new row repeats the worker's last row but for the year (by default the last plus one) and the education (by
    default the last); its occupation is a placeholder that no prompt shows.

    Raises:
        PanelError: `year` is not after a worker's last row, or the panel has no column `education`.
    """
    table = panel.table.cast(pa.schema([_decoded_field(field) for field in panel.table.schema]))
    last = table.take(pa.array(panel.starts[1:] - 1))
    years = panel.years()[panel.starts[1:] - 1]
    if year is not None and (years >= year).any():
        worker = last["worker_id"][int(np.argmax(years >= year))]
        raise PanelError(f"worker {worker} has a row in {year} or later; pass a --year after every worker's last row")
    if education is not None and "education" not in last.column_names:
        raise PanelError("the panel has no column education to set; leave out --education")
    following = years + 1 if year is None else np.full_like(years, year)
    last = _replaced(last, "year", pa.array(following, pa.int32()))
    if education is not None:
        last = _replaced(last, "education", pa.array([education] * len(last), pa.large_string()))
    extended = Panel.from_arrow(pa.concat_tables([table, last]), occupations=panel.occupations)
    targets = np.zeros(extended.num_rows, bool)
    targets[extended.starts[1:] - 1] = True
    return extended.with_targets(targets)


def _decoded_field(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)


def allowed_tokens(trie: TitleTrie, prompt_length: int, *, stop: int) -> Callable[[int, torch.Tensor], list[int]]:
    """A `prefix_allowed_tokens_fn` for transformers: what may follow a prompt of this length.

    After a title's last token only `stop` is allowed.
    """

    def allowed(_batch: int, ids: torch.Tensor) -> list[int]:
        state = trie.walk(ids[prompt_length:].tolist())
        return (trie.allowed(state) if state is not None else []) or [stop]

    return allowed


@torch.inference_mode()
def decode(scorer: TitleScorer, panel: Panel, *, beams: int = 1, samples: int = 0, seed: int = 0) -> Iterator[Decoded]:
    """Decode titles for the target rows of a panel (see `next_rows`).

    Args:
        scorer: The model, its tokenizer and the titles.
        panel: Its target rows are predicted.
        beams: Width of beam search under the `masked` law; 1 is greedy. A narrow beam can miss its most probable
            title; one as wide as there are titles cannot.
        samples: If positive, this many draws per history from the `masked` law, which is not P(title): masking
            renormalises at every token.
        seed: Of the draws.
    """
    torch.manual_seed(seed)
    windows, tokens = scorer.texts(panel)
    trie, stop = scorer.units.trie, scorer.model.config.eos_token_id
    stop = stop[0] if isinstance(stop, list) else stop
    stop = scorer.units.ids[0][-1] if stop is None else stop
    sampling = {"do_sample": True, "top_k": 0, "num_return_sequences": samples}
    search = {"num_beams": beams, "length_penalty": 0.0}
    plain = GenerationConfig(
        max_new_tokens=scorer.units.longest,
        renormalize_logits=True,
        pad_token_id=stop,
        eos_token_id=stop,
        **(sampling if samples else search),
    )
    for text in range(len(windows)):
        for row in range(int(windows.fresh[text]), int(windows.stop[text])):
            if not panel.targets[row]:
                continue
            prompt = tokens.text(text)[: tokens.starts[tokens.rows[text] + row - windows.first[text]]]
            ids = torch.from_numpy(prompt.astype(np.int64))[None].to(scorer.model.device)
            output = _generate(
                scorer.model,
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                prefix_allowed_tokens_fn=allowed_tokens(trie, len(prompt), stop=stop),
                generation_config=plain,
            )
            for sequence in output[:, len(prompt) :].tolist():
                yield _decoded(scorer, panel, row, prompt, sequence)


def _generate(model: Any, **arguments: Any) -> torch.Tensor:
    """Generate without what the base's own generation configuration adds: a penalty there would change the law."""
    configured, model.generation_config = model.generation_config, GenerationConfig()
    try:
        output: torch.Tensor = model.generate(**arguments)
    finally:
        model.generation_config = configured
    return output


def _decoded(scorer: TitleScorer, panel: Panel, row: int, prompt: np.ndarray, sequence: list[int]) -> Decoded:
    trie, state, title = scorer.units.trie, 0, None
    for token in sequence:
        following = trie.advance(state, token)
        if following is None:
            break
        state = following
        title = trie.title(state)
    if title is None:
        raise PanelError(f"no title was completed behind row {row}; this is a defect, please report it")
    raw, masked = scorer.log_p_behind(prompt, np.array([title]))
    return Decoded(
        dataset=panel.column("dataset")[row].as_py(),
        worker_id=panel.column("worker_id")[row].as_py(),
        year=int(panel.years()[row]),
        title=scorer.occupations.titles[title],
        log_p=float(raw[0]),
        log_p_masked=float(masked[0]),
    )

"""How others score titles behind histories, each written as well as we can, over the same strings and ids.

`lm_eval`: lm-evaluation-harness's Hugging Face backend, given the strings. `padded`: batches of (prompt, title) texts
in order of length. `cached`: each prompt is run once, its cache repeated for a batch of titles. `one_by_one` and
`teacher_forced` read what happened: each transition as its own text, and each career as one text.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from laborllm.panel import Panel
from laborllm.resume import render
from laborllm.score import TitleScorer
from laborllm.tokens import Tokens

if TYPE_CHECKING:
    import tokenizers

Score = Callable[[np.ndarray], np.ndarray]
"""From request numbers to log-probabilities."""


@dataclass(frozen=True)
class Requests:
    """N prompts times J titles; request `n * J + j` is title j behind prompt n.

    Attributes:
        prompts, units: Token ids.
        prompt_texts, title_texts: The same as strings; a title begins with its space and ends with its newline.
    """

    prompts: list[list[int]]
    units: list[list[int]]
    prompt_texts: list[str]
    title_texts: list[str]

    def __len__(self) -> int:
        """N times J."""
        return len(self.prompts) * len(self.units)

    def ids(self, request: int) -> tuple[list[int], list[int]]:
        """Prompt and title of one request."""
        return self.prompts[request // len(self.units)], self.units[request % len(self.units)]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens that must be run for each request: all but the last."""
        prompts, units = (np.array([len(ids) for ids in side]) for side in (self.prompts, self.units))
        return (prompts[:, None] + units - 1).ravel()


def requests(scorer: TitleScorer, panel: Panel) -> Requests:
    """All titles at all rows of a panel whose careers fit the window."""
    _, tokens = scorer.texts(panel)
    prompts, texts = [], []
    for batch in render(panel, scorer.template):
        for resume, starts in zip(batch["resume"].to_pylist(), batch["title_start"].to_pylist(), strict=True):
            texts += [resume.encode()[: start - 1].decode() for start in starts]
    for text in range(len(tokens)):
        ids = tokens.text(text).tolist()
        prompts += [ids[: tokens.starts[row]] for row in range(tokens.rows[text], tokens.rows[text + 1])]
    titles = [f" {title}\n" for title in scorer.occupations.titles]
    return Requests(prompts, [list(unit) for unit in scorer.units.ids], texts, titles)


def lm_eval(model: PreTrainedModel, tokenizer: tokenizers.Tokenizer, asked: Requests, *, batch: int) -> Score:
    """lm-evaluation-harness, which encodes the strings, sorts by length and takes all logits of every text."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    names = {"pad_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    harness = HFLM(pretrained=model, tokenizer=wrapped, batch_size=batch)

    def score(some: np.ndarray) -> np.ndarray:
        instances = [
            Instance("loglikelihood", {}, (asked.prompt_texts[n], asked.title_texts[j]), 0)
            for n, j in zip(*np.divmod(some, len(asked.units)), strict=True)
        ]
        return np.array([log_p for log_p, _ in harness.loglikelihood(instances, disable_tqdm=True)])

    return score


def padded(model: PreTrainedModel, asked: Requests, *, batch: int) -> Score:
    """Batches of texts, all logits; the requests come in order of length, so that little is padding."""

    @torch.inference_mode()
    def score(some: np.ndarray) -> np.ndarray:
        found = []
        for begin in range(0, len(some), batch):
            pairs = [asked.ids(request) for request in some[begin : begin + batch]]
            texts = [prompt + unit[:-1] for prompt, unit in pairs]
            logits = model(**_padded(texts), use_cache=False).logits  # (B, T, V)
            log_p = torch.log_softmax(logits.float(), dim=-1)
            found += [_behind(log_p[b], len(prompt), unit) for b, (prompt, unit) in enumerate(pairs)]
        return np.array(found)

    return score


@torch.inference_mode()
def cached(model: PreTrainedModel, asked: Requests, *, batch: int) -> np.ndarray:
    """All requests, (N, J): each prompt once, then titles behind copies of its cache."""
    found = np.empty((len(asked.prompts), len(asked.units)))
    for n, prompt in enumerate(asked.prompts):
        read = model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
        for begin in range(0, len(asked.units), batch):
            units = asked.units[begin : begin + batch]
            past = copy.deepcopy(read.past_key_values)
            past.batch_repeat_interleave(len(units))
            ids = _padded([unit[: max(1, len(unit) - 1)] for unit in units])["input_ids"]
            logits = model(input_ids=ids, past_key_values=past).logits
            first = read.logits.expand(len(units), 1, -1)
            log_p = torch.log_softmax(torch.cat([first, logits], dim=1).float(), dim=-1)
            found[n, begin : begin + batch] = [_behind(log_p[b], 1, unit) for b, unit in enumerate(units)]
    return found


@torch.inference_mode()
def one_by_one(model: PreTrainedModel, tokens: Tokens, *, most: int) -> np.ndarray:
    """Log P of what happened, (rows,): a text per transition, logits of the title's tokens alone."""
    found = np.empty(len(tokens.states))
    text = np.searchsorted(tokens.rows, np.arange(len(found)), side="right") - 1
    for rows in _bucketed(tokens.stops - 1, most):
        ids = _padded([tokens.text(text[row])[: tokens.stops[row] - 1] for row in rows])
        hidden = model.base_model(**ids, use_cache=False)
        spans = [np.arange(tokens.starts[row], tokens.stops[row]) for row in rows]
        which = np.repeat(np.arange(len(rows)), [len(span) for span in spans])
        before = torch.from_numpy(np.concatenate(spans) - 1)
        labels = np.concatenate([tokens.text(text[row])[span] for row, span in zip(rows, spans, strict=True)])
        logits = model.get_output_embeddings()(hidden.last_hidden_state[torch.from_numpy(which), before])
        log_p = torch.log_softmax(logits.float(), dim=-1)  # (tokens of titles, V)
        own = log_p.gather(1, torch.from_numpy(labels.astype(np.int64))[:, None])[:, 0]
        found[rows] = np.bincount(which, own.double().numpy(), len(rows))
    return found


@torch.inference_mode()
def teacher_forced(model: PreTrainedModel, tokens: Tokens, *, most: int) -> np.ndarray:
    """Log P of what happened, (rows,): one padded pass over each career, all of its logits."""
    found = np.empty(len(tokens.states))
    ends = tokens.stops[tokens.rows[1:] - 1] - 1
    for texts in _bucketed(ends, most):
        logits = model(**_padded([tokens.text(text)[: ends[text]] for text in texts]), use_cache=False).logits
        log_p = torch.log_softmax(logits.float(), dim=-1)  # (B, T, V)
        for b, text in enumerate(texts):
            ids = torch.from_numpy(tokens.text(text)[1 : ends[text] + 1].astype(np.int64))
            own = log_p[b, : ends[text]].gather(1, ids[:, None])[:, 0].double().numpy()
            for row in range(tokens.rows[text], tokens.rows[text + 1]):
                found[row] = own[tokens.starts[row] - 1 : tokens.stops[row] - 1].sum()
    return found


def in_slices(score: Score, asked: Requests, share: int) -> tuple[Callable[[], None], np.ndarray]:
    """Score every `share`-th request in order of length, others at each call; gives the call and what it fills."""
    order = np.argsort(asked.lengths, kind="stable")
    found = np.full(len(asked), np.nan)
    calls = 0

    def run() -> None:
        nonlocal calls
        some = order[calls % share :: share]
        found[some] = score(some)
        calls += 1

    return run, found


def fastest(make: Callable[[int], Callable[[], Any]], sizes: Iterable[int]) -> int:
    """The size whose second call takes least time."""
    seconds = {}
    for size in sizes:
        run = make(size)
        run()
        begin = time.perf_counter()
        run()
        seconds[size] = time.perf_counter() - begin
    return min(seconds, key=lambda size: seconds[size])


def _behind(log_p: torch.Tensor, length: int, unit: list[int]) -> float:
    """Sum of a unit's log-probabilities behind `length` tokens; (T, V)."""
    return float(log_p[torch.arange(length - 1, length - 1 + len(unit)), torch.tensor(unit)].double().sum())


def _padded(texts: list[Any]) -> dict[str, torch.Tensor]:
    """Padded on the right."""
    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for b, text in enumerate(texts):
        ids[b, : len(text)] = torch.as_tensor(np.asarray(text, np.int64))
        mask[b, : len(text)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _bucketed(lengths: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Positions in order of length, in batches of at most `most` padded tokens."""
    order = np.argsort(lengths, kind="stable")
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * int(lengths[order[end]]) > most:
            yield order[begin:end]
            begin = end

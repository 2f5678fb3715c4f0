"""P(title | history) for the titles that happened, or for all of them, at every row of a panel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from peft import PeftModel

from laborllm.encoder import PanelEncoder
from laborllm.errors import ModelError, PredictionsError
from laborllm.panel import Panel
from laborllm.prediction_form import check_whole_law_size
from laborllm.prediction_titles import named
from laborllm.predictions import Predictions
from laborllm.resume import Template
from laborllm.score.best import Bounds, Ranked, as_top, bounds, iter_best, sample, topk
from laborllm.score.found import Found
from laborllm.score.frontier import Frontier, Work
from laborllm.score.methods import MethodName, Methods
from laborllm.score.rows import PanelRows
from laborllm.score.search import Explorer
from laborllm.score.search import Law as SearchLaw
from laborllm.score.spelling import Spelling
from laborllm.score.tree import Tree
from laborllm.tokens import Tokens
from laborllm.windows import Windows, scoring_windows

if TYPE_CHECKING:
    import tokenizers
    from transformers import PreTrainedModel

    from laborllm.occupations import Occupations

Law = Literal["raw", "normalized", "masked"]
LAWS: tuple[Law, ...] = ("raw", "normalized", "masked")
MOST_LOGITS = 2**27
"""Logits held at a time (half a GiB in float32), where a method takes those of the model as they are."""
MOST_ROWS = {"cpu": 4_096, "cuda": 32_768}
"""Rows of one forward pass."""


class TitleScorer:
    """Scores the target rows of panels under one causal language model.

    Three laws, never mixed: `raw` is the product of the model's full-vocabulary conditionals over a title's unit
    (title and newline); `normalized` is raw divided by its sum over the J titles; `masked` takes at every token a
    softmax over the tokens that continue some title, which is what masked decoding samples. A tokenizer may spell a
    title in other ways too; raw is the probability of the one spelling that it uses.

    Args:
        model: A causal language model; it is put into evaluation mode.
        tokenizer: Its tokenizer, as `laborllm.tokens.load_tokenizer` gives it.
        occupations: The J states.
        template: A bound template.
        method: `tree` runs a career once and lets the trie of titles branch off it at every year; `cache` hangs titles
            as rows on its keys and values; `naive` gives every title its own text. `auto` takes the first of these
            that agrees with `naive` on a toy career, and warns where it is not the first.
        max_rows: Rows (tokens) of one forward pass, unless a single text is longer.

    Raises:
        TokenizerError: Title probabilities are not defined under this tokenizer.
        ModelError: The method that was asked for does not give the law of this model, or its weights hold NaN or
            infinity, or an adapter is none of weights.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: tokenizers.Tokenizer,
        *,
        occupations: Occupations,
        template: Template,
        method: MethodName | Literal["auto"] = "auto",
        max_rows: int | None = None,
    ) -> None:
        if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
            raise ModelError("an adapter that puts tokens of its own before the prompt cannot be scored; use LoRA")
        if max_rows is not None and max_rows < 1:
            raise ModelError(f"max_rows={max_rows} is no number of rows; give 1 or more, or None")
        whole: Any = model.eval()
        self.model = whole
        self.tokenizer = tokenizer
        self.occupations = occupations
        self.template = template
        self.encode = PanelEncoder(tokenizer, occupations, template)
        self.units = self.encode.units
        spelling = Spelling(self.units)
        self._core: PreTrainedModel = whole.get_base_model() if isinstance(model, PeftModel) else whole
        self._frontier = Frontier(
            self._core, self.units.trie, max_rows=max_rows or MOST_ROWS.get(self._core.device.type, 4_096)
        )
        methods = Methods(
            self._core,
            self.units,
            frontier=self._frontier,
            spelling=spelling,
            max_tokens=max_rows or min(16_384, max(1_024, MOST_LOGITS // self._core.config.vocab_size)),
            window=self.window,
        )
        self.method, self._method = methods.choose(method)
        self._frontier.work = Work()  # what the choice took does not count

    @property
    def window(self) -> int | None:
        """Tokens the model can see, None where its configuration sets no limit.

        Where rotary angles change for all tokens once a text is long ("longrope"), up to where they do not: beyond it
        the law behind a prompt would depend on what stands behind the prompt.
        """
        config = self._core.config
        limit: int | None = getattr(config, "max_position_embeddings", None)
        rotary: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
        return rotary["original_max_position_embeddings"] if rotary.get("rope_type") == "longrope" else limit

    @property
    def work(self) -> Work:
        """Rows that `tree` has forwarded so far; other methods do not count."""
        return self._frontier.work

    def texts(self, panel: Panel) -> tuple[Windows, Tokens]:
        """Encode the careers of a panel, those beyond the model's window as one text per transition."""
        return scoring_windows(
            panel,
            self.encode(panel),
            lambda first, stop: self.encode(panel, (first, stop)),
            limit=self.window,
            reserve=self.units.longest,
        )

    def score(
        self,
        panel: Panel,
        *,
        titles: Literal["observed", "all"] = "observed",
        law: Law = "raw",
        model: str = "language",
        keep_law: bool = False,
        also: Sequence[str | int] = (),
        top: int | None = None,
        progress: Callable[[int], None] | None = None,
        model_hash: str | None = None,
        seed: int | None = None,
    ) -> Predictions:
        """Score every target row.

        Args:
            panel: A checked panel in the scorer's occupations.
            titles: `observed` reads the title that happened from one teacher-forced pass over the career and adds the
                previous title where it differs; `all` computes the whole law, hence `title_mass` and `normalized`
                (under `masked` the whole masked law alone, for a tenth of the rows, and no `title_mass`).
            law: The law of `log_p`; `normalized` needs `titles="all"`.
            model: The name the predictions carry.
            keep_law: Store the whole law, `log_p_all`.
            also: Further titles (or their indices) whose probability is wanted in every row; under `observed` their
                inner nodes are run behind every prompt.
            top: Name this many of the most probable titles of every row; under `observed` they are searched for, as
                `topk` does, which runs each career once more.
            progress: Called with the number of rows done since the last call.
            model_hash: Carried in the predictions' metadata.
            seed: Carried in the predictions' metadata.

        Raises:
            PredictionsError: `normalized` or the whole law was asked for without `titles="all"`, or the whole law is
                too large to be kept.
            OccupationsError: `also` names a title that is not on the list.
            ModelError: The model gives no finite numbers; the message names the layer.
        """
        _refuse_unknown("law", law, LAWS)
        _refuse_unknown("titles", titles, ("observed", "all"))
        if top is not None and top < 1:
            raise PredictionsError(f"top={top} is no number of titles; give 1 or more, or None")
        if titles == "observed" and (law == "normalized" or keep_law):
            raise PredictionsError(
                "the normalized law, and the whole law, need every title; pass --titles all (titles='all')"
            )
        count = int(panel.targets.sum())
        if keep_law:
            check_whole_law_size(count, len(self.occupations))
        others = named(also, self.occupations)
        rows = PanelRows(panel, len(self.occupations) if keep_law else 0, others, min(top or 0, len(self.occupations)))
        windows, tokens = self.texts(panel)
        here, at = _target_rows(panel, windows, tokens)
        batches: Iterable[Found]
        if not count:
            batches = ()
        elif titles == "all":
            batches = self._method.whole(tokens, here, law="masked" if law == "masked" else "raw")
        else:
            batches = self._method.observed(tokens, here, [rows.asked(row) for row in at.tolist()])
        for found in batches:
            rows.fill(at[np.searchsorted(here, found.rows)], found, law=law, titles=titles)
            if progress:
                progress(len(found.rows))
        if top and count and titles == "observed":
            best = self.topk(panel, top, law="masked" if law == "masked" else "raw")
            rows.top.put(np.flatnonzero(panel.targets), as_top(best))
        log_p, log_p_wanted = rows.under(law)
        transitions = panel.transitions()
        at = transitions.row
        return Predictions.from_transitions(
            panel,
            transitions,
            model=model,
            law=law,
            titles=titles,
            log_p=log_p[at],
            log_p_raw=rows.raw[at],
            log_p_previous=log_p_wanted[at, 0],
            title_mass=np.exp(rows.log_mass[at]) if titles == "all" and law != "masked" else None,
            log_p_all=rows.law[at] if keep_law else None,
            n_rows_dropped=_dropped(panel, windows)[at],
            log_p_of={title: log_p_wanted[at, 1 + k] for k, title in enumerate(others)},
            top=rows.top.take(at) if top else None,
            covariates=self.template.covariates,
            template_hash=self.template.hash,
            model_hash=model_hash,
            seed=seed,
            dtype=str(self._core.dtype).removeprefix("torch."),
        )

    def log_p_observed(
        self, panel: Panel, texts: tuple[Windows, Tokens], *, step: Callable[[int], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log P of the title that happened at every target row, from one teacher-forced pass over each text.

        Args:
            panel: The panel that `texts` were made of.
            texts: As `texts(panel)` gives them.
            step: Called with the number of target rows done since the last call.

        Returns:
            The `raw` and the `masked` log-probabilities, float64 (rows,) each, NaN at rows that are no targets.
        """
        here, at = _target_rows(panel, *texts)
        raw, masked = np.full((2, panel.num_rows), np.nan)
        for found in self._method.observed(texts[1], here):
            rows = at[np.searchsorted(here, found.rows)]
            raw[rows], masked[rows] = found.raw, found.masked
            if step:
                step(len(rows))
        return raw, masked

    def log_p_of(self, panel: Panel, titles: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Log P of some titles at every target row.

        Args:
            panel: A checked panel in the scorer's occupations.
            titles: For each target row the indices of different titles.

        Returns:
            For each target row the `raw` and the `masked` log-probabilities of its titles, float64.
        """
        windows, tokens = self.texts(panel)
        here, _ = _target_rows(panel, windows, tokens)
        raw: list[np.ndarray] = [np.empty(0)] * len(here)
        masked = list(raw)
        for found in self._method.observed(tokens, here, titles):
            at = np.searchsorted(here, found.rows).tolist()
            cuts = np.cumsum([len(titles[row]) for row in at])[:-1]
            for law, values in ((raw, found.raw_titles), (masked, found.masked_titles)):
                for row, part in zip(at, np.split(_known(values), cuts), strict=True):
                    law[row] = part
        return raw, masked

    def topk(
        self, panel: Panel, k: int, *, law: SearchLaw = "raw", progress: Callable[[int], None] | None = None
    ) -> list[list[Ranked]]:
        """The k best titles of every target row, without the whole law.

        Args:
            panel: A checked panel in the scorer's occupations.
            k: How many.
            law: Whose `log_p` ranks them; `raw` ranks as `normalized` does.
            progress: Called with the number of rows done since the last call.

        Returns:
            For each target row its best titles, most probable first, of equals the first in the list first.
        """
        if k < 1:
            raise PredictionsError(f"k={k} is no number of titles; give 1 or more")
        found: list[list[Ranked]] = []
        for explorer in self._explorers(panel, law):
            found += topk(explorer, k)
            if progress:
                progress(len(explorer.known))
        return found

    def iter_best(self, panel: Panel, *, law: SearchLaw = "raw") -> Iterator[Ranked]:
        """The titles of a panel's only target row, most probable first, computed only as far as they are taken.

        Raises:
            PredictionsError: The panel has another number of target rows.
        """
        if panel.targets.sum() != 1:
            raise PredictionsError(f"iter_best takes one target row, this panel has {panel.targets.sum()}; use topk")
        for explorer in self._explorers(panel, law):
            yield from iter_best(explorer)

    def bounds(self, panel: Panel, *, eps: float) -> list[Bounds]:
        """Brackets of the normalized law of every target row.

        Args:
            panel: A checked panel in the scorer's occupations.
            eps: Expansion ends when what was not looked at holds at most this share of the titles' mass.
        """
        if not 0 < eps < 1:
            raise PredictionsError(f"eps={eps} is no share of probability; give a number between 0 and 1")
        return [one for explorer in self._explorers(panel, "raw") for one in bounds(explorer, eps)]

    def sample(
        self, panel: Panel, count: int, *, law: Literal["normalized", "masked"] = "normalized", seed: int = 0
    ) -> np.ndarray:
        """Exact draws from the law of every target row, without the whole law.

        Args:
            panel: A checked panel in the scorer's occupations.
            count: Draws per row.
            law: `normalized`, or `masked`, which is what masked decoding samples.
            seed: A row's draws depend on it, on the worker and on the year, and not on what is drawn beside.

        Returns:
            Indices of titles, int64 (N, count), in the order of the target rows.
        """
        _refuse_unknown("law", law, ("normalized", "masked"))
        if count < 0 or seed < 0:
            raise PredictionsError(f"count={count} and seed={seed} are not both 0 or more")
        rows = np.flatnonzero(panel.targets)
        years, workers, datasets = panel.years(), panel.column("worker_id"), panel.column("dataset")
        found = np.empty((len(rows), count), np.int64)
        done = 0
        for explorer in self._explorers(panel, "masked" if law == "masked" else "raw"):
            part = rows[done : done + len(explorer.known)].tolist()
            keys = [f"{datasets[row]}:{workers[row]}:{years[row]}".encode() for row in part]
            randoms = [np.random.default_rng([seed, *blake2b(key, digest_size=16).digest()]) for key in keys]
            found[done : done + len(part)] = sample(explorer, count, randoms)
            done += len(part)
        return found

    def _explorers(self, panel: Panel, law: SearchLaw) -> Iterator[Explorer]:
        """Explorers of all target rows, in their order, several prompts each."""
        _refuse_unknown("law", law, ("raw", "masked"))
        windows, tokens = self.texts(panel)
        rows, _ = _target_rows(panel, windows, tokens)
        if isinstance(self._method, Tree):
            for forest, texts, here in self._method.planted(tokens, rows, keep=True, happened=False):
                yield Explorer.behind(forest, self._method.prompts(tokens, texts, rows[here]), law=law)
        else:
            for found in self._method.whole(tokens, rows, law="raw"):
                whole: Any = found.masked_titles if law == "masked" else found.raw_titles
                yield Explorer.enumerated(self._frontier.descent, whole, law=law)


def _target_rows(panel: Panel, windows: Windows, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the token table that answer for the panel's target rows, ascending, and those panel rows."""
    counts = np.diff(tokens.rows)
    shown = np.arange(tokens.rows[-1]) + np.repeat(windows.first - tokens.rows[:-1], counts)
    here = np.flatnonzero(panel.targets[shown] & (shown >= np.repeat(windows.fresh, counts)))
    return here, shown[here]


def _refuse_unknown(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise PredictionsError(f"{name}={value!r} is none of {', '.join(known)}")


def _known(values: np.ndarray | None) -> np.ndarray:
    if values is None:
        raise ModelError("the method gives no titles; this is a defect, please report it")
    return values


def _dropped(panel: Panel, windows: Windows) -> np.ndarray:
    """Rows of history that the text of each panel row does not show, int32 (rows,)."""
    dropped = np.zeros(panel.num_rows, np.int32)
    for text in range(len(windows)):
        dropped[windows.fresh[text] : windows.stop[text]] = windows.dropped[text]
    return dropped

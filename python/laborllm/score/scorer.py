"""P(title | history) for the titles that happened, or for all of them, at every row of a panel."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from laborllm.encoder import PanelEncoder
from laborllm.errors import PredictionsError
from laborllm.panel import Panel
from laborllm.predictions import Predictions
from laborllm.resume import Template
from laborllm.score.passes import Laws, Passes
from laborllm.tokens import Tokens
from laborllm.windows import Windows, scoring_windows

if TYPE_CHECKING:
    import tokenizers
    from transformers import PreTrainedModel

    from laborllm.occupations import Occupations

Law = Literal["raw", "normalized", "masked"]
LAWS: tuple[Law, ...] = ("raw", "normalized", "masked")
Method = Literal["auto", "cache", "naive"]
MOST_LOGITS = 2**27
"""Logits held at a time (half a GiB in float32)."""


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
        method: `cache` computes a career once and hangs the titles of each year on its keys and values; `naive` gives
            every title its own text; `auto` takes the cache where a check on a toy career agrees with `naive`.
        max_tokens: Padded tokens in one forward pass; by default so that half a GiB of logits is held.

    Raises:
        TokenizerError: Title probabilities are not defined under this tokenizer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: tokenizers.Tokenizer,
        *,
        occupations: Occupations,
        template: Template,
        method: Method = "auto",
        max_tokens: int | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.occupations = occupations
        self.template = template
        self.encode = PanelEncoder(tokenizer, occupations, template)
        self.units = self.encode.units
        most = min(16_384, max(1_024, MOST_LOGITS // model.config.vocab_size))
        self._passes = Passes(self.model, self.units, max_tokens=max_tokens or most)
        self.method: Method = method if method != "auto" else self._choose_method()

    @property
    def window(self) -> int | None:
        """Tokens the model can see, None where its configuration sets no limit."""
        return getattr(self.model.config, "max_position_embeddings", None)

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
        progress: Callable[[int], None] | None = None,
        model_hash: str | None = None,
        seed: int | None = None,
    ) -> Predictions:
        """Score every target row.

        Args:
            panel: A checked panel in the scorer's occupations.
            titles: `observed` reads the title that happened from one teacher-forced pass over the career and adds the
                previous title where it differs; `all` computes the whole law, hence `title_mass` and `normalized`.
            law: The law of `log_p`; `normalized` needs `titles="all"`.
            model: The name the predictions carry.
            keep_law: Store the whole law, `log_p_all`.
            progress: Called with the number of rows done since the last call.
            model_hash: Carried in the predictions' metadata.
            seed: Carried in the predictions' metadata.

        Raises:
            PredictionsError: `normalized` or the whole law was asked for without `titles="all"`.
        """
        if titles == "observed" and (law == "normalized" or keep_law):
            raise PredictionsError(
                f"the {law} law over all titles needs the whole law; pass --titles all (titles='all')"
            )
        windows, tokens = self.texts(panel)
        step = progress or (lambda _: None)
        rows = _Rows(panel, windows)
        if titles == "all":
            self._whole(panel, windows, tokens, rows, keep=law if keep_law else None, step=step)
        else:
            self._observed(panel, windows, tokens, rows, step=step)
        log_p, log_p_previous = rows.under(law)
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
            log_p_previous=log_p_previous[at],
            title_mass=rows.mass[at] if titles == "all" else None,
            log_p_all=np.stack([rows.law[row] for row in at.tolist()]) if keep_law else None,
            n_rows_dropped=rows.dropped[at],
            covariates=self.template.covariates,
            template_hash=self.template.hash,
            model_hash=model_hash,
            seed=seed,
        )

    def log_p_observed(
        self, panel: Panel, texts: tuple[Windows, Tokens], *, step: Callable[[int], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log P of the title that happened at every panel row, from one teacher-forced pass over each text.

        Args:
            panel: The panel that `texts` were made of.
            texts: As `texts(panel)` gives them.
            step: Called with the number of target rows done since the last call.

        Returns:
            The `raw` and the `masked` log-probabilities, float64 (rows,) each.
        """
        windows, tokens = texts
        raw, masked = np.full((2, panel.num_rows), np.nan)
        within = np.arange(tokens.rows[-1]) - np.repeat(tokens.rows[:-1], np.diff(tokens.rows))
        shown = np.repeat(windows.first, np.diff(tokens.rows)) + within
        fresh = shown >= np.repeat(windows.fresh, np.diff(tokens.rows))
        for where, (raw_here, masked_here) in self._passes.observed(tokens):
            keep = fresh[where]
            at = shown[where[keep]]
            raw[at], masked[at] = raw_here[keep], masked_here[keep]
            if step:
                step(int(panel.targets[at].sum()))
        return raw, masked

    def log_p_behind(self, prompts: Sequence[np.ndarray], titles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log P of one title behind each prompt; what stands there twice is computed once.

        Args:
            prompts: Token ids of each prompt.
            titles: Indices of the titles, (prompts,).

        Returns:
            The `raw` and the `masked` log-probabilities, float64 (prompts,) each.
        """
        pairs = [(prompt.tobytes(), title) for prompt, title in zip(prompts, titles.tolist(), strict=True)]
        place = {pair: at for at, pair in enumerate(dict.fromkeys(pairs))}
        which = np.array([place[pair] for pair in pairs], np.int64)
        _, once = np.unique(which, return_index=True)
        raw, masked = np.empty((2, len(once)))
        texts = Tokens.of_units([prompts[at] for at in once], titles[once], self.units)
        for where, (raw_here, masked_here) in self._passes.observed(texts):
            raw[where], masked[where] = raw_here, masked_here
        return raw[which], masked[which]

    def _observed(
        self, panel: Panel, windows: Windows, tokens: Tokens, rows: _Rows, *, step: Callable[[int], None]
    ) -> None:
        rows.raw, rows.masked = self.log_p_observed(panel, (windows, tokens), step=step)
        stay = rows.previous == panel.states()
        rows.raw_previous[stay], rows.masked_previous[stay] = rows.raw[stay], rows.masked[stay]
        needed = panel.targets & ~stay & (rows.previous >= 0)
        for row, raw, masked in self._behind(windows, tokens, needed, lambda row: rows.previous[row : row + 1]):
            rows.raw_previous[row], rows.masked_previous[row] = raw[0], masked[0]

    def _whole(
        self,
        panel: Panel,
        windows: Windows,
        tokens: Tokens,
        rows: _Rows,
        *,
        keep: Law | None,
        step: Callable[[int], None],
    ) -> None:
        every = np.arange(len(self.occupations))
        states = panel.states()
        for row, raw, masked in self._behind(windows, tokens, panel.targets, lambda _: every):
            rows.raw[row], rows.masked[row] = raw[states[row]], masked[states[row]]
            rows.mass[row] = np.exp(raw).sum()
            if keep:
                law = {"raw": raw, "masked": masked, "normalized": raw - np.log(rows.mass[row])}[keep]
                rows.law[row] = law.astype(np.float32)
            if rows.previous[row] >= 0:
                rows.raw_previous[row], rows.masked_previous[row] = raw[rows.previous[row]], masked[rows.previous[row]]
            step(1)

    def _behind(
        self, windows: Windows, tokens: Tokens, needed: np.ndarray, titles_of: Callable[[int], np.ndarray]
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Score titles behind the prompts of the needed panel rows, text by text.

        Yields:
            The panel row, and the `raw` and `masked` log-probabilities of its titles, float64.
        """
        for text in range(len(windows)):
            shown = np.arange(windows.first[text], windows.stop[text])
            wanted = shown[needed[shown] & (shown >= windows.fresh[text])]
            if not len(wanted):
                continue
            ids, starts = tokens.text(text), tokens.starts[tokens.rows[text] + wanted - windows.first[text]]
            laws = self._behind_prompts([ids[:start] for start in starts], [titles_of(int(row)) for row in wanted])
            for row, (raw, masked) in zip(wanted.tolist(), laws, strict=True):
                yield row, raw, masked

    def _behind_prompts(self, prompts: list[np.ndarray], titles: list[np.ndarray]) -> Iterator[Laws]:
        behind = self._passes.behind_prefixes if self.method == "cache" else self._passes.behind_texts
        return behind(prompts, titles)

    def _choose_method(self) -> Method:
        """Take the cache where it agrees with one text per title on a toy career, and say so where it does not."""
        text = np.array([token for unit in self.units.ids[:8] for token in unit], np.int64)[: (self.window or 64) // 2]
        prompts, titles = [text[: len(text) // 2 + 1], text], [np.arange(min(4, len(self.units.ids)))] * 2
        try:
            cached = list(self._passes.behind_prefixes(prompts, titles))
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            reason = f"its cache cannot be cut ({type(error).__name__})"
        else:
            naive = self._passes.behind_texts(prompts, titles)
            gap = max(float(np.abs(a - b).max()) for (a, _), (b, _) in zip(cached, naive, strict=True))
            tolerance = 1e-3 if self.model.dtype in {torch.float32, torch.float64} else 0.5
            if gap <= tolerance:
                return "cache"
            reason = f"its cache gives other probabilities (by {gap:.1e} nats)"
        warnings.warn(f"scoring one text per title, which is slow: {reason}", stacklevel=3)
        return "naive"


class _Rows:
    """What is known of each panel row, filled pass by pass; everything in float64, NaN where not computed."""

    def __init__(self, panel: Panel, windows: Windows) -> None:
        self.raw, self.masked, self.raw_previous, self.masked_previous, self.mass = np.full((5, panel.num_rows), np.nan)
        self.law: dict[int, np.ndarray] = {}
        self.previous = np.concatenate([[-1], panel.states()[:-1]]).astype(np.int64)
        self.previous[panel.starts[:-1]] = -1
        self.dropped = np.zeros(panel.num_rows, np.int32)
        for text in range(len(windows)):
            self.dropped[windows.fresh[text] : windows.stop[text]] = windows.dropped[text]

    def under(self, law: Law) -> tuple[np.ndarray, np.ndarray]:
        """Log P of what happened and of the previous title, (rows,) each."""
        if law == "masked":
            return self.masked, self.masked_previous
        shift = np.log(self.mass) if law == "normalized" else 0.0
        return self.raw - shift, self.raw_previous - shift

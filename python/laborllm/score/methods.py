"""Which way of scoring gives the law of a model, and which of those that do is the fastest."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from laborllm.errors import ModelError
from laborllm.score import check
from laborllm.score.found import Method
from laborllm.score.frontier import Frontier
from laborllm.score.passes import Passes
from laborllm.score.spelling import Spelling
from laborllm.score.tree import Tree
from laborllm.tokens import TitleUnits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MethodName = Literal["tree", "cache", "naive"]


class Methods:
    """The ways to score titles under one model.

    Args:
        model: A causal language model in evaluation mode.
        units: The titles.
        frontier: Of the model, for `tree`.
        spelling: The same titles.
        max_tokens: Padded tokens in one forward pass of the other methods.
        window: Tokens the model can see.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        units: TitleUnits,
        *,
        frontier: Frontier,
        spelling: Spelling,
        max_tokens: int,
        window: int | None,
    ) -> None:
        self._model, self._units, self._frontier, self._spelling = model, units, frontier, spelling
        self._max_tokens, self._window = max_tokens, window

    def choose(self, name: MethodName | Literal["auto"]) -> tuple[MethodName, Method]:
        """Take the first method that agrees with `naive` on a toy career, and say so where it is not the first.

        Raises:
            ModelError: The method that was asked for does not agree.
        """
        reasons: list[str] = []
        candidates: list[MethodName] = ["tree", "cache"] if name == "auto" else [name]
        for candidate in candidates:
            if candidate == "naive":
                return candidate, self._build(candidate)
            reason = self._disagreement(candidate)
            if reason and candidate == "tree" and self._frontier.backend == "flex":
                self._frontier.backend = "sdpa"
                if self._disagreement(candidate) is None:
                    warnings.warn(f"attending without a compiled kernel, which is slower: {reason}", stacklevel=4)
                    reason = None
            if reason is None:
                if reasons:
                    warnings.warn(f"scoring by a prefix cache, which is slower: {reasons[0]}", stacklevel=4)
                return candidate, self._build(candidate)
            reasons.append(reason)
        if name != "auto":
            raise ModelError(f"method {name!r} does not give the law of this model: {reasons[0]}; use method='auto'")
        warnings.warn(f"scoring one text per title, which is slow: {'; '.join(reasons)}", stacklevel=4)
        return "naive", self._build("naive")

    def _build(self, name: MethodName) -> Method:
        if name == "tree":
            return Tree(self._frontier, self._spelling)
        trie, most = self._units.trie, self._max_tokens
        return Passes(self._model, trie, self._spelling, cached=name == "cache", max_tokens=most)

    def _disagreement(self, name: MethodName) -> str | None:
        """Why a method does not give the law of the model."""
        if name == "tree" and (reason := check.branching(self._model)):
            return reason
        fast, naive = self._build(name), self._build("naive")
        with check.in_float32(self._model) as tolerance:
            try:
                gap = check.gap(self._model, fast, naive, self._units, window=self._window)
            except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
                return f"{name} fails with {type(error).__name__}: {' '.join(str(error).split())[:120]}"
        return None if gap <= tolerance else f"{name} gives other probabilities (by {gap:.1e} nats)"

"""Multinomial logits: regressions that a few columns and a J-valued outcome ask for."""

from __future__ import annotations

from laborllm.models.logit.penalised import MultinomialLogit

__all__ = ["MultinomialLogit"]

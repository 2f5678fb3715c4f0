"""Multinomial logits: regressions of an outcome with J values on columns of a table."""

from __future__ import annotations

from laborllm.errors import MissingDependencyError

try:
    from laborllm.models.logit.estimator import Logit
    from laborllm.models.logit.penalised import MultinomialLogit
except ImportError as error:
    raise MissingDependencyError('logits need the models extra: pip install "laborllm[models]"') from error

__all__ = ["Logit", "MultinomialLogit"]

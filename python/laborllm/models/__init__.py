"""Estimators of the next occupation, one file each: `fit`, `predict`, `save`, `load`, and `Predictions` in the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from laborllm.errors import ModelError

if TYPE_CHECKING:
    from laborllm.models.closed import ClosedForm
    from laborllm.models.count_model import CountModel
    from laborllm.models.language import LanguageModel
    from laborllm.models.logit import Logit


def estimator(kind: str) -> CountModel | Logit:
    """An estimator of the next occupation that is fitted to a panel alone, by its kind.

    Raises:
        ModelError: There is none of that kind.
    """
    found = _closed_form(kind)
    if found is None:
        from laborllm.models.counts import MODELS  # noqa: PLC0415

        raise ModelError(f"there is no estimator {kind!r}; choose from {', '.join([*MODELS, 'logit'])}")
    return found()


def load_model(directory: str | Path) -> ClosedForm | LanguageModel:
    """Load whichever model a directory holds.

    Raises:
        ModelError: It holds no `laborllm.json`, or one that cannot be read.
    """
    source = Path(directory) / "laborllm.json"
    try:
        kind = json.loads(source.read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{directory} is no model directory ({source.name} cannot be read); fit or train one"
        ) from error
    if kind == "language":
        from laborllm.models.language import LanguageModel  # noqa: PLC0415  loads torch

        return LanguageModel.load(directory)
    found = _closed_form(kind)
    if found is None:
        raise ModelError(f"{directory} holds a model of kind {kind!r}, which this package does not know; update it")
    return found.load(directory)


def _closed_form(kind: str) -> type[CountModel | Logit] | None:
    """The estimator of that kind, None where there is none; scipy and scikit-learn are loaded for the logit alone."""
    if kind == "logit":
        from laborllm.models.logit import Logit  # noqa: PLC0415

        return Logit
    from laborllm.models.counts import MODELS  # noqa: PLC0415

    return MODELS.get(kind)

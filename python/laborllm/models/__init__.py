"""Estimators of the next occupation, one file each: `fit`, `predict`, `save`, `load`, and `Predictions` in the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from laborllm.errors import ModelError

if TYPE_CHECKING:
    from laborllm.models.closed import ClosedForm
    from laborllm.models.language import LanguageModel


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
    from laborllm.models.counts import CountModel  # noqa: PLC0415

    return CountModel.load(directory)

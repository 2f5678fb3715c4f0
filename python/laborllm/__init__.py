"""Careers as text: fine-tuned language models of the next occupation, judged beside the models economists trust.

Public names are loaded on first use: importing the package loads neither torch nor transformers nor peft.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laborllm.models.counts import (
        Covariates,
        Laplace,
        Marginal,
        Markov,
        Markov2,
        OwnHistory,
        Tenure,
        TwoStage,
        Uniform,
    )
    from laborllm.models.language import LanguageModel
    from laborllm.models.logit import Logit
    from laborllm.occupations import Occupations
    from laborllm.packing import pack, read_packed, write_packed
    from laborllm.panel import Panel
    from laborllm.predictions import Predictions
    from laborllm.report import write_report
    from laborllm.resume import Template, render
    from laborllm.score import TitleScorer
    from laborllm.stream import PanelStream
    from laborllm.synth import World
    from laborllm.trie import TitleTrie

_HOME = {
    "Covariates": "models.counts",
    "Laplace": "models.counts",
    "LanguageModel": "models.language",
    "Logit": "models.logit",
    "Marginal": "models.counts",
    "Markov": "models.counts",
    "Markov2": "models.counts",
    "Occupations": "occupations",
    "OwnHistory": "models.counts",
    "Panel": "panel",
    "PanelStream": "stream",
    "Predictions": "predictions",
    "Template": "resume",
    "Tenure": "models.counts",
    "TitleScorer": "score",
    "TitleTrie": "trie",
    "TwoStage": "models.counts",
    "Uniform": "models.counts",
    "World": "synth",
    "pack": "packing",
    "read_packed": "packing",
    "render": "resume",
    "write_packed": "packing",
    "write_report": "report",
}

__all__ = [
    "Covariates",
    "LanguageModel",
    "Laplace",
    "Logit",
    "Marginal",
    "Markov",
    "Markov2",
    "Occupations",
    "OwnHistory",
    "Panel",
    "PanelStream",
    "Predictions",
    "Template",
    "Tenure",
    "TitleScorer",
    "TitleTrie",
    "TwoStage",
    "Uniform",
    "World",
    "__version__",
    "pack",
    "read_packed",
    "render",
    "write_packed",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415  only where it is asked for

        return version("laborllm")
    if name not in _HOME:
        raise AttributeError(f"module 'laborllm' has no attribute {name!r}")
    return getattr(import_module(f"laborllm.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__

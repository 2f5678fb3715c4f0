"""Logit models of discrete choices.

For prediction, from panels with hundreds of states: `Logit`, and `MultinomialLogit` on arrays after scikit-learn, with
a penalty and without standard errors.

For inference, with standard errors: `multinomial_logit`, `conditional_logit` and `nested_logit`, by Newton's method in
float64, for up to 3,000 parameters. `choice_design` and `long_design` lay out what the latter two take.
"""

from __future__ import annotations

from importlib import import_module

from laborllm.errors import MissingDependencyError

try:
    for package in ("scipy", "sklearn", "safetensors"):
        import_module(package)
except ImportError as error:
    raise MissingDependencyError(
        f'logit models need {package}, which cannot be imported ({error}); pip install "laborllm[models]"'
    ) from error

from laborllm.models.logit.choice import conditional_logit, multinomial_logit
from laborllm.models.logit.design import ChoiceDesign, choice_design, long_design
from laborllm.models.logit.estimator import Logit
from laborllm.models.logit.nested import nested_logit, stay_move_nests
from laborllm.models.logit.penalised import MultinomialLogit
from laborllm.models.logit.results import ChoiceResults, ConditionalResults, MultinomialResults, NestedResults

__all__ = [
    "ChoiceDesign",
    "ChoiceResults",
    "ConditionalResults",
    "Logit",
    "MultinomialLogit",
    "MultinomialResults",
    "NestedResults",
    "choice_design",
    "conditional_logit",
    "long_design",
    "multinomial_logit",
    "nested_logit",
    "stay_move_nests",
]

from __future__ import annotations
from sklearn.utils.estimator_checks import parametrize_with_checks
from laborllm.models.logit import MultinomialLogit
@parametrize_with_checks([MultinomialLogit(tol=1e-14)])
def test_the_array_level_keeps_scikit_learns_contract(estimator, check):
    check(estimator)

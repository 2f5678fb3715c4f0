"""The prediction-size logit: time to one objective beside scikit-learn's, perplexity beside the counts.

Both solvers minimise the same penalised likelihood in float64 from the same sparse X. The minimum f* comes of a run to
a bound of 1e-12; a run of each, whose objective is noted after every iteration, tells after how many it is first within
1e-8 f* of f*; then each is timed for exactly so many iterations, which L-BFGS repeats to the bit, and its coefficients
are put into one and the same function to see that they are as near as that. Data: the real panels of tests/panels.py.

    python benches/bench_logit.py [--share 1.0] [--rounds 3] [--l2 0] [--output benches/results/logit.json]

With --l2 0 the penalty is the one that `Logit` chooses on the validation rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.optimize
import sklearn
from measured import circumstances
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from laborllm.models.counts import MODELS
from laborllm.models.histories import Histories
from laborllm.models.logit import Logit, MultinomialLogit
from laborllm.models.logit.features import Features
from laborllm.models.logit.objective import Objective
from laborllm.occupations import Occupations
from laborllm.panel import Panel

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULT = Path(__file__).parent / "results" / "logit.json"
GAP = 1e-8
ITERATIONS = 20_000


def read(name: str, share: float) -> Panel:
    """A share of the workers of a real panel."""
    folder = DATA / name
    occupations = Occupations.read(folder / "occupations.csv")
    panel = Panel.read(folder / "careers.parquet", occupations=occupations, dataset=name.upper())
    return panel.slice_workers(0, round(share * panel.num_workers))


def perplexities(name: str, share: float) -> tuple[dict[str, Any], float]:
    """Perplexity per test transition of the logit and of all counts, and the penalty that the logit chose."""
    panel = read(name, share)
    train, val, test = (panel.part(split) for split in ("train", "val", "test"))
    logit = Logit()
    found: dict[str, Any] = {}
    for model in (logit, *(kind() for kind in MODELS.values())):
        predictions = model.fit(train, val).predict(test)
        rows = {"all": predictions.first | True, "history": ~predictions.first, "first": predictions.first}
        found[model.kind] = {part: float(np.exp(-predictions.log_p[of].mean())) for part, of in rows.items()}
    path = {f"{l2:.3g}": value for l2, value in logit.path.items()}
    return found | {"l2": logit.l2, "val_perplexity_by_l2": path}, float(logit.l2 or np.nan)


def objective_after_each_iteration(module: str, fit: Callable[[], Any]) -> list[float]:
    """Objectives, up to a factor, that L-BFGS reached in a fit; `module` is where the fit finds scipy's `minimize`."""
    values: list[float] = []

    def noting(fun: Any, x0: Any, **options: Any) -> Any:
        inner = options.pop("callback", None)

        def callback(intermediate_result: Any) -> None:
            values.append(float(intermediate_result.fun))
            if inner is not None:
                inner(intermediate_result.x)

        return minimize(fun, x0, callback=callback, **options)

    minimize = scipy.optimize.minimize
    with mock.patch(module, noting):
        fit()
    return values


def race(name: str, share: float, *, l2: float, rounds: int) -> dict[str, Any]:
    """Wall time of both solvers until within `GAP` of the minimum, interleaved."""
    histories = Histories(read(name, share).part("train"))
    x = Features.of(histories, np.arange(len(histories))).matrix(histories)
    y = np.unique(histories.occupation, return_inverse=True)[1]
    objective = Objective(x, y, np.ones(len(y)), int(y.max()) + 1, l2, intercept=True)

    def ours(**options: Any) -> MultinomialLogit:
        return MultinomialLogit(l2=l2, **options).fit(x, y)

    def peer(**options: Any) -> LogisticRegression:
        return LogisticRegression(C=1 / l2, solver="lbfgs", **options).fit(x, y)

    best = ours(tol=1e-12, max_iter=ITERATIONS)
    minimum = best.objective_
    fits = {"laborllm": ours, "scikit-learn": peer}
    places = {
        "laborllm": "laborllm.models.logit.penalised.minimize",
        "scikit-learn": "sklearn.linear_model._logistic.optimize.minimize",
    }
    options: dict[str, dict[str, Any]] = {}
    for solver, fit in fits.items():
        values = objective_after_each_iteration(places[solver], lambda fit=fit: fit(tol=1e-10, max_iter=ITERATIONS))
        near = np.flatnonzero(np.array(values) * len(y) <= minimum * (1 + GAP))
        options[solver] = {"tol": 1e-10, "max_iter": int(near[0]) + 1}
    timed = {solver: (lambda solver=solver: fits[solver](**options[solver])) for solver in fits}
    timed["laborllm, certified"] = lambda: ours(tol=GAP, max_iter=ITERATIONS)
    seconds: dict[str, list[float]] = {solver: [] for solver in timed}
    solved: dict[str, Any] = {}
    for _ in range(rounds):  # minutes each: nothing is run to warm up
        for solver, run in timed.items():
            begin = time.perf_counter()
            solved[solver] = run()
            seconds[solver].append(time.perf_counter() - begin)
    gaps = {solver: objective.at(m.coef_.T, m.intercept_)[0] / minimum - 1 for solver, m in solved.items()}
    assert max(gaps.values()) <= GAP * 1.001, f"not at one objective: {gaps}"
    assert best.gap_ <= GAP / 100, f"the minimum is known to {best.gap_:.1e} only"
    ratios = {s: [b / a for a, b in zip(seconds[s], seconds["scikit-learn"], strict=True)] for s in seconds}
    return {
        "panel": name,
        "share_of_workers": share,
        "rows": len(y),
        "columns": x.shape[1],
        "classes": objective.num_classes,
        "nonzero_per_row": x.nnz / len(y),
        "l2": l2,
        "minimum": minimum,
        "minimum_known_to": best.gap_,
        "iterations": {solver: int(np.max(m.n_iter_)) for solver, m in solved.items()},
        "gap": gaps,
        "seconds": seconds,
        "times_faster": {s: {"median": statistics.median(r), "min": min(r), "max": max(r)} for s, r in ratios.items()},
    }


def main() -> None:
    """Race, predict, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="share of each panel's workers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--l2", type=float, default=0.0, help="penalty of the race; 0: as chosen on NLSY97's val")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    found = {name: perplexities(name, arguments.share) for name in ("nlsy97", "nlsy79")}
    raced = race("nlsy97", arguments.share, l2=arguments.l2 or found["nlsy97"][1], rounds=arguments.rounds)
    facts = circumstances() | {
        "scikit_learn": sklearn.__version__,
        "scipy": scipy.__version__,
        "race": raced,
        "test_perplexity": {name: numbers for name, (numbers, _) in found.items()},
    }
    arguments.output.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{raced['rows']} rows, {raced['columns']} columns, {raced['classes']} classes, l2 {raced['l2']:.3g}")
    for solver, ratio in raced["times_faster"].items():
        print(
            f"{solver:22s} {statistics.median(raced['seconds'][solver]):8.1f} s  "
            f"{raced['iterations'][solver]:5d} iterations  {ratio['median']:5.2f} x scikit-learn "
            f"({ratio['min']:.2f}..{ratio['max']:.2f})  gap {raced['gap'][solver]:.1e}"
        )
    for name, numbers in facts["test_perplexity"].items():
        for model, parts in numbers.items():
            if isinstance(parts, dict) and "all" in parts:
                cells = "  ".join(f"{part} {value:7.3f}" for part, value in parts.items())
                print(f"{name}  {model:12s} {cells}")


if __name__ == "__main__":
    main()

"""Choices to test with: the published data sets, drawn worlds, and slow, obvious log-likelihoods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy import optimize

from laborllm.models.logit import choice_design, long_design

GOLDEN = Path(__file__).parent / "golden" / "choice"
COOLING = ["gcc", "ecc", "erc", "hpc"]
HEATING = ["ec", "ecc", "er", "erc", "gc", "gcc", "hpc"]
FISHING = ["beach", "pier", "boat", "charter"]


@dataclass(frozen=True)
class Choices:
    """N choices among J alternatives."""

    chosen: np.ndarray
    x: np.ndarray  # (N, J, K)
    names: tuple[str, ...]
    alternatives: tuple[str, ...]
    available: np.ndarray

    @property
    def options(self):
        return {"names": self.names, "alternatives": self.alternatives}


def read(name):
    return pq.read_table(GOLDEN / f"{name}.parquet")


def mode_canada():
    design = long_design(
        read("mode_canada"),
        case="case",
        alternative="alt",
        chosen="choice",
        generic=["cost", "freq", "ovt"],
        individual=["income"],
        specific=["ivt"],
    )
    return Choices(design.chosen, design.X, design.names, design.alternatives, design.available)


def fishing(*, constants):
    table = read("fishing")
    price, catch = (np.column_stack([table[part + mode].to_numpy() for mode in FISHING]) for part in "pc")
    design = choice_design(FISHING, generic={"price": price, "catch": catch}, constants=constants)
    chosen = np.array([FISHING.index(mode) for mode in table["mode"].to_pylist()])
    return Choices(chosen, design.X, design.names, design.alternatives, design.available)


def fishing_income():
    """The mode of each trip and a constant with monthly income in thousands of dollars."""
    table = read("fishing")
    income = table["income"].to_numpy() / 1000
    return np.array(table["mode"].to_pylist()), np.column_stack([np.ones(len(income)), income])


def bank_wages():
    """The job of each man and a constant with years of education and minority."""
    table = read("bank_wages")
    men = np.array(table["gender"].to_pylist()) == "male"
    minority = np.array(table["minority"].to_pylist()) == "yes"
    x = np.column_stack([np.ones(men.sum()), table["education"].to_numpy()[men], minority[men]])
    return np.array(table["job"].to_pylist())[men], x


def house_cooling():
    """Heating and cooling systems as in the second exercise of Train and Croissant; costs in hundreds of dollars."""
    table = read("hc")
    cools, room = np.isin(HEATING, COOLING), np.isin(HEATING, ["erc", "er"])
    income = table["income"].to_numpy()[:, None]
    design = choice_design(
        HEATING,
        generic={
            "ich": np.column_stack([table[f"ich.{name}"].to_numpy() for name in HEATING]) / 100,
            "och": np.column_stack([table[f"och.{name}"].to_numpy() for name in HEATING]) / 100,
            "icca": table["icca"].to_numpy()[:, None] * cools / 100,
            "occa": table["occa"].to_numpy()[:, None] * cools / 100,
            "inc.room": income * room,
            "inc.cooling": income * cools,
            "int.cooling": np.ones_like(income) * cools,
        },
        constants=False,
    )
    chosen = np.array([HEATING.index(name) for name in table["depvar"].to_pylist()])
    return Choices(chosen, design.X, design.names, design.alternatives, design.available)


def drawn(num_rows=300, num_alternatives=4, num_variables=3, *, seed=0, beta=None, masked=False):
    """Choices of a conditional logit whose coefficients are known, 1, -½, ⅓ … unless they are given."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, num_alternatives, num_variables))
    beta = (-1.0) ** np.arange(num_variables) / (1 + np.arange(num_variables)) if beta is None else np.asarray(beta)
    available = np.ones((num_rows, num_alternatives), bool)
    if masked:
        available = rng.random(available.shape) < 0.7
        available[:, :2] = True
    utility = np.where(available, x @ beta + rng.gumbel(size=available.shape), -np.inf)
    names = tuple(f"v{k}" for k in range(num_variables))
    states = tuple(f"state {j}" for j in range(num_alternatives))
    return Choices(utility.argmax(axis=1), x, names, states, available)


def careers(num_rows=400, num_states=3, *, seed=0):
    """States with a constant and two variables of the row, from a multinomial logit; every state occurs."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(num_rows), rng.normal(size=num_rows), rng.integers(0, 2, num_rows)])
    beta = rng.normal(size=(num_states, 3)) / 2
    return (x @ beta.T + rng.gumbel(size=(num_rows, num_states))).argmax(axis=1), x


def slow_conditional(chosen, x, available=None, weights=1.0):
    """The log-likelihood of a conditional logit as a function of β, as the formula has it; β may be complex."""
    available = np.ones(x.shape[:2]) if available is None else available

    def value(beta):
        terms = available * np.exp(x @ beta)
        return np.sum(weights * np.log(terms[np.arange(len(chosen)), chosen] / terms.sum(axis=1)))

    return value


def slow_nested(chosen, x, nests, lambdas, available=None):
    """The log-likelihood of a nested logit as a function of (β, φ), as a choice of nest and one within; may be complex.

    Nests have shape (N, J); `lambdas(φ)` lists the inclusive-value parameters.
    """
    available = np.ones(x.shape[:2]) if available is None else available
    everyone = np.arange(len(chosen))

    def value(theta):
        utility, nest_lambdas = x @ theta[: x.shape[2]], lambdas(theta[x.shape[2] :])
        nest_terms = []
        within = np.zeros(len(chosen), complex)
        for nest, scale in enumerate(nest_lambdas):
            inside = available * (nests == nest) * np.exp(utility / scale)
            total = inside.sum(axis=1)
            here = nests[everyone, chosen] == nest
            within[here] = (inside[everyone, chosen] / np.where(total == 0, 1, total))[here]
            nest_terms.append(np.where(total == 0, 0, np.where(total == 0, 1, total) ** scale))
        terms = np.array(nest_terms)
        return np.sum(np.log(within * terms[nests[everyone, chosen], everyone] / terms.sum(axis=0)))

    return value


def slopes(value, at):
    """Gradient by complex steps, exact to rounding."""
    steps = 1e-30j * np.eye(len(at))
    return np.array([value(at + step).imag for step in steps]) / 1e-30


def curvature(value, at):
    """Hessian by differences of complex-step gradients."""
    size = 1e-5 * np.maximum(np.abs(at), 1e-3)
    rows = [(slopes(value, at + step) - slopes(value, at - step)) for step in np.diag(size)]
    matrix = np.array(rows) / (2 * size[:, None])
    return (matrix + matrix.T) / 2


def climb(value, start):
    """The optimum that scipy finds with these derivatives, its value, and standard errors from the curvature there."""
    unit = 1 / np.sqrt(-np.diag(curvature(value, start)))
    found = optimize.minimize(
        lambda at: -value(at * unit).real,
        start / unit,
        jac=lambda at: -slopes(value, at * unit) * unit,
        hess=lambda at: -curvature(value, at * unit) * np.outer(unit, unit),
        method="trust-exact",
        options={"gtol": 1e-9},
    )
    best = found.x * unit
    return best, -found.fun, np.sqrt(np.diag(np.linalg.inv(-curvature(value, best))))

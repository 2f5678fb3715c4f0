"""World files: TOML that gives the laws of a world, or the numbers and the seed that they are drawn by.

Keys of every world: `titles` (a list of them, a number of titles without a meaning, "occ1990dd" for its 330
occupations, or a CSV file of code, title, status beside the world file), `permuted` (a seed: titles are handed out
anew), `duration`, `returns`, `restarts`, a table `[covariates.NAME]` with the share of each value, and `[classes]` with
`given` (the covariates that the class depends on) and either `law` (nested in the order of `given`, a law of the
classes for each combination of values) or `spread` and `seed`, see `recipes.random_classes`; without either, classes
are equally frequent.

The moves are given by `initial`, `transition` and, where stays are decided apart, `stay`; or they are drawn: a table
`[random_markov]` or `[random_careers]` holds the arguments of the recipe of that name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laborllm.errors import LaborLLMError, WorldError
from laborllm.occupations import Occupations
from laborllm.synth import recipes

Floats = NDArray[np.float64]
Entries = Mapping[str, Any]

HOME = resources.files("laborllm").joinpath("data/worlds")
RECIPES: Mapping[str, Callable[..., Any]] = {
    "random_markov": recipes.random_markov,
    "random_careers": recipes.random_careers,
}
EXPLICIT = ("initial", "transition", "stay")
COMMON = ("titles", "permuted", "duration", "returns", "restarts", "covariates", "classes")


def names() -> list[str]:
    """The worlds that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in HOME.iterdir() if entry.name.endswith(".toml"))


def read(path: str | Path) -> dict[str, Any]:
    """Read the attributes of a World from a file.

    Raises:
        WorldError: No such file, no TOML, an unknown key, a value of the wrong kind, numbers that make no law.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WorldError(f"the file cannot be read ({_one_line(error)}); give a TOML file") from error
    return parse(text, folder=Path(path).parent)


def read_named(name: str) -> dict[str, Any]:
    """Read the attributes of a World that comes with the package."""
    if name not in names():
        raise WorldError(f"there is no world {name!r}; named worlds are {', '.join(names())}, or read a .toml file")
    return parse(HOME.joinpath(f"{name}.toml").read_text(encoding="utf-8"), folder=Path())


def parse(text: str, *, folder: Path) -> dict[str, Any]:
    """The attributes of a World that a file's text describes; files that it names are looked for in `folder`."""
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WorldError(f"no TOML ({_one_line(error)}); correct that line") from error
    _check_keys(entries, [*COMMON, *EXPLICIT, *RECIPES])
    if "titles" not in entries:
        raise WorldError("the key 'titles' is missing; give a list of titles, a number, \"occ1990dd\" or a CSV file")
    occupations = _occupations(entries["titles"], folder)
    moves = (
        _drawn(entries, occupations.titles) if set(RECIPES) & entries.keys() else _given(entries, occupations.titles)
    )
    if "permuted" in entries:
        order = recipes.permutation(len(occupations), seed=_integer(entries, "permuted"))
        occupations = occupations.take(order)
    world = {"occupations": occupations, **moves}
    for name in ("returns", "restarts"):
        if name in entries:
            world[name] = float(_numbers(entries[name], name, ()))
    if "duration" in entries:
        world["duration"] = _numbers(entries["duration"], "duration", (_length(entries["duration"]),))
    covariates = _covariates(entries.get("covariates", {}))
    return {**world, "covariates": covariates, "class_law": _class_law(entries, covariates, len(moves["initial"]))}


def _occupations(titles: Any, folder: Path) -> Occupations:
    if titles == "occ1990dd":
        whole = Occupations.occ1990dd()
        return whole.take([j for j, status in enumerate(whole.statuses) if status == "employed"])
    try:
        if isinstance(titles, str):
            return Occupations.read(folder / titles)
        if isinstance(titles, list) and all(isinstance(title, str) for title in titles):
            return Occupations.from_titles(titles)
    except LaborLLMError as error:
        raise WorldError(f"titles: {error}") from error
    if isinstance(titles, int) and not isinstance(titles, bool) and titles > 0:
        return Occupations.from_titles(recipes.numbered(titles))
    raise WorldError(f'titles is {titles!r}; give a list of titles, a number from 1 up, "occ1990dd" or a CSV file')


def _given(entries: Entries, titles: tuple[str, ...]) -> dict[str, Any]:
    """Moves that a file states; with one class, or where all share a law, the outermost list may be left out."""
    if missing := [name for name in ("initial", "transition") if name not in entries]:
        raise WorldError(
            f"the key {missing[0]!r} is missing; give initial and transition, or a table of {' or '.join(RECIPES)}"
        )
    size = len(titles)
    classes = len(entries["initial"]) if _depth(entries["initial"]) == 2 else 1
    initial = _by_class(entries["initial"], "initial", (classes, size), least=1)
    transition = _by_class(entries["transition"], "transition", (classes, size, size), least=2)
    stay = _by_class(entries.get("stay", 0.0), "stay", (classes, size), least=0)
    return {
        "initial": initial.reshape(classes, size),
        "neighbours": recipes.everyone(size),
        "kernel": transition.reshape(-1, size, size),
        "stay": np.broadcast_to(stay, (classes, size)),
    }


def _by_class(value: Any, key: str, shape: tuple[int, ...], *, least: int) -> Floats:
    """An array of this shape, or of its last axes, `least` of them at least."""
    axes = min(max(_depth(value), least), len(shape))
    return _numbers(value, key, shape[len(shape) - axes :])


def _drawn(entries: Entries, titles: tuple[str, ...]) -> dict[str, Any]:
    """Moves that a recipe draws."""
    named = [name for name in (*RECIPES, *EXPLICIT) if name in entries]
    if len(named) > 1:
        raise WorldError(f"the keys {' and '.join(map(repr, named))} exclude each other; keep one")
    name, recipe = named[0], RECIPES[named[0]]
    table = entries[name]
    if not isinstance(table, dict):
        raise WorldError(f"{name} is {table!r}; make it a table, [{name}]")
    parameters = list(signature(recipe).parameters.values())[1:]
    _check_keys(table, [parameter.name for parameter in parameters], table=name)
    arguments: dict[str, Any] = {}
    for parameter in parameters:
        key = parameter.name
        if key not in table and parameter.default is parameter.empty:
            raise WorldError(f"the key '{name}.{key}' is missing; see the recipe of that name")
        if key in {"seed", "neighbours"} & table.keys():
            arguments[key] = _integer(table, key, table=name)
        elif key == "stay" and name == "random_careers":
            arguments[key] = _numbers(table[key], f"{name}.{key}", (_length(table[key]),))
        elif key in table:
            arguments[key] = float(_numbers(table[key], f"{name}.{key}", ()))
    moves: dict[str, Any] = recipe(titles, **arguments)
    return moves


def _covariates(tables: Any) -> dict[str, dict[str, float]]:
    if not isinstance(tables, dict) or not all(isinstance(shares, dict) and shares for shares in tables.values()):
        raise WorldError(f"covariates is {tables!r}; give a table [covariates.NAME] of shares for each covariate")
    return {
        name: {value: float(_numbers(share, f"covariates.{name}.{value}", ())) for value, share in shares.items()}
        for name, shares in tables.items()
    }


def _class_law(entries: Entries, covariates: Mapping[str, Mapping[str, float]], num_classes: int) -> Floats:
    """The law of the class with one axis for each covariate, of length 1 where nothing depends on it."""
    table = entries.get("classes", {})
    if not isinstance(table, dict):
        raise WorldError(f"classes is {table!r}; make it a table, [classes]")
    _check_keys(table, ["given", "law", "spread", "seed"], table="classes")
    given = table.get("given", [])
    if not isinstance(given, list) or [name for name in covariates if name in given] != given:
        raise WorldError(
            f"classes.given is {given!r}; name covariates in the order of their tables: "
            f"{', '.join(covariates) or 'none'}"
        )
    shape = (*(len(covariates[name]) for name in given), num_classes)
    if "law" in table:
        law = _numbers(table["law"], "classes.law", shape)
    elif "spread" in table:
        spread = float(_numbers(table["spread"], "classes.spread", ()))
        law = recipes.random_classes(shape, spread=spread, seed=_integer(table, "seed", table="classes"))
    else:
        law = np.full(shape, 1 / num_classes)
    axes = tuple(len(shares) if name in given else 1 for name, shares in covariates.items())
    return law.reshape(*axes, num_classes)


def _numbers(value: Any, key: str, shape: tuple[int, ...]) -> Floats:
    """An array of this shape; says which entry is a list of another length, or no number."""
    if not shape:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise WorldError(f"{key} is {value!r}; give a number")
        return np.array(value, np.float64)
    if not isinstance(value, list) or len(value) != shape[0]:
        found = f"has {len(value)} entries" if isinstance(value, list) else f"is {value!r}"
        raise WorldError(f"{key} {found}; give a list of {shape[0]}")
    return np.array([_numbers(entry, f"{key}[{place}]", shape[1:]) for place, entry in enumerate(value)])


def _integer(entries: Entries, key: str, *, table: str = "") -> int:
    name = f"{table}.{key}" if table else key
    if key not in entries:
        raise WorldError(f"the key {name!r} is missing; give a whole number")
    value = entries[key]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise WorldError(f"{name} is {value!r}; give a whole number from 0 up")
    return value


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 1


def _depth(value: Any) -> int:
    """How deep lists are nested, by their first entries."""
    depth = 0
    while isinstance(value, list):
        value, depth = value[0] if value else None, depth + 1
    return depth


def _check_keys(entries: Entries, known: list[str], *, table: str = "") -> None:
    for key in entries:
        if key not in known:
            name = f"{table}.{key}" if table else key
            raise WorldError(f"unknown key {name!r}; the keys are {', '.join(known)}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())

"""What a world has to satisfy: shapes that fit and laws that are laws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from laborllm.errors import WorldError

if TYPE_CHECKING:
    from laborllm.synth.world import World

Floats = NDArray[np.float64]


def check_shapes(world: World) -> None:
    """Refuse arrays that do not fit each other, and neighbours that are no ascending states."""
    size, classes, width = len(world.titles), len(world.initial), world.neighbours.shape[-1]
    shared = 1 if len(world.kernel) == 1 else classes
    expected = {
        "initial": (classes, size),
        "neighbours": (size, width),
        "kernel": (shared, size, width),
        "stay": (classes, size),
    }
    for name, shape in expected.items():
        found = getattr(world, name).shape
        if found != shape:
            raise WorldError(
                f"{name} has shape {found}, which does not fit {size} titles, {classes} classes and {width} "
                f"neighbours; give {shape}"
            )
    if world.duration.ndim != 1 or not len(world.duration):
        raise WorldError(f"duration has shape {world.duration.shape}; give what each year of a tenure adds to stay")
    outside = (world.neighbours < 0).any(axis=1) | (world.neighbours >= size).any(axis=1)
    falling = (np.diff(world.neighbours, axis=1) <= 0).any(axis=1)
    if (bad := np.flatnonzero(outside | falling)).size:
        raise WorldError(
            f"the neighbours of {world.titles[bad[0]]!r} are no ascending states in [0, {size}); sort them, each once"
        )


def check_laws(world: World) -> None:
    """Refuse first occupations and moves whose probabilities are negative somewhere or do not sum to one."""
    single = world.num_classes == 1
    for z, row in enumerate(world.initial):
        check_law(row, f"of first occupations{'' if single else f' in class {z}'}")
    sums = world.kernel.sum(axis=2)
    for z, j in np.argwhere(~((np.abs(sums - 1) <= TOLERANCE) & (world.kernel >= 0).all(axis=2))):
        shared = "" if len(world.kernel) == 1 else f" in class {z}"
        check_law(world.kernel[z, j], f"after {world.titles[j]!r}{shared}")


def check_stays(world: World) -> None:
    """Refuse probabilities of staying, returning or beginning anew outside [0, 1]."""
    for name in ("returns", "restarts"):
        if not 0 <= getattr(world, name) <= 1:
            raise WorldError(f"{name} is {getattr(world, name)}; give a probability in [0, 1]")
    added = np.array([world.duration.min(), world.duration.max()])
    for year, extreme in zip((world.duration.argmin(), world.duration.argmax()), added, strict=True):
        stays = world.stay + extreme
        if (bad := np.argwhere(~((stays >= 0) & (stays <= 1)))).size:
            z, j = bad[0]
            where = f"{world.titles[j]!r}{'' if world.num_classes == 1 else f' in class {z}'}"
            raise WorldError(
                f"the probability of staying in {where} is {stays[z, j]:g} after {year + 1} years "
                f"(stay {world.stay[z, j]:g} and duration {extreme:g}); keep their sum in [0, 1]"
            )


def check_classes(world: World) -> None:
    """Refuse covariates named as other columns, shares that are none, and a law of the class that does not fit them."""
    for name, shares in world.covariates.items():
        if name in RESERVED:
            raise WorldError(f"no covariate can be called {name!r}: a simulated panel has that column; rename it")
        check_shares(name, shares)
    axes = world.class_law.shape[:-1]
    sizes = tuple(map(len, world.covariates.values()))
    fits = len(axes) == len(sizes) and all(axis in {1, size} for axis, size in zip(axes, sizes, strict=True))
    if not fits or world.class_law.shape[-1] != world.num_classes:
        wanted = ", ".join([*(f"{name} {size}" for name, size in zip(world.covariates, sizes, strict=True)), "classes"])
        raise WorldError(
            f"the law of the class has shape {world.class_law.shape}, which does not fit {world.num_classes} classes; "
            f"give one axis each for {wanted}, of length 1 where nothing depends on it"
        )
    for cell in np.ndindex(axes):
        check_law(world.class_law[cell], f"of the class{f' in row {list(cell)}' if cell else ''}")


def check_law(row: Floats, what: str) -> None:
    """Refuse one law by its name."""
    if not (row >= 0).all() or not abs(row.sum() - 1) <= TOLERANCE:
        raise WorldError(f"the law {what} is negative somewhere or sums to {row.sum()}, not to one; normalise it")


def check_shares(name: str, shares: Any) -> None:
    """Refuse the shares of a covariate that are negative, or none at all."""
    numbers = np.array(list(shares.values()), np.float64)
    if not ((numbers >= 0).all() and 0 < numbers.sum() < np.inf):
        raise WorldError(f"the shares of {name!r} are {dict(shares)}; give numbers from zero up, not all zero")


TOLERANCE = 1e-9
"""How far from one a law may sum."""
RESERVED = ("dataset", "worker_id", "year", "occupation", "split")
"""Columns of a panel that are no covariates."""

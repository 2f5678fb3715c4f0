"""The best titles, certain bounds of the normalized law, and exact draws, without the whole law."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from laborllm.prediction_titles import Top
from laborllm.score.search import Explorer, Known


@dataclass(frozen=True)
class Ranked:
    """One of the best titles.

    Attributes:
        title: Its index.
        log_p: Natural log of its probability under the raw or the masked law.
        lower, upper: Bounds of its probability among the titles: the normalized one, or under `masked` that itself.
        exact: The bounds have met.
    """

    title: int
    log_p: float
    lower: float
    upper: float
    exact: bool


@dataclass(frozen=True)
class Bounds:
    """Brackets of the whole normalized law; `lower[j] <= p[j] <= upper[j]`, float64 (J,) each."""

    lower: np.ndarray
    upper: np.ndarray


def topk(explorer: Explorer, k: int) -> list[list[Ranked]]:
    """The k best titles behind each prompt, most probable first; of equals the first in the list first.

    Best-first search: of all titles and open prefixes the k most probable are looked at, and those that are open are
    expanded, in one pass for all prompts, until none is. Titles not reached are less probable for certain.
    """
    while explorer.expand([one.hopeful(k) for one in explorer.known]):
        pass
    return [ranking(one, k) for one in explorer.known]


def iter_best(explorer: Explorer) -> Iterator[Ranked]:
    """The titles behind an explorer's only prompt, most probable first, expanding only as far as they are taken."""
    (one,) = explorer.known
    for number in range(1, explorer.num_titles + 1):
        while explorer.expand([one.hopeful(number)]):
            pass
        yield ranking(one, number)[-1]


def ranking(one: Known, k: int | None = None) -> list[Ranked]:
    """The best finished titles, with bounds from what is known."""
    low, high = one.log_mass
    met = not len(one.nodes)
    return [
        Ranked(
            title=int(one.titles[at]),
            log_p=float(one.title_log_p[at]),
            lower=float(np.exp(one.title_log_p[at] - high)),
            upper=float(min(1.0, np.exp(one.title_log_p[at] - low))),
            exact=met,
        )
        for at in one.best(k)
    ]


def as_top(rows: Sequence[Sequence[Ranked]]) -> Top:
    """Lists of one length, as `topk` gives them, as arrays."""
    types = {"title": np.int32, "log_p": np.float64, "lower": np.float64, "upper": np.float64, "exact": np.bool_}
    shape = (len(rows), len(rows[0]) if rows else 0)
    columns = ([getattr(one, name) for row in rows for one in row] for name in types)
    return Top(*(np.array(values, dtype).reshape(shape) for values, dtype in zip(columns, types.values(), strict=True)))


def bounds(explorer: Explorer, eps: float) -> list[Bounds]:
    """Brackets of the law behind each prompt, once open prefixes hold at most `eps` of the titles' mass."""
    while explorer.expand([one.heaviest(eps) for one in explorer.known]):
        pass
    return [_brackets(explorer, one) for one in explorer.known]


def _brackets(explorer: Explorer, one: Known) -> Bounds:
    low, high = one.log_mass
    most, least = np.full((2, explorer.num_titles), -np.inf)
    for node, log_p in zip(one.nodes.tolist(), one.node_log_p.tolist(), strict=True):
        most[explorer.titles_below(node)] = log_p
    most[one.titles] = least[one.titles] = one.title_log_p
    upper = np.exp(np.minimum(most - low, 0.0)) if np.isfinite(low) else np.ones(len(most))
    return Bounds(np.exp(least - high), upper)


def sample(explorer: Explorer, count: int, randoms: Sequence[np.random.Generator]) -> np.ndarray:
    """Exact draws from the law among the titles behind each prompt, int64 (prompts, count).

    Adaptive rejection: finished titles and open prefixes, each with its mass, are an envelope of the law. A draw takes
    one of them and, from an open one, goes on by the model's own probabilities; where these leave the list it is
    rejected and begins anew, in an envelope that has become tighter by what was expanded. Accepted titles follow the
    law whatever the envelope was; nothing that no draw came to is computed.
    """
    found = np.full((len(explorer.known), count), -1)
    pending = [
        [0] * count for _ in explorer.known
    ]  # the node each draw waits at, 0 before the first, -1 when it is done
    while (found < 0).any():
        for at, (one, random) in enumerate(zip(explorer.known, randoms, strict=True)):
            for draw in np.flatnonzero(found[at] < 0).tolist():
                pending[at][draw], found[at, draw] = _go_on(explorer, one, pending[at][draw], random)
        explorer.expand([np.unique([node for node in nodes if node > 0]).astype(np.int64) for nodes in pending])
    return found


def _go_on(explorer: Explorer, one: Known, node: int, random: np.random.Generator) -> tuple[int, int]:
    """Take one draw as far as what is known carries it.

    Args:
        explorer: It gives the titles.
        one: What is known behind the prompt.
        node: Where the draw stands: a node that was run, or 0 to take one from the envelope.
        random: Of this prompt.

    Returns:
        The open node at which it waits and -1, or -1 and the title that was drawn.
    """
    while True:
        if node == 0:
            choice = _choose(np.concatenate([one.title_log_p, one.node_log_p]), random, certain=True)
            if choice < len(one.titles):
                return -1, int(one.titles[choice])
            return int(one.nodes[choice - len(one.titles)]), -1
        nodes, log_p = one.behind[node]
        choice = _choose(log_p, random, certain=explorer.law == "masked")
        if choice == len(nodes):  # the model went on to something that is no title
            node = 0
            continue
        node = int(nodes[choice])
        title = int(explorer.title(nodes[choice : choice + 1])[0])
        if title >= 0:
            return -1, title
        if node not in one.behind:
            return node, -1


def _choose(log_p: np.ndarray, random: np.random.Generator, *, certain: bool) -> int:
    """Draw a position; if not `certain`, what is missing to 1 is the position behind the last."""
    total = np.cumsum(np.exp(log_p - log_p.max()) if certain else np.exp(log_p))
    choice = int(np.searchsorted(total, random.random() * (total[-1] if certain else 1.0), side="right"))
    return min(choice, len(log_p) - 1) if certain else choice

"""Count models: their time beside pyarrow and pandas on simulated rows, and what they predict of real careers.

Counting: the same integer keys are counted by `Tally.of`, by pyarrow's group_by and by pandas' groupby, on 10 million
rows of the world `occupations-330-words`. From a panel: `TwoStage` counts stays, moves and first rows of a checked
panel; pandas shifts titles within workers and groups pairs of them, once with titles as categories and once as text.
The pairs are compared. Perplexities: every count model is fitted on `train`, its parameters chosen on `val`, and read
once on `test`, on panels in the form of the design, given as folders with `careers.parquet` and `occupations.csv`.

    python benches/bench_counts.py [PANEL_FOLDER ...] [--rows 10_000_000] [--rounds 5]

writes benches/results/counts.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from measured import circumstances, interleaved

from laborllm.evaluate import evaluate
from laborllm.models.counts import MODELS, TwoStage
from laborllm.models.histories import Histories
from laborllm.models.tallies import Tally
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.synth import World

RESULT = Path(__file__).parent / "results" / "counts.json"
YEARS = 16
WORLD = "occupations-330-words"
KEYS = {"first order": ("previous",), "second order": ("second", "previous"), "in spells": ("before", "previous")}


def counted(histories: Histories, by: tuple[str, ...], *, rounds: int) -> dict[str, Any]:
    """Seconds of counting outcomes after the features `by`, rows with a history only."""
    later = histories.previous >= 0
    columns = {name: getattr(histories, name)[later].astype(np.int32) for name in by}
    columns["occupation"] = histories.occupation[later].astype(np.int32)
    names, size = list(columns), len(histories.panel.occupations) + 1
    table, frame = pa.table(columns), pd.DataFrame(columns)

    def ours() -> Tally:
        contexts = [(columns[name], size) for name in by]
        return Tally.of(contexts, columns["occupation"], num_outcomes=size)

    variants = {
        "laborllm": ours,
        "pyarrow": lambda: table.group_by(names).aggregate([([], "count_all")]),
        "pandas": lambda: frame.groupby(names).size(),
    }
    values = {
        "laborllm": np.sort(variants["laborllm"]().values),
        "pyarrow": np.sort(variants["pyarrow"]()["count_all"].to_numpy()),
        "pandas": np.sort(variants["pandas"]().to_numpy()),
    }
    assert all(np.array_equal(value, values["laborllm"]) for value in values.values())
    seconds = {name: statistics.median(each) for name, each in interleaved(variants, rounds=rounds).items()}
    return {"rows": len(frame), "pairs": len(values["laborllm"]), **_ratios(seconds)}


def from_panel(panel: Panel, *, rounds: int) -> dict[str, Any]:
    """Seconds from a panel to the counts of the two-stage model, beside pairs of titles in pandas."""
    titles = panel.column("occupation").dictionary.to_pylist()
    worker = panel.workers()
    category = pd.Series(pd.Categorical.from_codes(panel.states(), titles))
    frames = {
        "pandas, categories": pd.DataFrame({"worker": worker, "occupation": category}),
        "pandas, text": pd.DataFrame({"worker": worker, "occupation": category.astype(str)}),
    }

    def ours() -> TwoStage:
        model, histories = TwoStage(), Histories(panel)
        model._coding, plans = model._bind(histories)
        model._count(histories, plans, None)
        return model

    def theirs(frame: pd.DataFrame) -> Any:
        previous = frame.groupby("worker")["occupation"].shift()
        pairs = frame.assign(previous=previous).dropna(subset=["previous"])
        return pairs.groupby(["previous", "occupation"], observed=True).size()

    variants: dict[str, Any] = {"laborllm": ours}
    variants |= {name: (lambda frame=frame: theirs(frame)) for name, frame in frames.items()}
    moves = ours()._ladders["move"].tallies["move"]
    for frame in frames.values():
        pairs = theirs(frame)
        moved = pairs.index.get_level_values(0).astype(str) != pairs.index.get_level_values(1).astype(str)
        assert np.array_equal(np.sort(pairs[moved].to_numpy()), np.sort(moves.values))
    seconds = {name: statistics.median(each) for name, each in interleaved(variants, rounds=rounds).items()}
    return {"rows": panel.num_rows, **_ratios(seconds)}


def _ratios(seconds: dict[str, float]) -> dict[str, Any]:
    over = {name: round(value / seconds["laborllm"], 2) for name, value in seconds.items() if name != "laborllm"}
    return {"seconds": {name: round(value, 4) for name, value in seconds.items()}, "over laborllm": over}


def perplexities(folder: Path) -> dict[str, Any]:
    """Every count model on the test rows of a panel."""
    occupations = Occupations.read(folder / "occupations.csv")
    panel = Panel.read(folder / "careers.parquet", occupations=occupations, dataset=folder.name)
    train, val, test = (panel.part(name) for name in ("train", "val", "test"))
    found, seconds = [], {}
    for kind, model in MODELS.items():
        begin = time.perf_counter()
        fitted = model().fit(train, val)
        seconds[kind] = time.perf_counter() - begin
        found.append(fitted.predict(test))
    numbers = ("perplexity_history", "perplexity_first", "perplexity_stay", "perplexity_move", "move_auc")
    models = {}
    for facts in evaluate(found).models:
        models[facts["model"]] = {name: facts[name] for number in numbers for name in (number, f"{number}_se")}
        models[facts["model"]]["fit_seconds"] = round(seconds[facts["model"]], 2)
    return {"test_transitions": int(test.targets.sum()), "test_workers": test.num_workers, "models": models}


def main() -> None:
    """Print and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panels", nargs="*", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    world = World.named(WORLD)
    panel = Panel.from_arrow(world.simulate(arguments.rows // YEARS, YEARS), occupations=world.occupations)
    facts: dict[str, Any] = {"world": WORLD, "counting": {}, "panels": {}}
    for name, by in KEYS.items():
        facts["counting"][name] = counted(Histories(panel), by, rounds=arguments.rounds)
        print(f"counting, {name}: {facts['counting'][name]}", flush=True)
    facts["two-stage from a panel"] = from_panel(panel, rounds=arguments.rounds)
    print(f"two-stage from a panel: {facts['two-stage from a panel']}", flush=True)
    for folder in arguments.panels:
        facts["panels"][folder.name] = perplexities(folder)
        print(f"{folder.name}: {facts['panels'][folder.name]['test_transitions']} test transitions")
        for kind, numbers in facts["panels"][folder.name]["models"].items():
            texts = (
                f"{numbers[name]:8.3f} ({numbers[f'{name}_se']:.3f})"
                for name in ("perplexity_history", "perplexity_first")
            )
            print(f"  {kind:12s} history, first: {'  '.join(texts)}   fit {numbers['fit_seconds']:.2f} s")
    RESULT.write_text(json.dumps(facts | circumstances(), indent=1) + "\n")


if __name__ == "__main__":
    main()

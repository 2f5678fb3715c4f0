"""The embedded run: 545 real careers through every stage, on two cores in a few minutes.

Data: the panel of F. Vella and M. Verbeek (Journal of Applied Econometrics 13, 1998), men of the NLSY79 observed from
1980 to 1987 in nine broad occupations, as the package linearmodels carries it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv

from laborllm.errors import FileError, MissingDependencyError
from laborllm.evaluate import Evaluation, evaluate
from laborllm.files import check_output
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.predictions import Predictions
from laborllm.report import WorkedCareer, write_report
from laborllm.resume import Template
from laborllm.synth import World

if TYPE_CHECKING:
    from laborllm.models.language import LanguageModel

Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

DATASET = "NLSY79"
SPLIT_SEED = 3
"""Gives 366 workers to fit on, 65 to choose on and 114 to report on."""
SIMULATED = 4_000
"""Careers in the pre-training corpus."""

NOTES = (
    "Nine broad titles, 114 test workers and eight years each: a demonstration of the method, no benchmark. "
    "The intervals are wide, and most differences between good models lie within them.",
    "Men only, by design of the sample (Vella and Verbeek 1998). Region and birth year are not in it; experience is "
    "not age, so no birth year was derived.",
    "The base is a Llama of half a million random weights. It was pre-trained on careers simulated from a Markov law "
    "with back-off, estimated on the training workers alone, so that it never saw a validation or test worker.",
)


def wage_panel() -> Panel:
    """Read the panel that linearmodels carries, with a split by worker.

    Raises:
        MissingDependencyError: The `demo` extra is not installed.
    """
    try:
        from linearmodels.datasets import wage_panel as source
    except ImportError as error:
        raise MissingDependencyError('the demo needs its extra: pip install "laborllm[demo]"') from error
    frame = source.load()
    race = np.select([frame["black"] == 1, frame["hisp"] == 1], ["black", "hispanic"], "non-black, non-hispanic")
    table = pa.table(
        {
            "worker_id": pa.array(frame["nr"].to_numpy()),
            "year": pa.array(frame["year"].to_numpy()),
            "occupation": pa.array(frame["occupation"].to_numpy()),
            "gender": ["male"] * len(frame),
            "race": race.tolist(),
            "education": [f"{years} years of school" for years in frame["educ"]],
        }
    )
    raw = resources.files("laborllm").joinpath("data/wage_panel.csv").read_bytes()
    occupations = Occupations.from_arrow(pa.csv.read_csv(BytesIO(raw)), source="wage_panel.csv")
    panel = Panel.from_arrow(table, occupations=occupations, dataset=DATASET)
    return panel.with_split({"train": 0.7, "val": 0.1, "test": 0.2}, seed=SPLIT_SEED)


def simulated(train: Panel, *, num_workers: int, seed: int) -> Panel:
    """Careers over the same titles and years, drawn from a back-off Markov law estimated on the training workers.

    Race and education are drawn independently, with the shares of the training workers.
    """
    transitions = train.transitions()
    num_titles = len(train.occupations)
    first = np.bincount(transitions.occupation[transitions.first], minlength=num_titles)
    moves = np.zeros((num_titles, num_titles))
    later = ~transitions.first
    np.add.at(moves, (transitions.previous[later], transitions.occupation[later]), 1)
    marginal = moves.sum(axis=0) / moves.sum()
    world = World.from_counts(first + marginal, moves + 5 * marginal, train.occupations.titles)
    years = train.years()
    table = world.simulate(
        num_workers,
        int(years.max() - years.min()) + 1,
        seed=seed,
        first_year=int(years.min()),
        covariates={name: _shares(train, name) for name in ("gender", "race", "education")},
    )
    panel = Panel.from_arrow(table, occupations=train.occupations, dataset=DATASET)
    return panel.with_split({"train": 0.95, "val": 0.05}, seed=seed)


def _shares(panel: Panel, name: str) -> dict[str, float]:
    words = panel.column(name).take(pa.array(panel.starts[:-1]))
    counts = words.value_counts()
    return {item["values"].as_py(): item["counts"].as_py() / len(words) for item in counts}


def run(
    directory: str | Path, *, seed: int = 0, overwrite: bool = False, bar: Bar, say: Callable[[str], None]
) -> tuple[Evaluation, Path]:
    """Run the whole way and write models, predictions and `report.html` below `directory`.

    Returns:
        The evaluation on the test workers and the page's path.
    """
    from laborllm.models.counts import Covariates, Laplace, Marginal, Markov, TwoStage
    from laborllm.models.language import LanguageModel
    from laborllm.models.logit import Logit
    from laborllm.train import TrainingOptions, make_base

    home = check_output(directory, overwrite=overwrite, directory=True)
    try:
        home.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(f"the folder {home} cannot be made ({error}); choose another with -o") from error
    panel = wage_panel()
    train, val, test = (panel.part(name) for name in ("train", "val", "test"))
    say(f"{train.num_workers} workers to fit on, {val.num_workers} to choose on, {test.num_workers} to report on")
    estimators = (Covariates, Logit, TwoStage, Markov, Laplace, Marginal)  # differences are against the first
    predictions = [model().fit(train, val).predict(test) for model in estimators]

    base = home / "base"
    make_base([train], base, template=Template.load("labor-llm"), seed=seed, overwrite=overwrite)
    careers = simulated(train, num_workers=SIMULATED, seed=seed)
    runs = {
        "pre-training": (careers, TrainingOptions(epochs=4, learning_rate=2e-3, batch_size=8, seed=seed), None),
        "fine-tuning": (panel, TrainingOptions(epochs=15, learning_rate=2e-3, batch_size=8, seed=seed), 16),
        "without pre-training": (panel, TrainingOptions(epochs=15, learning_rate=2e-3, batch_size=8, seed=seed), None),
    }
    pretrained = home / "pretrained"
    models: list[LanguageModel] = []
    for what, (data, options, rank) in runs.items():
        start = pretrained if what == "fine-tuning" else base
        model = LanguageModel(start, options=options, lora_rank=rank, name=NAMES[what])
        part = data.part("train")
        with bar(what, options.epochs * part.num_workers) as step:
            model.fit(part, data.part("val"), progress=step)
        if what == "pre-training":
            model.export(pretrained, overwrite=overwrite)
        else:
            model.save(home / what.replace(" ", "-"), overwrite=overwrite)
        models.append(model)
    for model in models:
        with bar(f"scoring: {model.name}", int(test.targets.sum())) as step:
            predictions.append(model.predict(test, titles="all", keep_law=True, progress=step))
    return _report(predictions, test, home, overwrite=overwrite)


NAMES = {
    "pre-training": "LM, pre-trained on simulated careers",
    "fine-tuning": "LM, pre-trained, then LoRA",
    "without pre-training": "LM, without pre-training",
}


def _report(predictions: list[Predictions], test: Panel, home: Path, *, overwrite: bool) -> tuple[Evaluation, Path]:
    for prediction in predictions:
        name = prediction.metadata["model"].replace(" ", "-").replace(",", "")
        prediction.write(home / f"{name}.parquet", overwrite=overwrite)
    evaluation = evaluate(predictions)
    tuned = next(p for p in predictions if p.metadata["model"] == NAMES["fine-tuning"])
    page = home / "report.html"
    write_report(
        predictions,
        page,
        title="545 careers, 1980–87: predicting the next occupation",
        notes=NOTES,
        worked=WorkedCareer.longest([tuned], panel=test),
        evaluation=evaluation,
        overwrite=overwrite,
    )
    return evaluation, page

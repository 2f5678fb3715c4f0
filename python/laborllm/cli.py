"""The command line: one command per stage, parsing and printing only.

Results go to stdout with `--json`; progress and notes go to stderr. Exit codes: 0 done, 1 an error in data or run,
2 usage.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from laborllm.errors import LaborLLMError, MissingDependencyError, ModelError

if TYPE_CHECKING:
    import pyarrow as pa

    from laborllm.panel import Panel
    from laborllm.predictions import Predictions
    from laborllm.resume import Template
    from laborllm.stream import PanelStream

app = typer.Typer(
    help="Careers as text: fine-tuned language models of the next occupation, beside the models economists trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
notes = Console(stderr=True, highlight=False, soft_wrap=True)

PanelPath = Annotated[Path, typer.Argument(help="Panel: Parquet, Arrow or CSV, one row per worker and year.")]
PanelPaths = Annotated[
    list[Path], typer.Argument(help="Panel: files of one kind of rows, in any order, also larger than memory.")
]
OccupationsPath = Annotated[Path, typer.Option("--occupations", help="The closed list of states: code, title, status.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write.")]
Dataset = Annotated[str | None, typer.Option("--dataset", help="Tag of the survey, for a panel without that column.")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="Foreign column name, as name=foreign: worker_id=person_id.")
]
DropNull = Annotated[
    bool, typer.Option("--drop-null-occupations", help="Drop rows without an occupation, and count them.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything random.")]
TemplateName = Annotated[str, typer.Option("--template", help="Name or TOML file of the resume's template.")]
Without = Annotated[list[str] | None, typer.Option("--without", help="Leave out the bracketed phrase of this field.")]
Shard = Annotated[str | None, typer.Option("--shard", help="Only shard i of n, as i/n, counted from 0.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="Threads to work on; one for each CPU by default.")
]
Kind = Literal[
    "uniform",
    "marginal",
    "laplace",
    "markov",
    "two-stage",
    "markov-2",
    "tenure",
    "own-history",
    "covariates",
    "logit",
]
Weighted = Annotated[
    bool, typer.Option("--weighted", help="Weigh rows with the column `weight`: numbers of rows, of mean one.")
]


def _print_version(asked: bool) -> None:
    if asked:
        from laborllm import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Declare the options of every command; `main` reads --debug."""


def main() -> None:
    """Run the command line; an error that the user can repair is one line on stderr and exit code 1."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # ours are the only ones
    warnings.filterwarnings("ignore", message=".is_gradient_checkpointing.", category=FutureWarning)  # peft's affair
    warnings.showwarning = _note_warning  # type: ignore[assignment]  # where in the source does not matter
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except (LaborLLMError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        notes.print(f"{type(error).__name__}: {error}", markup=False)
        sys.exit(1)


def _note_warning(message: Warning | str, category: type[Warning], *_place: Any) -> None:
    notes.print(f"{category.__name__}: {message}", markup=False)


def _terminated(*_signal: Any) -> None:
    """Leave as after an error, so that what is half-written goes."""
    sys.exit(128 + signal.SIGTERM)


@app.command()
def split(
    panel: PanelPath,
    occupations: OccupationsPath,
    output: Output,
    train: Annotated[float, typer.Option(help="Share of workers to fit on.")] = 0.7,
    val: Annotated[float, typer.Option(help="Share of workers to choose on.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of workers to report on.")] = 0.2,
    unit: Annotated[
        str, typer.Option(help="Column whose values stay together: the worker, or a family.")
    ] = "worker_id",
    seed: Seed = 0,
    dataset: Dataset = None,
    column: Columns = None,
    drop_null_occupations: DropNull = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Divide workers into train, val and test by a hash of who they are, and write the panel with that column."""
    _check_output(output, overwrite=overwrite, ending=".parquet")
    from laborllm.files import write_parquet

    table = _read_panel(panel, occupations, dataset, column, drop_null_occupations)
    if "split" in table.table.column_names:
        notes.print("the panel's own column `split` is replaced", markup=False)
    divided = table.with_split({"train": train, "val": val, "test": test}, seed=seed, unit=unit)
    present = set(divided.column("split").to_pylist())
    counts = {name: _size(divided.part(name)) for name in ("train", "val", "test") if name in present}
    write_parquet(divided.table, output, overwrite=overwrite)
    _done({"output": str(output), "seed": seed, "splits": counts}, as_json=as_json)


@app.command()
def resumes(
    panel: PanelPaths,
    occupations: OccupationsPath,
    output: Output,
    template: TemplateName = "labor-llm",
    without: Without = None,
    shard: Shard = None,
    threads: Threads = None,
    dataset: Dataset = None,
    column: Columns = None,
    drop_null_occupations: DropNull = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the panel's careers as text, with the place of every title; the panel may be larger than memory."""
    _check_output(output, overwrite=overwrite, ending=".parquet")
    _prepare(threads)
    from laborllm.resume import render

    stream = _panel_stream(panel, occupations, dataset, column, drop_null_occupations, shard)
    texts = render(stream, _template(template, without))
    counted = _write_stream("resumes", stream, texts, output, overwrite=overwrite)
    _done({"output": str(output), **counted}, as_json=as_json)


@app.command()
def tokens(
    panel: PanelPaths,
    occupations: OccupationsPath,
    tokenizer: Annotated[str, typer.Option("--tokenizer", help="Directory or hub name of a model or its tokenizer.")],
    output: Output,
    template: TemplateName = "labor-llm",
    without: Without = None,
    shard: Shard = None,
    threads: Threads = None,
    dataset: Dataset = None,
    column: Columns = None,
    drop_null_occupations: DropNull = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the panel's careers as token ids, with the place of every title."""
    _check_output(output, overwrite=overwrite, ending=".parquet")
    _prepare(threads)
    from laborllm.encoder import PanelEncoder
    from laborllm.tokens import load_tokenizer

    stream = _panel_stream(panel, occupations, dataset, column, drop_null_occupations, shard)
    bound = _template(template, without).bind(stream.column_names)
    encoder = PanelEncoder(load_tokenizer(tokenizer), stream.occupations, bound)
    counted = _write_stream("tokens", stream, encoder.stream(stream), output, overwrite=overwrite)
    _done({"output": str(output), **counted}, as_json=as_json)


@app.command()
def pack(
    tokens: Annotated[Path, typer.Argument(help="A token table, as `laborllm tokens` writes it.")],
    output: Output,
    length: Annotated[int, typer.Option(min=1, max=2**31 - 1, help="Tokens of a bin.")],
    pad_id: Annotated[int, typer.Option(min=0, help="The token that fills bins up.")],
    method: Annotated[
        Literal["best_fit", "first_fit"], typer.Option(help="The whole table in memory, or a stream of any length.")
    ] = "best_fit",
    labels: Annotated[Literal["all", "titles"], typer.Option(help="Tokens that are labels.")] = "all",
    seed: Annotated[int | None, typer.Option(min=0, help="Shuffle the bins of best_fit.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Pack whole careers into bins of one length, as Parquet or, ending in .arrow, for memory mapping."""
    _check_output(output, overwrite=overwrite)
    from laborllm.packing import pack as pack_
    from laborllm.packing import write_packed

    bins = pack_(tokens, length=length, pad_id=pad_id, method=method, labels=labels, seed=seed)
    filled = write_packed(bins, output, overwrite=overwrite)
    facts = {"bins": filled.bins, "careers": filled.careers, "tokens": filled.tokens, "fill": filled.fill}
    _done({"output": str(output), **facts}, as_json=as_json)


@app.command()
def base(
    panels: Annotated[list[Path], typer.Argument(help="Panels whose train split the tokenizer is trained on.")],
    occupations: OccupationsPath,
    output: Output,
    size: Annotated[
        Literal["tiny", "small"], typer.Option(help="Half a million or about 13 million weights.")
    ] = "tiny",
    template: TemplateName = "labor-llm",
    seed: Seed = 0,
    dataset: Dataset = None,
    column: Columns = None,
    drop_null_occupations: DropNull = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a small base of random weights where no pretrained model can be had."""
    _check_output(output, overwrite=overwrite, directory=True)
    make_base = _train_extra().make_base
    parts = [_read_panel(path, occupations, dataset, column, drop_null_occupations).part("train") for path in panels]
    make_base(parts, output, template=_template(template, None), size=size, seed=seed, overwrite=overwrite)
    _done({"output": str(output), "size": size, "workers": sum(part.num_workers for part in parts)}, as_json=as_json)


@app.command()
def simulate(
    world: Annotated[str, typer.Argument(help="A world that comes with the package, as two-types, or a TOML file.")],
    workers: Annotated[int, typer.Option("--workers", "-n", min=1, help="How many workers; memory does not grow.")],
    output: Output,
    years: Annotated[int, typer.Option(min=1, help="Rows of each worker.")] = 16,
    occupations_out: Annotated[
        Path | None, typer.Option(help="Where the list of states goes; by default beside the panel, as CSV.")
    ] = None,
    threads: Threads = None,
    seed: Seed = 0,
    dataset: Annotated[str | None, typer.Option(help="Tag of the panel; the world's name by default.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate careers of known law, divided into train, val and test as `split` divides workers (.7, .1, .2)."""
    listed = occupations_out or output.with_suffix(".occupations.csv")
    _check_output(output, overwrite=overwrite, ending=".parquet")
    _check_output(listed, overwrite=overwrite, ending=".csv")
    from laborllm.files import output_file, write_parquet
    from laborllm.stream import PanelStream
    from laborllm.synth import World

    law = World.read(world) if world.endswith(".toml") else World.named(world)
    rows = PanelStream.read(
        law.stream(workers, years, seed=seed, threads=threads),
        occupations=law.occupations,
        dataset=Path(world).stem if dataset is None else dataset,
    )
    with bar("simulating", workers * years) as step:
        divided = _divided(rows, {"train": 0.7, "val": 0.1, "test": 0.2}, seed)
        write_parquet(divided, output, overwrite=overwrite, progress=lambda batch: step(batch.num_rows))
    with output_file(listed, overwrite=overwrite) as temporary:
        import pyarrow.csv

        pyarrow.csv.write_csv(law.occupations.to_table(), temporary)
    facts = {"output": str(output), "occupations": str(listed), "workers": workers, "rows": workers * years}
    _done({**facts, "seed": seed}, as_json=as_json)


@app.command()
def fit(
    name: Annotated[Kind, typer.Argument(help="The model.")],
    panel: PanelPath,
    occupations: OccupationsPath,
    output: Output,
    weighted: Weighted = False,
    dataset: Dataset = None,
    column: Columns = None,
    drop_null_occupations: DropNull = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit a count model or the penalised logit on `train`, with back-offs or penalty chosen on `val`."""
    _check_output(output, overwrite=overwrite, directory=True)
    from laborllm.models import estimator

    table = _read_panel(panel, occupations, dataset, column, drop_null_occupations)
    model = estimator(name).fit(table.part("train"), table.part("val"), weighted=weighted)
    model.save(output, overwrite=overwrite)
    facts = {"output": str(output), "model": name, **model.parameters()}
    _done({**facts, "val_perplexity": model.val_perplexity}, as_json=as_json)


@app.command()
def train(
    panel: PanelPath,
    occupations: OccupationsPath,
    base: Annotated[str, typer.Option("--base", help="Directory or hub name of any causal language model.")],
    output: Output,
    epochs: Annotated[int, typer.Option(min=0, help="Passes over the careers; 0 keeps the base as it is.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 3e-4,
    batch_size: Annotated[int, typer.Option(min=1, help="Careers in an optimiser step.")] = 32,
    lora_rank: Annotated[int, typer.Option(min=0, help="Rank of the LoRA adapters; 0 trains all weights.")] = 16,
    loss_on: Annotated[Literal["all", "titles"], typer.Option(help="Tokens that carry the loss.")] = "all",
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Type of the base's weights.")] = "float32",
    template: TemplateName = "labor-llm",
    without: Without = None,
    name: Annotated[str | None, typer.Option(help="What its predictions are called.")] = None,
    weighted: Weighted = False,
    seed: Seed = 0,
    dataset: Dataset = None,
    column: Columns = None,
    drop_null_occupations: DropNull = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a language model on `train`, and keep the epoch that predicts `val` best."""
    _check_output(output, overwrite=overwrite, directory=True)
    options = _train_extra().TrainingOptions(
        epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, loss_on=loss_on, seed=seed
    )
    from laborllm.models.language import LanguageModel

    table = _read_panel(panel, occupations, dataset, column, drop_null_occupations)
    model = LanguageModel(
        base,
        options=options,
        lora_rank=lora_rank or None,
        template=_template(template, without),
        dtype=dtype,
        name=name or output.name,
    )
    part = table.part("train")
    with bar("training", epochs * part.num_workers) as step:
        model.fit(part, table.part("val"), weighted=weighted, progress=step)
    model.save(output, overwrite=overwrite)
    best = min(model.history, key=lambda epoch: epoch.val_nll)
    history = [{"epoch": e.epoch, "train_loss": _finite(e.train_loss), "val_nll": e.val_nll} for e in model.history]
    _done(
        {"output": str(output), "best_epoch": best.epoch, "val_nll": best.val_nll, "epochs": history}, as_json=as_json
    )


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="A model directory, as fit and train write it.")],
    panel: PanelPath,
    output: Output,
    split: Annotated[str | None, typer.Option(help="Only the rows of this split; every row without it.")] = None,
    titles: Annotated[
        Literal["observed", "all"], typer.Option(help="The title that happened, or the whole law.")
    ] = "observed",
    law: Annotated[
        Literal["raw", "normalized", "masked"] | None,
        typer.Option(help="The law of log_p; by default raw for a language model, normalized for a count model."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Name this many of the most probable titles of each row (column top).")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="A further title whose probability is wanted (column log_p_of); may be repeated."),
    ] = None,
    keep_law: Annotated[bool, typer.Option("--keep-law", help="Store the probability of every title.")] = False,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float64"] | None,
        typer.Option(help="Cast the weights before scoring; by default they keep the type they were trained in."),
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option(min=64, help="Tokens of one forward pass; halved where memory runs out.")
    ] = None,
    shard: Shard = None,
    dataset: Dataset = None,
    column: Columns = None,
    drop_null_occupations: DropNull = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Predict: the probability of each next occupation.

    A run that was cut off goes on where it stopped when the same command is given again: finished parts wait in a
    hidden folder beside the output. Shards in one folder are read together: laborllm evaluate FOLDER.
    """
    _check_output(output, overwrite=overwrite, ending=".parquet")
    asked = _shard_of(shard)
    from laborllm.models import load_model
    from laborllm.scoring import Options
    from laborllm.scoring import score as score_

    estimator = load_model(model)
    table = _model_panel(estimator, panel, dataset, column, drop_null_occupations)
    options = Options(
        titles=titles,
        law=law,
        keep_law=keep_law,
        also=tuple(also or ()),
        top=top,
        dtype=dtype,
        max_rows=max_rows,
        shard=asked,
    )
    facts = score_(
        estimator,
        table if split is None else table.part(split),
        output,
        options,
        overwrite=overwrite,
        bar=bar,
        say=lambda note: notes.print(note, markup=False),
    )
    _done(facts, as_json=as_json)


@app.command()
def evaluate(
    predictions: Annotated[
        list[Path], typer.Argument(help="Prediction files, or folders of shards, over the same transitions.")
    ],
    by: Annotated[str | None, typer.Option(help="Also by the values of this column of --panel.")] = None,
    panel: Annotated[Path | None, typer.Option(help="The panel that holds the column.")] = None,
    weight: Annotated[str | None, typer.Option(help="Weigh transitions with this column of --panel.")] = None,
    dataset: Dataset = None,
    column: Columns = None,
    draws: Annotated[int, typer.Option(min=2, help="Bootstrap draws of workers.")] = 1_000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Print perplexities and move metrics with their errors, and paired differences."""
    from laborllm.evaluate import evaluate as evaluate_

    loaded, table = _predictions(predictions, panel, dataset, column)
    evaluation = evaluate_(loaded, by=by, panel=table, weight=weight, draws=draws, seed=seed)
    if as_json:
        typer.echo(evaluation.to_json())
    else:
        print_evaluation(evaluation)


@app.command()
def report(
    predictions: Annotated[
        list[Path], typer.Argument(help="Prediction files, or folders of shards, over the same transitions.")
    ],
    output: Output,
    title: Annotated[str, typer.Option(help="The page's title.")] = "Predicting the next occupation",
    note: Annotated[
        list[str] | None, typer.Option(help="A sentence on what the numbers are not; may be repeated.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Also by the values of this column of --panel.")] = None,
    panel: Annotated[
        Path | None, typer.Option(help="The panel that holds the column, and the traits of workers.")
    ] = None,
    dataset: Dataset = None,
    column: Columns = None,
    draws: Annotated[int, typer.Option(min=2, help="Bootstrap draws of workers.")] = 1_000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page."""
    _check_output(output, overwrite=overwrite)
    from laborllm.report import write_report

    loaded, table = _predictions(predictions, panel, dataset, column)
    write_report(
        loaded, output, title=title, notes=note or (), by=by, panel=table, draws=draws, seed=seed, overwrite=overwrite
    )
    _done({"output": str(output), "models": [p.model for p in loaded]}, as_json=as_json)


@app.command()
def generate(
    model: Annotated[Path, typer.Argument(help="A language model's directory.")],
    history: Annotated[Path, typer.Option("--history", help="A panel of histories; each gets its next occupation.")],
    year: Annotated[
        int | None, typer.Option(min=1, max=9999, help="Year to predict; by default each worker's last plus one.")
    ] = None,
    education: Annotated[
        str | None, typer.Option(help="Education in that year; by default that of the last row.")
    ] = None,
    beams: Annotated[int, typer.Option(min=1, help="Width of beam search; 1 is greedy.")] = 1,
    samples: Annotated[
        int, typer.Option(min=0, help="Exact draws per history from --law; beams do not matter then.")
    ] = 0,
    law: Annotated[
        Literal["normalized", "masked"], typer.Option(help="What is drawn from: P(title) among titles, or masked.")
    ] = "normalized",
    seed: Seed = 0,
    dataset: Dataset = None,
    column: Columns = None,
) -> None:
    """Print decoded next occupations as JSON lines; every title is on the list."""
    _train_extra()
    from dataclasses import asdict

    from laborllm.generate import decode, next_rows
    from laborllm.models import load_model
    from laborllm.models.closed import ClosedForm

    estimator = load_model(model)
    if isinstance(estimator, ClosedForm):
        raise ModelError(f"{model} is a {estimator.kind} model and writes no text; use laborllm score --keep-law")
    table = next_rows(_model_panel(estimator, history, dataset, column), year=year, education=education)
    for decoded in decode(estimator.scorer, table, beams=beams, samples=samples, law=law, seed=seed):
        typer.echo(json.dumps(asdict(decoded), ensure_ascii=False))


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for models, predictions and report.html.")
    ] = Path("demo"),
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Run the whole way on 545 real careers (NLSY79, 1980-87), in a few minutes."""
    from laborllm.demo import run

    evaluation, page = run(output, seed=seed, overwrite=overwrite, bar=bar, say=notes.print)
    print_evaluation(evaluation)
    notes.print(f"wrote {page}", markup=False)


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; gives the function that advances it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notes, transient=not notes.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


class _Speed(ProgressColumn):
    """How many a second, of whatever the bar counts."""

    def render(self, task: Task) -> Text:
        """The speed of the last half minute, or of the whole once it is done."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.2g}/s")


def print_evaluation(evaluation: Any) -> None:
    """Print the table of models, and their paired differences, on stdout."""
    from rich.markup import escape
    from rich.table import Column, Table

    from laborllm.report.tables import difference_rows, model_rows

    for header, rows in (model_rows(evaluation), difference_rows(evaluation)):
        table = Table(*(Column(name, no_wrap=position == 0) for position, name in enumerate(header)))
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        if rows:
            Console(width=None if sys.stdout.isatty() else 160).print(table)


def _read_panel(
    path: Path,
    occupations: Path,
    dataset: str | None,
    columns: list[str] | None,
    drop_null: bool = False,
) -> Panel:
    from laborllm.occupations import Occupations
    from laborllm.panel import Panel

    panel = Panel.read(
        path,
        occupations=Occupations.read(occupations),
        dataset=dataset,
        columns=_columns(columns),
        drop_null_occupations=drop_null,
    )
    if sentence := panel.report.sentence():
        notes.print(sentence, markup=False)
    return panel


def _predictions(
    files: list[Path], panel: Path | None, dataset: str | None, columns: list[str] | None
) -> tuple[list[Predictions], Panel | None]:
    """Read prediction files and, where one is named, the panel they are about."""
    from laborllm.panel import Panel
    from laborllm.predictions import Predictions

    loaded = [Predictions.read(path) for path in files]
    if panel is None:
        return loaded, None
    tags = loaded[0].table["dataset"].combine_chunks().dictionary.to_pylist()
    tag = dataset if dataset is not None or len(tags) != 1 else tags[0]
    occupations = loaded[0].occupations
    return loaded, Panel.read(panel, occupations=occupations, dataset=tag or None, columns=_columns(columns))


def _model_panel(
    estimator: Any, path: Path, dataset: str | None, columns: list[str] | None, drop_null: bool = False
) -> Panel:
    """Read a panel in the occupations of a model, by default under the one tag it was trained with."""
    from laborllm.panel import Panel

    tags = estimator.datasets
    tag = dataset if dataset is not None or len(tags) != 1 else tags[0]
    return Panel.read(
        path,
        occupations=estimator.occupations,
        dataset=tag or None,
        columns=_columns(columns),
        drop_null_occupations=drop_null,
    )


def _check_output(output: Path, *, overwrite: bool, directory: bool = False, ending: str = "") -> None:
    """Refuse an output before any work is done for it."""
    from laborllm.files import check_output

    if not output.name.endswith(ending):
        raise typer.BadParameter(f"-o {output} is written as Parquet; let its name end in {ending}")
    check_output(output, overwrite=overwrite, directory=directory)


def _columns(pairs: list[str] | None) -> dict[str, str]:
    for pair in pairs or []:
        if "=" not in pair:
            raise typer.BadParameter(f"--column {pair} is not name=foreign, as in worker_id=person_id")
    return dict(pair.split("=", 1) for pair in pairs or [])


def _template(name: str, without: list[str] | None) -> Template:
    from laborllm.resume import Template

    return Template.load(name).without(*(without or []))


def _panel_stream(
    panel: list[Path],
    occupations: Path,
    dataset: str | None,
    column: list[str] | None,
    drop_null_occupations: bool,
    shard: str | None,
) -> PanelStream:
    from laborllm.occupations import Occupations
    from laborllm.stream import PanelStream

    return PanelStream.read(
        panel,
        occupations=Occupations.read(occupations),
        dataset=dataset,
        columns=_columns(column),
        drop_null_occupations=drop_null_occupations,
        shard=_shard_of(shard),
    )


def _write_stream(
    what: str, stream: PanelStream, batches: pa.RecordBatchReader, output: Path, *, overwrite: bool
) -> dict[str, int]:
    """Write resumes or tokens while a bar shows the input rows that were read; gives what was written."""
    from laborllm.files import write_parquet

    written = {"workers": 0, "rows": 0} | ({"tokens": 0} if "input_ids" in batches.schema.names else {})
    shown = 0
    with bar(what, stream.rows) as step:

        def progress(batch: pa.RecordBatch) -> None:
            nonlocal shown
            written["workers"] += batch.num_rows
            written["rows"] += len(batch["year"].flatten())
            if "tokens" in written:
                written["tokens"] += len(batch["input_ids"].flatten())
            step(stream.rows_read - shown)
            shown = stream.rows_read

        write_parquet(batches, output, overwrite=overwrite, progress=progress)
    if sentence := stream.report.sentence():
        notes.print(sentence, markup=False)
    return written


def _divided(stream: PanelStream, fractions: dict[str, float], seed: int) -> pa.RecordBatchReader:
    """The rows of a stream with the column `split`, piece by piece."""
    import pyarrow as pa

    tables = (panel.with_split(fractions, seed=seed).table for panel in stream.panels())
    schema = stream.schema.append(pa.field("split", pa.dictionary(pa.int32(), pa.large_string())))
    return pa.RecordBatchReader.from_batches(schema, (batch for table in tables for batch in table.to_batches()))


def _shard_of(shard: str | None) -> tuple[int, int] | None:
    if shard is None:
        return None
    index, _, count = shard.partition("/")
    numbers = index.isdecimal() and count.isdecimal() and max(len(index), len(count)) < 20
    if not (numbers and int(index) < int(count) < 1 << 63):
        raise typer.BadParameter(f"--shard {shard} is not i/n with 0 <= i < n, as in 0/4")
    return int(index), int(count)


def _prepare(threads: int | None) -> None:
    """Ready this process for a long stream: before its first work, for the core reads the number of threads then."""
    from laborllm.files import keep_freed_pages

    keep_freed_pages()
    if threads is not None:
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        import pyarrow as pa

        pa.set_cpu_count(threads)


def _train_extra() -> Any:
    try:
        import laborllm.train
    except ImportError as error:
        raise MissingDependencyError('this needs the train extra: pip install "laborllm[train]"') from error
    return laborllm.train


def _size(panel: Panel) -> dict[str, int]:
    return {"workers": panel.num_workers, "rows": int(panel.targets.sum())}


def _finite(value: float) -> float | None:
    return value if value == value else None  # noqa: PLR0124  NaN is not equal to itself


def _done(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        notes.print(", ".join(f"{key} {value}" for key, value in facts.items()), markup=False)

"""The command line: parse, build, call, print."""

import errno
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .assemble import build_accelerator
from .build import prepare
from .cached import write_cache
from .choices import CHOICES
from .cli_sample import sample
from .cli_vocabulary import vocabulary
from .compare import compare
from .demo import run_demo
from .errors import EvaluationError, InterruptedRunError, LimbeckError
from .evaluation.comparison import comparison_headline
from .evaluation.comparison import tables as comparison_tables
from .evaluation.cost import measure_cost
from .evaluation.finetune import FinetuneSettings
from .evaluation.generation import GenerationSettings, positions_of_task
from .evaluation.report import headline, summary_table
from .evaluation.report_writing import position_table
from .evaluation.tasks import asks_for_texts, load_task, subsample
from .measure import evaluate_model
from .model_folders import model_of_run
from .parse import parse_evaluation, read_recipe
from .plan import plan_tables, probe
from .prompt_corpora import prompt_notes
from .run import distill as distill_recipe
from .study import read_study
from .teacher.manifest import Kind
from .terminal import console, one_of, print_table

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil Transformer language models, and prove what the student kept.",
)
app.add_typer(vocabulary, name="vocabulary")
app.command()(sample)
_Recipe = Annotated[Path, typer.Argument(help="The recipe, a YAML file.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field: stages.0.tokens=100000. May be repeated."),
]
_Output = Annotated[Path, typer.Option("--output", "-o", help="The run folder.")]
_SECONDS_TO_SAY_WHY = 3
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


@app.command()
def demo(output: _Output = Path("runs/demo")) -> None:
    """Distil, compare and report on what ships with the package, in minutes."""
    _print_report(run_demo(output, console=console), output)


@app.command()
def plan(
    recipe: _Recipe,
    set_: _Set = None,
    timed: Annotated[bool, typer.Option(help="Probe time and memory by ten steps.")] = True,
) -> None:
    """Show every fault of a recipe, or what it will do and cost."""
    setup = prepare(read_recipe(recipe, set_ or []))
    probes = [probe(setup, n) for n in range(len(setup.stages))] if timed else None
    for heading, table in plan_tables(setup, probes):
        print_table(heading, table)
    for note in prompt_notes(setup):
        console.print(note, highlight=False)
    for warning in setup.warnings:
        console.print(f"warning: {warning}", style="yellow")


@app.command()
def distill(recipe: _Recipe, output: _Output, set_: _Set = None) -> None:
    """Carry out a recipe; goes on by itself where the folder holds a part of the run."""
    run = distill_recipe(read_recipe(recipe, set_ or []), output, console=console)
    if run.report:  # of several processes, the first one alone has it
        _print_report(run.report, output)


@app.command()
def cache(
    recipe: _Recipe,
    output: _Output,
    set_: _Set = None,
    logits: Annotated[str, typer.Option(help="exact, top_k or sampled")] = Kind.logits,
    pieces: Annotated[int, typer.Option(min=1, help="Of top_k and sampled.")] = Kind.pieces,
) -> None:
    """Run a recipe's teacher once and keep its signals; goes on where the folder stands.

    They serve any student of this text: `teacher: {cache: FOLDER}` in its recipe.
    """
    setup = prepare(read_recipe(recipe, set_ or []))
    kind = Kind(one_of("logits", logits, ("exact", "top_k", "sampled")), pieces)
    accelerator = build_accelerator(setup.recipe, output)
    size = write_cache(setup, output, kind, accelerator, console=console)
    accelerator.end_training()
    if accelerator.is_main_process:
        said = f"{output}: {size.total / 1e6:,.1f} MB, {size.bytes_a_token:,.1f} bytes a token"
        console.print(said, highlight=False)


@app.command("compare")
def compare_(
    study: Annotated[Path, typer.Argument(help="The study, a YAML file.")],
    output: _Output,
    set_: _Set = None,
) -> None:
    """Train and measure several recipes alike; one table with intervals against the control.

    Start it several times where one training leaves room for another: each takes the next arm.
    """
    report = compare(read_study(study, set_ or []), output, console=console)
    if not report:
        console.print(
            "no arm is left; the process that began first waits for all and reports (if it has"
            " ended, run the command again)"
        )
        return
    for heading, table in comparison_tables(report):
        print_table(heading, table)
    console.print(comparison_headline(report), highlight=False)
    console.print(f"report: {output / 'report' / 'report.html'}", highlight=False)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model or run folder, hub name or minilm-demo.")],
    task: Annotated[list[str] | None, typer.Option(help="DIR/NAME of task files.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    rows: Annotated[int | None, typer.Option(help="Training rows at most.")] = None,
    epochs: float = FinetuneSettings.epochs,
    learning_rate: float = FinetuneSettings.learning_rate,
    batch_size: int = FinetuneSettings.batch_size,
    max_length: int = FinetuneSettings.max_length,
    pooling: Annotated[str, typer.Option(help="mean or first")] = FinetuneSettings.pooling,
    precision: Annotated[str, typer.Option(help="bfloat16 or float32")] = "bfloat16",
    test_split: Annotated[str | None, typer.Option(help="dev or test; dev if there")] = None,
    response: Annotated[int, typer.Option(help="Of tasks that ask for texts: pieces.")] = (
        GenerationSettings.response
    ),
    temperature: Annotated[float, typer.Option(help="Likewise; 0 takes the likeliest.")] = (
        GenerationSettings.temperature
    ),
    prompts: Annotated[int | None, typer.Option(help="Likewise: prompts at most.")] = None,
    chat: Annotated[bool, typer.Option(help="Likewise: ask in the chat template.")] = False,
    teacher: Annotated[
        str | None, typer.Option(help="Likewise: with whom it should agree, early and late.")
    ] = None,
    cost: Annotated[bool, typer.Option(help="Measure size, memory and latency too.")] = False,
    threads: Annotated[int | None, typer.Option(help="For the cost.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep results here, and go on from them.")
    ] = None,
) -> None:
    """Score any model folder on tasks, several seeds; the last line is JSON.

    Encoders are fine-tuned first. Of decoders, tasks of prompts are answered as they are.
    """
    settings = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "max_length": max_length,
        "pooling": pooling,
        "precision": precision,
    }
    part = parse_evaluation(
        {
            "tasks": task or [],
            "seeds": seeds,
            "training_rows": rows,
            "test_split": test_split,
            "settings": settings,
            "writing": {
                "response": response,
                "temperature": temperature,
                "rows": prompts,
                "chat": chat,
            },
        }
    )
    model = model_of_run(model)
    parts: dict[str, dict[str, list[float]]] = {}
    if teacher:
        asked = list(filter(asks_for_texts, part.tasks))
        if not asked:
            raise EvaluationError("--teacher is for tasks of prompts; give one, or leave it out")
        for location in asked:  # first, so that another teacher is refused before anything is long
            whole = load_task(location, test_split=part.test_split)
            some = subsample(whole, rows=None, seed=0, written=part.writing.rows)
            parts[some.name] = positions_of_task(model, model_of_run(teacher), some, part.writing)
            print_table(f"{some.name}, by position in its texts", position_table(parts[some.name]))
    scores = evaluate_model(model, part.tasks, part, results=output, console=console)
    rows_ = [
        [name, score.metric, f"{100 * score.mean:.1f}", f"{100 * score.spread:.1f}"]
        for name, score in scores.items()
    ]
    print_table(model, [["task", "metric", "mean", "spread"], *rows_])
    found: dict[str, Any] = {name: score.to_json() for name, score in scores.items()}
    if teacher:
        found["by_position"] = parts
    if cost:
        found["cost"] = asdict(measure_cost(model, threads=threads))
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(help=", ".join(CHOICES)),
    ],
) -> None:
    """List what there is to choose from."""
    print_table(what, CHOICES[one_of("list", what, tuple(CHOICES))]())


def main() -> None:
    """Run the command line; a mistake of the user's gives a message, not a traceback."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if launched:
        # A launcher ends all processes as soon as one is gone. Each has so long to say why.
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_TO_SAY_WHY))
    code = _run()
    if launched:
        # Torn down in the usual way, a process of a group now and then aborts after all is done,
        # which its launcher would take for a lost one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    try:
        app()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except InterruptedRunError as error:
        console.print(str(error), style="yellow", highlight=False)
        return 130
    except LimbeckError as error:
        return _failed(str(error))
    except (FileExistsError, NotADirectoryError) as error:
        return _failed(f"{error.filename} is a file; give a folder, or another name for it")
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        return _failed(
            f"{error.filename or 'a file'}: {error.strerror}; make room, or give folders that may"
            " be read and written (-o, LIMBECK_CACHE), and run the command again: what is whole is"
            " kept"
        )
    return 0


def _failed(message: str) -> int:
    Console(stderr=True).print(f"error: {message}", style="red", highlight=False, markup=False)
    return 1


def _print_report(report: dict[str, Any], output: Path) -> None:
    print_table(report["name"], summary_table(report))
    console.print(headline(report), highlight=False)
    console.print(f"report: {output / 'report' / 'report.html'}", highlight=False)
    console.print(f"student: {output / 'student'}", highlight=False)

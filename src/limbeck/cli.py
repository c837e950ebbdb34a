"""The command line: parse, build, call, print."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as RichTable

from .assemble import build_accelerator
from .build import prepare
from .cached import write_cache
from .choices import CHOICES
from .compare import compare
from .demo import run_demo
from .errors import InterruptedRunError, LimbeckError
from .evaluation.comparison import comparison_headline
from .evaluation.comparison import tables as comparison_tables
from .evaluation.cost import measure_cost
from .evaluation.finetune import FinetuneSettings
from .evaluation.generation import GenerationSettings
from .evaluation.report import headline, summary_table
from .measure import evaluate_model
from .parse import read_recipe
from .plan import plan_tables, probe
from .pretrained import model_of_run
from .recipe import EvaluationPart
from .run import distill as distill_recipe
from .sample import write_samples
from .study import read_study
from .teacher.manifest import Kind
from .tokenization.learn import KINDS
from .vocabulary import (
    learn_vocabulary,
    trim_vocabulary,
    vocabulary_headline,
    vocabulary_table,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil Transformer language models, and prove what the student kept.",
)
vocabulary = typer.Typer(no_args_is_help=True, help="Make vocabularies for students.")
app.add_typer(vocabulary, name="vocabulary")
_console = Console(soft_wrap=False)
_Recipe = Annotated[Path, typer.Argument(help="The recipe, a YAML file.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field: stages.0.tokens=100000. May be repeated."),
]
_Texts = Annotated[list[str], typer.Argument(help="Text files or hub names.")]
_Folder = Annotated[Path, typer.Option("--output", "-o", help="The tokenizer's folder.")]
_Characters = Annotated[int | None, typer.Option(help="Read at most so many of each text.")]
_Output = Annotated[Path, typer.Option("--output", "-o", help="The run folder.")]


@app.command()
def demo(output: _Output = Path("runs/demo")) -> None:
    """Distil, compare and report on what ships with the package, in minutes."""
    _print_report(run_demo(output, console=_console), output)


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
        _print_table(heading, table)
    for warning in setup.warnings:
        _console.print(f"warning: {warning}", style="yellow")


@app.command()
def distill(recipe: _Recipe, output: _Output, set_: _Set = None) -> None:
    """Carry out a recipe; goes on by itself where the folder holds a part of the run."""
    run = distill_recipe(read_recipe(recipe, set_ or []), output, console=_console)
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
    kind = Kind(_one_of("logits", logits, ("exact", "top_k", "sampled")), pieces)
    accelerator = build_accelerator(setup.recipe, output)
    size = write_cache(setup, output, kind, accelerator, console=_console)
    accelerator.end_training()
    if accelerator.is_main_process:
        said = f"{output}: {size.total / 1e6:,.1f} MB, {size.bytes_a_token:,.1f} bytes a token"
        _console.print(said, highlight=False)


@app.command("compare")
def compare_(
    study: Annotated[Path, typer.Argument(help="The study, a YAML file.")],
    output: _Output,
    set_: _Set = None,
) -> None:
    """Train and measure several recipes alike; one table with intervals against the control."""
    report = compare(read_study(study, set_ or []), output, console=_console)
    for heading, table in comparison_tables(report):
        _print_table(heading, table)
    _console.print(comparison_headline(report), highlight=False)
    _console.print(f"report: {output / 'report' / 'report.html'}", highlight=False)


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
    cost: Annotated[bool, typer.Option(help="Measure size, memory and latency too.")] = False,
    threads: Annotated[int | None, typer.Option(help="For the cost.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep results here, and go on from them.")
    ] = None,
) -> None:
    """Score any model folder on tasks, several seeds; the last line is JSON.

    Encoders are fine-tuned first. Of decoders, tasks of prompts are answered as they are.
    """
    part = EvaluationPart(
        tasks=task or [],
        seeds=seeds,
        training_rows=rows,
        test_split=test_split,
        settings=FinetuneSettings(
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            max_length=max_length,
            pooling=_one_of("pooling", pooling, ("mean", "first")),
            precision=_one_of("precision", precision, ("bfloat16", "float32")),
        ),
        writing=GenerationSettings(response=response, temperature=temperature, rows=prompts),
    )
    model = model_of_run(model)
    scores = evaluate_model(model, part.tasks, part, results=output, console=_console)
    rows_ = [
        [name, score.metric, f"{100 * score.mean:.1f}", f"{100 * score.spread:.1f}"]
        for name, score in scores.items()
    ]
    _print_table(model, [["task", "metric", "mean", "spread"], *rows_])
    found: dict[str, Any] = {name: score.to_json() for name, score in scores.items()}
    if cost:
        found["cost"] = asdict(measure_cost(model, threads=threads))
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")


@app.command()
def sample(
    model: Annotated[str, typer.Argument(help="Folder or hub name of a decoder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="DIR/NAME of the files.")],
    rows: Annotated[int, typer.Option(min=2, help="Texts.")] = 2000,
    response: Annotated[int, typer.Option(help="Pieces of a text at most.")] = 256,
    temperature: float = 1.0,
    seed: int = 0,
) -> None:
    """Let a decoder write texts from nothing, as prompts for data-free distillation."""
    found = write_samples(
        model_of_run(model),
        output,
        rows=rows,
        response=response,
        temperature=temperature,
        seed=seed,
        console=_console,
    )
    for name, count in found.items():
        _console.print(f"{output.parent / name}: {count:,} texts", highlight=False)


@vocabulary.command()
def learn(
    text: _Texts,
    output: _Folder,
    size: Annotated[int, typer.Option(help="Pieces, special tokens included.")],
    like: Annotated[str | None, typer.Option(help="Treat text as this model does.")] = None,
    kind: Annotated[str, typer.Option(help=" or ".join(KINDS))] = "wordpiece",
    lowercase: Annotated[bool, typer.Option(help="All letters become small.")] = False,
    nested: Annotated[
        bool, typer.Option(help="With --like: no piece over a place where that model cuts.")
    ] = False,
    characters: _Characters = None,
) -> None:
    """Learn a tokenizer from text."""
    report = learn_vocabulary(
        text,
        output,
        size=size,
        like=like,
        kind=kind,
        lowercase=lowercase,
        nested=nested,
        characters=characters,
        console=_console,
    )
    _print_vocabulary(report, output)


@vocabulary.command()
def trim(
    model: Annotated[str, typer.Argument(help="Model folder, hub name or minilm-demo.")],
    text: _Texts,
    output: _Folder,
    size: Annotated[int | None, typer.Option(help="Pieces that stay; or give a share.")] = None,
    share: Annotated[
        float | None, typer.Option(help="Keep what makes up this share of the text, as 0.999.")
    ] = None,
    characters: _Characters = None,
) -> None:
    """Keep those pieces of a model's tokenizer that texts use most."""
    report = trim_vocabulary(
        model, text, output, size=size, share=share, characters=characters, console=_console
    )
    _print_vocabulary(report, output)


def _print_vocabulary(report: dict[str, Any], output: Path) -> None:
    _print_table("vocabulary", vocabulary_table(report))
    _console.print(vocabulary_headline(report), highlight=False)
    _console.print(f"tokenizer: {output}", highlight=False)


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(help=", ".join(CHOICES)),
    ],
) -> None:
    """List what there is to choose from."""
    _print_table(what, CHOICES[_one_of("list", what, tuple(CHOICES))]())


def main() -> None:
    """Run the command line; a mistake of the user's gives a message, not a traceback."""
    code = _run()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
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
        _console.print(str(error), style="yellow", highlight=False)
        return 130
    except LimbeckError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return 1
    return 0


def _one_of(name: str, value: str, choices: Sequence[str]) -> Any:
    if value not in choices:
        raise LimbeckError(f"{name} is {value!r}; use {' or '.join(choices)}")
    return value


def _print_report(report: dict[str, Any], output: Path) -> None:
    _print_table(report["name"], summary_table(report))
    _console.print(headline(report), highlight=False)
    _console.print(f"report: {output / 'report' / 'report.html'}", highlight=False)
    _console.print(f"student: {output / 'student'}", highlight=False)


def _print_table(heading: str, rows: list[list[str]]) -> None:
    table = RichTable(title=heading, title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(rows[0]):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows[1:]:
        table.add_row(*row)
    _console.print(table)
    _console.print()

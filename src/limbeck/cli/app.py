"""The command line: parse, build, call, print."""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InterruptedRunError, LimbeckError
from ..system.progress import showing
from ..system.threads import wait_passively
from .evaluate import evaluate
from .generate import generate
from .terminal import console, error_console, one_of, print_table
from .vocabulary import vocabulary

if TYPE_CHECKING:
    from ..recipe.check import Setup

# Each command imports what it runs when it runs, so that help and refusals come at once.
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil Transformer language models, and prove what the student kept.",
)
app.add_typer(vocabulary, name="vocabulary")
app.command()(evaluate)
app.command()(generate)
_Recipe = Annotated[Path, typer.Argument(help="The recipe, a YAML file.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field: stages.0.tokens=100000. May be repeated."),
]
_Output = Annotated[Path, typer.Option("--output", "-o", help="The run folder.")]
LISTS = ("objectives", "presets", "methods", "policies", "divergences", "layer-maps", "tasks")
_SECONDS_TO_SAY_WHY = 3
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


@app.command()
def demo(output: _Output = Path("runs/demo")) -> None:
    """Distil, compare and report on what ships with the package, in minutes."""
    from ..demo.run import explanation, run_demo

    report = run_demo(output, console=console)
    _print_report(report, output)
    for line in explanation(report, output):
        console.print(line, highlight=False)


@app.command()
def plan(
    recipe: _Recipe,
    set_: _Set = None,
    timed: Annotated[bool, typer.Option(help="Probe time and memory by ten steps.")] = True,
) -> None:
    """Show every problem of a recipe, or what it will do and cost."""
    setup = _prepared(recipe, set_)

    from ..run.plan import plan_tables, probe
    from ..run.prompt_batches import prompt_notes

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
    from ..recipe.parse import check_form, read_recipe

    raw = read_recipe(recipe, set_ or [])
    check_form(raw)

    from ..run.distill import distill as distill_recipe

    run = distill_recipe(raw, output, console=console)
    if run.report:  # of several processes, the first one alone has it
        _print_report(run.report, output)


@app.command()
def cache(
    recipe: _Recipe,
    output: _Output,
    set_: _Set = None,
    logits: Annotated[str, typer.Option(help="exact, top_k or sampled")] = "exact",
    top_k: Annotated[int, typer.Option(min=1, help="Of top_k: tokens kept of each place.")] = 64,
    num_samples: Annotated[
        int, typer.Option(min=1, help="Of sampled: tokens drawn at each place.")
    ] = 64,
) -> None:
    """Run a recipe's teacher once and keep its signals; goes on where the folder stands.

    They serve any student of this text: `teacher: {cache: FOLDER}` in its recipe.
    """
    setup = _prepared(recipe, set_)

    from ..run.cache import write_cache
    from ..run.models import build_accelerator
    from ..teacher.manifest import Kind

    kind = Kind(
        one_of("logits", logits, ("exact", "top_k", "sampled")),
        num_samples if logits == "sampled" else top_k,
    )
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
    from ..reports.comparison import comparison_headline, tables
    from ..study.arms import read_study
    from ..study.compare import compare

    report = compare(read_study(study, set_ or []), output, console=console)
    if not report:
        console.print(
            "no arm is left; the process that began first waits for all and reports (if it has"
            " ended, run the command again)"
        )
        return
    for heading, table in tables(report):
        print_table(heading, table)
    console.print(comparison_headline(report), highlight=False)
    console.print(f"report: {output / 'report' / 'report.html'}", highlight=False)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help=", ".join(LISTS))],
) -> None:
    """List what there is to choose from."""
    name = one_of("list", what, LISTS)

    from .choices import CHOICES

    print_table(name, CHOICES[name]())


def main() -> None:
    """Run the command line; a mistake of the user's gives a message, not a traceback."""
    wait_passively()
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
        with showing(console):
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
    error_console().print(f"error: {message}", style="red", highlight=False, markup=False)
    return 1


def _prepared(recipe: Path, overrides: list[str] | None) -> "Setup":
    """The setup of a recipe file; what is misspelt is refused before anything heavy is imported."""
    from ..recipe.parse import check_form, read_recipe

    raw = read_recipe(recipe, overrides or [])
    check_form(raw)

    from ..recipe.check import prepare

    return prepare(raw)


def _print_report(report: dict[str, Any], output: Path) -> None:
    from ..reports.report import headline, summary_table

    print_table(report["name"], summary_table(report))
    console.print(headline(report), highlight=False)
    console.print(f"report: {output / 'report' / 'report.html'}", highlight=False)
    console.print(f"student: {output / 'student'}", highlight=False)

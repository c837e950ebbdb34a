"""The commands, each a few lines: parse, build, call, print.

Each command imports what it runs when it runs, so that help and refusals come at once.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..system.child import end_with_parent
from ..system.launcher import check_one_process
from .augment import augment
from .doctor import doctor
from .evaluate import evaluate
from .export import export
from .finetune import finetune
from .generate import generate
from .init import init
from .inspect import inspect
from .lists import LISTS
from .pilot import pilot
from .plan_study import plan_study
from .push import push
from .terminal import console, one_of, print_report, print_study_report, print_table
from .vocabulary import vocabulary

if TYPE_CHECKING:
    from ..recipe.setup import Setup

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil Transformer language models, and measure what the student has kept.",
)
_Recipe = Annotated[Path, typer.Argument(help="The recipe, a YAML file.")]
_RecipeOrStudy = Annotated[
    Path, typer.Argument(metavar="recipe", help="The recipe, or the study, a YAML file.")
]
_Study = Annotated[Path, typer.Argument(help="The study, a YAML file.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field: stages.0.tokens=100000. May be repeated."),
]
_Run = Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="The run folder.")]
_Signals = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the signals are stored.")
]
_StudyFolder = Annotated[Path, typer.Option("--output", "-o", help="The study's folder.")]
_Processes = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many arms to train at once, each in a process of its own; by default one for each"
        " visible GPU, or one without a GPU. More processes than GPUs share them.",
    ),
]
_Timed = Annotated[bool, typer.Option(help="Train ten steps to estimate time and memory.")]
_Logits = Annotated[
    str | None,
    typer.Option(
        help="How to store predictions: exact (the default), top_k (the default and only way with a"
        " server) or sampled."
    ),
]
_TopK = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With top_k: tokens to store at each position; by default 64, or with a server what"
        " the recipe says.",
    ),
]
_Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Take predictions from an OpenAI-compatible server, as vLLM's."
    ),
]
_Samples = Annotated[
    int, typer.Option(min=1, help="With --logits sampled: tokens to draw at each position.")
]
_TOP_K = 64
# Each of several processes would do all of the work, and write the same files.
_TAKES_ONE_PROCESS = {
    "augment",
    "evaluate",
    "export",
    "finetune",
    "generate",
    "init",
    "push",
    "vocabulary",
}


@app.callback()
def _before_any(context: typer.Context) -> None:
    if (name := context.invoked_subcommand) in _TAKES_ONE_PROCESS:
        check_one_process(f"limbeck {name}")


@app.command()
def demo(output: _Run = Path("runs/demo")) -> None:
    """Distil, compare and report in minutes, on included data."""
    from ..demo.run import explanation, run_demo

    report = run_demo(output, console=console)
    print_report(report, output)
    for line in explanation(report, output):
        console.print(line, highlight=False)


app.command()(init)


@app.command()
def plan(recipe: _RecipeOrStudy, set_: _Set = None, timed: _Timed = True) -> None:
    """Check a recipe or study, and show what it will do and cost."""
    from ..recipe.read import is_study, read_recipe

    if is_study(read_recipe(recipe)):
        plan_study(recipe, set_, timed=timed)
        return
    setup = _prepared(recipe, set_)

    from ..run.cache import check_cache
    from ..run.plan import plan_tables
    from ..run.probe import probe
    from ..run.prompt_batches import prompt_notes
    from ..run.vllm import vllm_notes
    from ..system.progress import warn

    check_cache(setup)
    probes = [probe(setup, n) for n in range(len(setup.stages))] if timed else None
    for heading, table in plan_tables(setup, probes):
        print_table(heading, table)
    times = [f"{note}, whose time is not in these figures" for note in vllm_notes(setup)]
    for note in [*prompt_notes(setup), *times]:
        console.print(note, highlight=False)
    for warning in setup.warnings:
        warn(console, warning)


app.command()(pilot)


@app.command()
def distill(recipe: _Recipe, output: _Run, set_: _Set = None) -> None:
    """Carry out a recipe; resumes from the last checkpoint in RUN."""
    from ..recipe.parse import check_form
    from ..recipe.read import read_recipe

    raw = read_recipe(recipe, set_ or [])
    check_form(raw)

    from ..run.distill import distill as distill_recipe

    run = distill_recipe(raw, output, console=console)
    if run.report:  # of several processes, only the first has it
        print_report(run.report, output)


@app.command()
def cache(
    recipe: _Recipe,
    output: _Signals,
    set_: _Set = None,
    logits: _Logits = None,
    top_k: _TopK = None,
    num_samples: _Samples = 64,
    server: _Server = None,
) -> None:
    """Run a recipe's teacher once and store its signals in FOLDER.

    An interrupted command resumes. With `teacher: {cache: FOLDER}` in its recipe, any student can
    learn from the signals on the same text.
    """
    setup = _prepared(recipe, set_, server=server, top_k=top_k)

    from ..run.accelerator import build_accelerator
    from ..run.cache import write_cache
    from ..teacher.manifest import Kind

    served = setup.recipe.server
    logits = logits or ("top_k" if served else "exact")
    most_likely = top_k or (served.top_k if served else _TOP_K)
    kind = Kind(
        one_of("logits", logits, ("exact", "top_k", "sampled")),
        num_samples if logits == "sampled" else most_likely,
    )
    accelerator = build_accelerator(setup.recipe.training, output)
    size = write_cache(setup, output, kind, accelerator, console=console)
    accelerator.end_training()
    if accelerator.is_main_process:
        sizes = f"{size.total / 1e6:,.1f} MB, {size.bytes_a_token:,.1f} bytes a token"
        console.print(f"{output}: {sizes}", highlight=False, soft_wrap=True)


@app.command()
def compare(
    study: _Study,
    output: _StudyFolder,
    set_: _Set = None,
    num_processes: _Processes = None,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Train and measure several recipes; compare all with a control.

    Several processes train at once, one on each GPU. An interrupted command resumes.
    """
    from ..study.schema import check_study_form, read_study

    if worker:
        end_with_parent()
    raw = read_study(study, set_ or [])
    check_study_form(raw)

    from ..study.compare import compare as compare_arms

    report = compare_arms(raw, output, num_processes=num_processes, console=console)
    if not worker:
        print_study_report(report, output)


app.command()(finetune)
app.command()(evaluate)
app.command()(augment)
app.command()(generate)
app.command()(export)
app.command()(push)
app.command()(inspect)
app.command()(doctor)
app.add_typer(vocabulary, name="vocabulary")


@app.command("list")
def list_(
    what: Annotated[str | None, typer.Argument(help=", ".join(LISTS))] = None,
) -> None:
    """List what a recipe can choose from.

    Without WHAT it shows what there is to list.
    """
    if what is None:
        rows = [[name, listed.where, listed.about] for name, listed in LISTS.items()]
        print_table("limbeck list", [["WHAT", "stands in", "what it names"], *rows])
        return
    name = one_of("list", what, [*LISTS])

    from .choices import CHOICES

    print_table(name, CHOICES[name]())
    if more := LISTS[name].more:
        console.print(more, highlight=False, markup=False)


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes.

    Editors complete and check the keys of a recipe with it.
    """
    from ..recipe.json_schema import schema_text

    sys.stdout.write(schema_text())


def _prepared(
    recipe: Path,
    overrides: list[str] | None,
    *,
    server: str | None = None,
    top_k: int | None = None,
) -> "Setup":
    """The setup of a recipe file; a misspelt recipe is refused before torch is imported."""
    from ..recipe.parse import check_form
    from ..recipe.read import read_recipe
    from ..teacher.servers.settings import with_server

    raw = with_server(read_recipe(recipe, overrides or []), url=server, top_k=top_k)
    check_form(raw)

    from ..recipe.check import prepare

    return prepare(raw)

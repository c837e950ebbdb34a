"""The command that tells from a few short trainings whether a recipe is worth its time."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import RecipeError
from .terminal import console, print_table

_Recipe = Annotated[Path, typer.Argument(help="The recipe, a YAML file.")]
_Folder = Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field: stages.0.tokens=100000. May be repeated."),
]
_Budgets = Annotated[str, typer.Option(help="Shares of the recipe's steps, at least three.")]
_Seeds = Annotated[int, typer.Option(help="Trainings of each budget.")]
_Keep = Annotated[
    float,
    typer.Option(
        help="The share of its teacher's score that the student must reach to be worth it."
    ),
]
_Control = Annotated[
    bool, typer.Option(help="Train the control too: labels alone, where there are any.")
]


def pilot(
    recipe: _Recipe,
    output: _Folder,
    set_: _Set = None,
    budgets: _Budgets = "0.02,0.04,0.08",
    seeds: _Seeds = 2,
    keep: _Keep = 0.9,
    control: _Control = True,
) -> None:
    """Tell from short trainings whether a recipe is worth its time.

    Held-out loss and scores of the short trainings are continued by a power law. The verdict may
    be yes, no, or that it cannot be told. An interrupted command resumes.
    """
    from ..recipe.parse import check_form
    from ..recipe.read import read_recipe

    raw = read_recipe(recipe, set_ or [])
    check_form(raw)
    shares = _shares(budgets)

    from ..study.pilot import PilotSettings
    from ..study.pilot import pilot as carry_out
    from ..study.pilot_report import pilot_tables

    settings = PilotSettings(shares, seeds, keep, control)
    result = carry_out(raw, output, settings, console=console)
    for heading, table in pilot_tables(result):
        print_table(heading, table)
    console.print(f"worth the whole training: {result.verdict}", highlight=False)
    for reason in result.reasons:
        console.print(f"  {reason}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {output / 'pilot.md'}", highlight=False, soft_wrap=True)


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError as error:
        raise RecipeError(f"--budgets {text!r}: give numbers, as 0.02,0.04,0.08") from error

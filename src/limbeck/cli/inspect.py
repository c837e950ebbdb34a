"""The command that shows what limbeck finds in a model."""

import json
import sys
from typing import Annotated

import typer

from .terminal import console, print_table


def inspect(
    model: Annotated[
        str | None, typer.Argument(help="Folder, run folder, GGUF file or hub name.")
    ] = None,
    model_type: Annotated[
        str | None, typer.Option("--type", help="A type of models, in place of one: bert, cohere.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's layers, head and sizes, and what works with it.

    For a type that limbeck does not know, a tiny random model of it is looked at and tried.
    """
    from ..models.families.inspection import inspect_model, inspection_tables

    found = inspect_model(model, model_type=model_type)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
        return
    for heading, table in inspection_tables(found):
        print_table(heading, table)
    if found.row == "proposal":
        console.print(found.recipe, highlight=False, markup=False, soft_wrap=True)

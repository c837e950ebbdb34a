"""The command that looks at the machine and what is installed."""

import json
import sys
from typing import Annotated

import typer

from .terminal import console, print_table


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is wrong with this machine or installation.

    And what there is to work with: device, precision, threads, memory, disk, versions, extras and
    caches. Nothing is downloaded or changed.
    """
    from ..system.checkup.examined import examination_tables, examine

    found = examine()
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
        return
    if not found.problems:
        console.print("No problem was found.\n", style="green")
    for heading, table in examination_tables(found):
        print_table(heading, table)

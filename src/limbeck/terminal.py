"""What the commands print, and how they refuse a word."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from .errors import LimbeckError

console = Console(soft_wrap=False)


def one_of(name: str, value: str, choices: Sequence[str]) -> Any:
    """The value, if it is one of the choices.

    Raises:
        LimbeckError: It is not; says what is.
    """
    if value not in choices:
        raise LimbeckError(f"{name} is {value!r}; use {' or '.join(choices)}")
    return value


def print_table(heading: str, rows: list[list[str]]) -> None:
    """Show a table of which the first row names the columns."""
    table = RichTable(title=heading, title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(rows[0]):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)
    console.print()

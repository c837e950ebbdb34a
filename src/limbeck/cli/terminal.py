"""What the commands print, and how they refuse a word."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ..errors import LimbeckError
from ..reports.tables import Table, fitted, number_columns

console = Console(soft_wrap=False)


def error_console() -> Console:
    """Where errors go: never into what a command gives to the next one."""
    return Console(stderr=True)


def one_of(name: str, value: str, choices: Sequence[str]) -> Any:
    """The value, if it is one of the choices.

    Raises:
        LimbeckError: It is not; says what is.
    """
    if value not in choices:
        raise LimbeckError(f"{name} is {value!r}; use {' or '.join(choices)}")
    return value


def print_table(heading: str, rows: Table) -> None:
    """Show a table of which the first row names the columns.

    One that is wider than the terminal has its long cells broken between words, or is turned.
    """
    rows, widths = fitted(rows, console.width)
    table = RichTable(title=heading, title_justify="left", box=None, pad_edge=False, padding=(0, 1))
    for number, (column, numbers) in enumerate(zip(rows[0], number_columns(rows), strict=True)):
        table.add_column(
            column,
            justify="right" if numbers else "left",
            overflow="fold",
            width=widths[number] if widths else None,
        )
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)
    console.print()

"""What the commands print."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ..errors import LimbeckError, did_you_mean
from ..reports.tables import Table, fitted, number_columns

# Jupyter says that it is a terminal, and shows each move of a bar as a further line.
_TERMINAL = False if "JPY_PARENT_PID" in os.environ else None
# Names and texts of users are shown as they are: rich would leave out "[v2]" as a style, stop at
# "[/INST]", and draw ":fire:".
console = Console(soft_wrap=False, force_terminal=_TERMINAL, markup=False, emoji=False)


def error_console() -> Console:
    """The console of errors: they never go into what a command passes to the next one."""
    return Console(stderr=True, force_terminal=_TERMINAL, markup=False, emoji=False)


def one_of(name: str, value: str, choices: Sequence[str]) -> Any:
    """The value, if it is one of the choices.

    Raises:
        LimbeckError: It is not; the message names the nearest choice, or all.
    """
    if value not in choices:
        hint = did_you_mean(value, choices) or f"; use {' or '.join(choices)}"
        raise LimbeckError(f"{name} is {value!r}{hint}")
    return value


def print_table(heading: str, rows: Table) -> None:
    """Show a table, whose first row names the columns.

    A table that is wider than the terminal has its long cells broken between words, or has its
    rows and columns exchanged.
    """
    rows, widths = fitted(rows, console.width)
    table = RichTable(box=None, pad_edge=False, padding=(0, 1))
    for number, (column, numbers) in enumerate(zip(rows[0], number_columns(rows), strict=True)):
        table.add_column(
            Text(column),
            justify="right" if numbers else "left",
            overflow="fold",
            width=widths[number] if widths else None,
        )
    for row in rows[1:]:
        table.add_row(*map(Text, row))  # as limbeck[onnx], which is no markup
    # Not the table's title, which would be broken at the width of a narrow table.
    console.print(Text(heading), style="italic", highlight=False)
    console.print(table)
    console.print()


def print_report(report: Mapping[str, Any], output: Path) -> None:
    """Show the report of a run and where it is."""
    from ..reports.report import headline, summary_table
    from ..reports.run_results import RunResult

    result = RunResult.from_json(report)
    print_table(result.name, summary_table(result))
    console.print(headline(result), highlight=False)
    console.print(f"report: {output / 'report' / 'report.html'}", highlight=False, soft_wrap=True)
    console.print(f"student: {output / 'student'}", highlight=False, soft_wrap=True)


def print_study_report(report: Mapping[str, Any], output: Path) -> None:
    """Show the report of a study and where it is; without one, say which process will report."""
    from ..reports.comparison import comparison_headline, tables
    from ..reports.study_results import StudyResult

    if not report:
        console.print(
            "no arm is left; the process that began first waits for all others and reports (if"
            " it has ended, run the command again)"
        )
        return
    result = StudyResult.from_json(report)
    for heading, table in tables(result):
        print_table(heading, table)
    console.print(comparison_headline(result), highlight=False)
    console.print(f"report: {output / 'report' / 'report.html'}", highlight=False, soft_wrap=True)

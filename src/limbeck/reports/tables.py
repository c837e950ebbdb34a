"""The layout of a table of texts, wherever it is shown: alignment, widths, transposition."""

import re

from rich.cells import cell_len

Table = list[list[str]]  # the first row names the columns
_GAP = 2  # characters between columns
_LONGEST_WORD = 32  # longer ones, such as paths, may be broken
# How a cell of numbers begins; a unit, an interval or a deviation may follow. Names such as 6x256
# and 8-layers begin with a digit too.
_NUMBER = re.compile(r"^[<>~±+\-−]?\s?\.?\d[\d.,]*(e[+\-]?\d+)?[^\W\d_]*(?![\w-])")


def number_columns(table: Table) -> list[bool]:
    """Whether a column holds only numbers below its head; such a column is aligned to the right.

    >>> number_columns([["model", "ms", "note"], ["teacher", "1.5", ""], ["student", "", "3 x 4"]])
    [False, True, True]
    """
    columns = [[row[place] for row in table[1:] if row[place]] for place in range(len(table[0]))]
    return [bool(cells) and all(map(_NUMBER.match, cells)) for cells in columns]


def column_widths(table: Table, width: int) -> list[int] | None:
    """Widths of columns at which the table fits and no word is broken; None where there are none.

    Args:
        table: Its rows.
        width: Characters of a line.
    """
    columns = list(zip(*table, strict=True))
    least = [max(map(_longest_word, cells)) for cells in columns]
    most = [max(map(cell_len, cells)) for cells in columns]
    spare = width - sum(least) - _GAP * (len(columns) - 1)
    if spare < 0:
        return None
    widths = least
    while spare > 0 and widths != most:
        # One character after another goes to the column whose cells take the most lines.
        lines = [
            found / max(1, have) if found > have else 0
            for found, have in zip(most, widths, strict=True)
        ]
        place = lines.index(max(lines))
        widths = [have + (n == place) for n, have in enumerate(widths)]
        spare -= 1
    return widths


def turned(table: Table) -> Table:
    """The transposed table, which is easier to read where a table has few rows and many columns."""
    return [list(row) for row in zip(*table, strict=True)]


def fitted(table: Table, width: int) -> tuple[Table, list[int] | None]:
    """The table and its widths, transposed where it fits only then; no widths where neither fits.

    Args:
        table: Its rows.
        width: Characters of a line.
    """
    if widths := column_widths(table, width):
        return table, widths
    other = turned(table)
    if widths := column_widths(other, width):
        return other, widths
    return table, None


def _longest_word(text: str) -> int:
    return min(_LONGEST_WORD, max(map(cell_len, text.split()), default=0))

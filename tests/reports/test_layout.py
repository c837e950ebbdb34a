"""Tables fit a terminal without breaking words, and numbers stand at the right."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from limbeck.cli import terminal
from limbeck.reports.tables import column_widths, fitted, number_columns, turned

WIDE = [
    ["", "layers", "hidden", "heads", "intermediate", "vocabulary", "positions", "parameters",
     "of these embeddings"],
    ["teacher", "6", "384", "12", "1536", "30522", "512", "22.56M", "11.92M"],
    ["student", "3", "192", "6", "768", "4928", "512", "2.38M", "1.04M"],
]  # fmt: skip


def test_a_table_of_many_columns_is_turned():
    table, widths = fitted(WIDE, 80)
    assert table == turned(WIDE) and widths is not None and sum(widths) <= 80
    assert fitted(WIDE, 200)[0] == WIDE


def test_long_cells_are_broken_between_words(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=text, width=80))
    long = "teacher_layer 5, student_layer 2, pairs of queries, keys and values, heads 16" * 2
    terminal.print_table("Objectives", [["stage", "options"], ["intermediate", long]])
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert set(long.split()) <= set(text.getvalue().split())


def test_a_heading_may_be_wider_than_its_table(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=text, width=80))
    heading = "Answers that changed, by the class that torch gives [limbeck]"
    terminal.print_table(heading, [["class", "onnx"], ["negative", "2"]])
    assert text.getvalue().splitlines()[0] == heading


def test_one_that_cannot_fit_is_folded_and_loses_nothing(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=text, width=20))
    terminal.print_table("x", [["a" * 12, "b" * 12], ["c" * 12, "d" * 12]])
    shown = "".join(text.getvalue().split())
    assert all(shown.count(letter) == 12 for letter in "abcd")


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1.5", "", "−3"], True),
        (["97.1 ± 0.3", "88 %", "+0.2 (0.1 to 0.4)"], True),
        (["22.6M", "1.2 GB", "~3"], True),
        (["0: 1+3", "last"], False),
        (["nats per token", ""], False),
        (["2x384-30K", "6x144"], False),
        (["1e-05", "1,234 (5.0%)", "16 × 64", ".5", "3 min 2 s"], True),
        (["", ""], False),
    ],
)
def test_columns_of_numbers(cells, numbers):
    assert number_columns([["head"], *([cell] for cell in cells)]) == [numbers]


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(
            st.lists(st.text("ab ", max_size=30), min_size=n, max_size=n), min_size=1, max_size=4
        )
    ),
    st.integers(10, 90),
)
def test_widths_hold_every_word_and_the_line(table, width):
    widths = column_widths(table, width)
    if widths is None:
        return
    assert sum(widths) + 2 * (len(widths) - 1) <= width
    for place, have in enumerate(widths):
        assert all(len(word) <= have for row in table for word in row[place].split())

"""Without a terminal, a line every 30 seconds at most."""

import io

import pytest
from rich.console import Console

from limbeck.system.progress import ProgressBar, showing, told


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(ProgressBar, "_said", None)
    return now


def shown(clock, bar, *events):
    for after, done, total in events:
        clock[0] += after
        bar.show(done, total, "900 tokens/s  relations 0.5")


def test_a_line_every_30_seconds(clock):
    text = io.StringIO()
    console = Console(file=text, width=40)
    with ProgressBar("student", console=console, clock=lambda: clock[0]) as bar:
        shown(clock, bar, (0, 0, 100), (10, 10, 100), (19, 29, 100))
        assert text.getvalue() == ""
        shown(clock, bar, (1, 30, 100), (1, 31, 100), (29, 60, 100))
    assert text.getvalue().splitlines() == [
        "student: 30 of 100, 900 tokens/s  relations 0.5, 70 s left",
        "student: 60 of 100, 900 tokens/s  relations 0.5, 40 s left",
    ]


def test_many_short_jobs_are_reported_as_one(clock):
    text = io.StringIO()
    console = Console(file=text, width=80)
    for number in range(10):
        with ProgressBar(f"job {number}", console=console, clock=lambda: clock[0]) as bar:
            shown(clock, bar, (8, 1, None))
    assert [line.split(":")[0] for line in text.getvalue().splitlines()] == ["job 3", "job 7"]


def test_a_quiet_console_shows_nothing(clock):
    text = io.StringIO()
    with ProgressBar("x", console=Console(file=text, quiet=True), clock=lambda: clock[0]) as bar:
        shown(clock, bar, (0, 1, 9), (100, 2, 9))
    assert text.getvalue() == ""


def test_one_bar_at_a_time_on_a_terminal(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with showing(console):
        assert list(told([1, 2], "outer", "rows")) == [1, 2]
        with ProgressBar("outer", console=console) as bar:
            bar.show(1, 2, "")
            assert list(told(iter("ab"), "inner", "rows")) == ["a", "b"]
    assert "outer" in text.getvalue() and "inner" not in text.getvalue()


def test_without_a_console_items_pass_through():
    assert list(told(range(3), "x", "rows")) == [0, 1, 2]


def test_a_line_says_what_is_counted(clock):
    text = io.StringIO()
    bar = ProgressBar(
        "tokenizing", console=Console(file=text), unit="documents", clock=lambda: clock[0]
    )
    clock[0] += 30
    bar.show(1200, None, "")
    assert text.getvalue() == "tokenizing: 1,200 documents\n"

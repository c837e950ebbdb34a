"""How the values of searched fields were chosen: a table for each student, and warnings."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from .page import words
from .study_search import ArmSearch, SearchTraining
from .tables import Table


def search_tables(searches: Sequence[ArmSearch]) -> list[tuple[str, Table]]:
    """What was tried for the arms of each student, with headings; none without a search."""
    found = []
    for student, mine in groupby(
        sorted(searches, key=lambda search: search.student), key=lambda search: search.student
    ):
        heading = f"{student}: values chosen on held-out rows, by one training each"
        found.append((heading, _table(list(mine))))
    return found


def search_notes(searches: Sequence[ArmSearch]) -> list[str]:
    """How values were chosen, and where the best may lie beyond them."""
    if not searches:
        return []
    names = ", ".join(searches[0].best.values)
    grid = len(searches[0].trainings)
    notes = [
        f"search: {names} of every arm and of the control were chosen by {grid} trainings with the"
        f" first seed, {_decided(searches)}; scored rows were not read for it"
    ]
    return [*notes, *(f"search: {limit}" for search in searches for limit in search.limits())]


def _decided(searches: Sequence[ArmSearch]) -> str:
    """By what, on what."""
    found = dict.fromkeys((search.metric, search.rows) for search in searches)
    return " and ".join(
        f"by {words(metric)} with its own head on {rows:,} held-out rows"
        if metric
        else "by the arm's own loss on what is held out"
        for metric, rows in found
    )


def _table(searches: Sequence[ArmSearch]) -> Table:
    """A row for each training: the values, what they gave, and which were chosen."""
    names = list(searches[0].best.values)
    measures = list(dict.fromkeys(search.metric for search in searches if search.metric))
    table: Table = [
        ["arm", *names, *(f"{words(name)} × 100" for name in measures), "held-out loss", "chosen"]
    ]
    for search in searches:
        for number, training in enumerate(search.trainings):
            scores = [_score(training, search.metric == name) for name in measures]
            loss = "not finite" if training.loss is None else f"{training.loss:.4g}"
            chosen = "chosen" if number == search.chosen else ""
            values = [_shown(training.values[name]) for name in names]
            table.append([search.arm, *values, *scores, loss, chosen])
    return table


def _score(training: SearchTraining, of_this: bool) -> str:
    return f"{100 * training.score:.1f}" if of_this and training.score is not None else ""


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Tables of two vocabularies: what tokens mean, how texts are tokenized, what is predicted."""

from collections.abc import Mapping
from typing import Any

from .page import cell
from .tables import Table

_SIDES = ("teacher", "student")
_READINGS = "One held-out sentence in the tokens of both, split where both have a boundary"
_NEIGHBOURS = "What student tokens mean to the teacher that learned both vocabularies"


def vocabulary_tables(report: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Tables of two vocabularies, with their headings; the first row of each is its head."""
    readings = report.get("two_readings")
    return [
        (_NEIGHBOURS, _neighbour_table(report.get("neighbours"))),
        ("Training text in the tokens of both", _words_table(report.get("cuts") or {})),
        (_READINGS, _group_table(readings)),
        ("What both expect at the hidden word", _expectation_table(readings)),
    ]


def _neighbour_table(found: Mapping[str, Any] | None) -> Table:
    head = ["student token", "nearest teacher tokens, with cosines"]
    if not found:
        return [head]
    rows = [
        [token, ", ".join(f"{name} {cosine:.2f}" for name, cosine in nearest)]
        for token, nearest in found["nearest"]
    ]
    shared = f"{found['shared']} tokens of both: the nearest is the same token"
    return [head, [shared, f"{found['itself']:.1%}"], *rows]


def _words_table(counted: Mapping[str, Mapping[str, int]]) -> Table:
    head = ["stage", "words", "only in the teacher's tokens", "only in the student's", "too long"]
    keys = ("words", "to_teacher", "to_student", "too_long")
    kinds = ("one_to_one", "grouped", "alone")
    rows = []
    for stage, found in counted.items():
        tokens = max(1, sum(found.get(kind, 0) for kind in kinds))
        shares = [f"{cell(found[k])} ({found[k] / tokens:.1%})" for k in kinds if k in found]
        rows.append([stage, *(cell(found.get(key)) for key in keys), *shares])
    return [[*head, "tokens one to one", "grouped", "alone"], *rows]


def _group_table(found: Mapping[str, Any] | None) -> Table:
    groups = found["groups"] if found else []
    rows = [
        [role, *(" ".join(tokens[side]) for tokens in groups)] for side, role in enumerate(_SIDES)
    ]
    return [["", *map(str, range(1, len(groups) + 1))], *(rows if groups else [])]


def _expectation_table(found: Mapping[str, Any] | None) -> Table:
    rows: Table = [["", "in place of", "expected"]]
    if found:
        for role, gaps in found["expected"].items():
            for number, best in enumerate(gaps):
                said = ", ".join(f"{token} {share:.0%}" for token, share in best)
                rows.append([role, f"{found['hidden']}, gap {number + 1}", said])
    return rows

"""Tables of two vocabularies: what tokens mean, how texts are tokenized, what is predicted."""

from collections.abc import Mapping

from .page import cell
from .run_results import RunResult
from .tables import Table
from .vocabulary_results import NearestTokens, SentenceInBoth, TokenizedTwice

_SIDES = ("teacher", "student")
_READINGS = "One held-out sentence in the tokens of both, split where both have a boundary"
_NEIGHBOURS = "What student tokens mean to the teacher that learned both vocabularies"


def vocabulary_tables(result: RunResult) -> list[tuple[str, Table]]:
    """Tables of two vocabularies, with their headings; the first row of each is its head."""
    return [
        (_NEIGHBOURS, _neighbour_table(result.neighbours)),
        ("Training text in the tokens of both", _words_table(result.token_counts)),
        (_READINGS, _group_table(result.two_readings)),
        ("What both expect at the hidden word", _expectation_table(result.two_readings)),
    ]


def _neighbour_table(found: NearestTokens | None) -> Table:
    head = ["student token", "nearest teacher tokens, with cosines"]
    if not found:
        return [head]
    rows = [
        [token, ", ".join(f"{name} {cosine:.2f}" for name, cosine in nearest)]
        for token, nearest in found.nearest
    ]
    shared = f"{found.shared} tokens of both: the nearest is the same token"
    return [head, [shared, f"{found.itself:.1%}"], *rows]


def _words_table(counted: Mapping[str, TokenizedTwice]) -> Table:
    head = ["stage", "words", "only in the teacher's tokens", "only in the student's", "too long"]
    rows = []
    for stage, found in counted.items():
        words = (found.words, found.to_teacher, found.to_student, found.too_long)
        tokens = (found.one_to_one, found.grouped, found.alone)
        shares = [f"{cell(count)} ({count / max(1, sum(tokens)):.1%})" for count in tokens]
        rows.append([stage, *map(cell, words), *shares])
    return [[*head, "tokens one to one", "grouped", "alone"], *rows]


def _group_table(found: SentenceInBoth | None) -> Table:
    groups = found.groups if found else []
    rows = [
        [role, *(" ".join(tokens[side]) for tokens in groups)] for side, role in enumerate(_SIDES)
    ]
    return [["", *map(str, range(1, len(groups) + 1))], *(rows if groups else [])]


def _expectation_table(found: SentenceInBoth | None) -> Table:
    rows: Table = [["", "in place of", "expected"]]
    if found:
        for role, gaps in found.expected.items():
            for number, best in enumerate(gaps):
                said = ", ".join(f"{token} {share:.0%}" for token, share in best)
                rows.append([role, f"{found.hidden}, gap {number + 1}", said])
    return rows

"""Rows without labels, made of the training rows of a task and written to one file."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..errors import DataError
from ..evaluation.leaks import key_of
from ..evaluation.tasks import Example
from ..system.files import write_text
from ..system.progress import showing
from .masked_words import load_masked_model, replaced
from .pairs import different_texts, edited_pairs, near_pairs
from .row_texts import texts_of, with_texts
from .settings import AugmentSettings
from .source_rows import SourceRows, check_forms, check_output, read_source_rows
from .spans import join_spans

MASKED, SPANS = "words replaced", "spans joined"
NEIGHBORS, EDITS = "texts that share words", "a text and its edits"
# Why a row is not among the new ones; the first that holds is counted.
NO_WORD = "without a word to replace"
SCORED = "as a scored row"
KNOWN = "as a training row"
TWICE = "made before"
ALIKE = "a pair of equal texts"
_TEXTS_AT_ONCE = 20_000  # of source rows, so that not all candidates are held
# Of which way each is, and None where the row has no place for one.
Made = Iterator[tuple[str, Example | None]]


@dataclass(frozen=True)
class Augmented:
    """What was made.

    Attributes:
        kept: Rows that were written, by the way they were made.
        dropped: Of each way, how many were not, and why.
        notes: What was read, in sentences.
    """

    kept: Mapping[str, int]
    dropped: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...]


def augment(
    locations: Sequence[Any],
    output: Path | str,
    settings: AugmentSettings,
    *,
    scored: Sequence[Any] = (),
    console: Console | None = None,
) -> Augmented:
    """Make rows without labels, write them to one file, and count them.

    The same arguments give the same bytes. No row has the normalised text of a scored row, of a
    training row or of another new row, and no pair has two equal texts.

    Args:
        locations: Tasks, or rows without labels, as of `load_task`; their training rows are used.
        output: A file that is not there yet, .jsonl.
        settings: How rows are made.
        scored: Tasks whose scored rows must not be made either, or files of such rows.
        console: For the progress bar.

    Raises:
        DataError: Settings, rows or output are refused, or no row can be made.
        ModelError: The model has no masked-language-model head or no mask token.
    """
    settings.check()
    output = Path(output)
    check_output(output, locations)
    source = read_source_rows(locations, scored, predict=settings.predict)
    into_pairs = settings.neighbors or settings.edits
    check_forms(source.rows, of_rows=settings.of_rows, into_pairs=into_pairs)
    if settings.spans and len(source.rows) < 2:
        raise DataError(f"spans of {len(source.rows)} row cannot be joined; give 2 rows or more")
    if into_pairs and (count := len(different_texts(source.rows))) < 2:
        raise DataError(f"{count} text cannot be paired; give 2 texts or more that differ")
    with showing(console or Console(quiet=True, markup=False)):
        lines, kept, dropped = _new_rows(source, settings)
    if not lines:
        reasons = Counter(reason for counts in dropped.values() for reason in counts)
        raise DataError(
            f"no new row can be made of {len(source.rows)} row(s): all are"
            f" {', '.join(sorted(reasons)) or 'unlike'}; give longer or more rows, or"
            " join spans (--spans) where no word can be replaced, or a lower --min-similarity"
        )
    write_text(output, "".join(lines))
    return Augmented(kept, dropped, _notes(source))


def _new_rows(
    source: SourceRows, settings: AugmentSettings
) -> tuple[list[str], dict[str, int], dict[str, Counter[str]]]:
    """Lines of the new rows; how many each way made, and how many it did not make and why."""
    scored, known = ({key_of(row) for row in rows} for rows in (source.scored, source.rows))
    lines: list[str] = []
    made: set[tuple[str, ...]] = set()
    chosen = {
        MASKED: settings.masked is not None,
        SPANS: settings.spans,
        NEIGHBORS: settings.neighbors,
        EDITS: settings.edits,
    }
    ways = [way for way, is_chosen in chosen.items() if is_chosen]
    kept = dict.fromkeys(ways, 0)
    dropped: dict[str, Counter[str]] = {way: Counter() for way in ways}
    of_texts = _of_texts(source.rows, settings, known)
    for way, row in chain(_of_rows(source.rows, settings), of_texts):
        if row is None:
            dropped[way][NO_WORD] += 1
            continue
        key = key_of(row)
        places = {SCORED: scored, KNOWN: known, TWICE: made}
        alike = ALIKE if row.text_pair is not None and len(set(key)) == 1 else None
        if reason := next((name for name, keys in places.items() if key in keys), alike):
            dropped[way][reason] += 1
            continue
        made.add(key)
        kept[way] += 1
        lines.append(_line(row))
    return lines, kept, dropped


def _of_texts(
    rows: Sequence[Example], settings: AugmentSettings, passed_over: set[tuple[str, ...]]
) -> Made:
    """Pairs of the texts that the rows consist of, duplicates among them."""
    texts, copies, seed = different_texts(rows), settings.copies, settings.seed
    if settings.neighbors:
        near = near_pairs(
            texts,
            copies=copies,
            min_similarity=settings.min_similarity,
            seed=seed,
            passed_over=passed_over,
        )
        yield from ((NEIGHBORS, row) for row in near)
    if settings.edits:
        yield from ((EDITS, row) for row in edited_pairs(texts, copies=copies, seed=seed))


def _of_rows(rows: Sequence[Example], settings: AugmentSettings) -> Made:
    """New rows in the order of the rows that they are made of, duplicates among them."""
    if not settings.of_rows:
        return
    model = None
    if settings.masked is not None:
        model = load_masked_model(settings.masked, settings)
    copies, seed = settings.copies, settings.seed
    for start in range(0, len(rows), _TEXTS_AT_ONCE):
        some = [texts_of(row) for row in rows[start : start + _TEXTS_AT_ONCE]]
        candidates = None
        if model is not None:
            candidates = iter(
                model.candidates(
                    [text for texts in some for text in texts],
                    top_k=settings.top_k,
                    batch_size=settings.batch_size,
                )
            )
        for number, texts in enumerate(some, start):
            of_texts = [next(candidates) for _ in texts] if candidates is not None else None
            for copy in range(copies if of_texts is not None else 0):
                chance = np.random.default_rng((seed, number, copy))
                new = replaced(texts, of_texts or (), chance, replace_prob=settings.replace_prob)
                yield MASKED, None if new is None else with_texts(rows[number], new)
            if settings.spans:
                joined = join_spans(rows, number, copies=copies, seed=seed)
                yield from ((SPANS, row) for row in joined)


def _line(row: Example) -> str:
    """A row as a line of JSON, without label and tags."""
    fields = {"text": row.text, "text_pair": row.text_pair, "tokens": row.words}
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(given, ensure_ascii=False) + "\n"


def _notes(source: SourceRows) -> tuple[str, ...]:
    if not source.left_out:
        return source.notes
    are = "1 is" if source.left_out == 1 else f"{source.left_out:,} are"
    total = len(source.rows) + source.left_out
    return (
        *source.notes,
        f"of {total:,} training rows {are} scored too, by normalised text, and nothing is made of"
        " them",
    )

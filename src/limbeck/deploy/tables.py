"""The report of an export: JSON for programs, Markdown, and one HTML page."""

import html
import json
from collections.abc import Sequence

from ..reports.page import page
from ..reports.report import finite, markdown_table
from ..reports.tables import Table
from .results import Candidate, ExportResult, Scored, Times

RESULT = "export.json"
_TORCH = "torch float32"
_MOST_FLIPS = 12  # classes in the table: those with the most


def report_files(result: ExportResult) -> dict[str, str]:
    """The contents of export.json, export.md and export.html, by name."""
    return {
        RESULT: json.dumps(finite(result.to_json()), indent=1, ensure_ascii=False) + "\n",
        "export.md": _markdown(result),
        "export.html": page(
            result.model, headline(result), export_tables(result), [], _notes(result)
        ),
    }


def headline(result: ExportResult) -> str:
    """The result in a sentence or two."""
    written = [one.format for one in result.candidates if one.file]
    if not written:
        return (
            f"No file keeps {100 * result.keep:g} % of {result.model}, so none was written;"
            " --force writes them all the same."
        )
    said = f"Written: {', '.join(written)}; limbeck.load runs {result.default}."
    if dropped := [one.format for one in result.candidates if not one.file]:
        said += f" Not written: {', '.join(dropped)}."
    return said


def export_tables(result: ExportResult) -> list[tuple[str, Table]]:
    """All tables, with headings; the first row of each is its head."""
    tables = [
        ("Files", _files(result)),
        (f"Scores on tasks (x 100), {result.kind}", _scores(result)),
        (f"Difference to {_TORCH} on {result.texts}", _differences(result.candidates)),
        (f"Milliseconds on the processor, {_threads(result.threads)}", _times(result)),
        ("Answers that changed, by the class that torch gives", _flips(result.candidates)),
    ]
    if result.left_out:
        tables.append(("Left out", [["format", "why"], *map(list, result.left_out.items())]))
    return [(heading, table) for heading, table in tables if len(table) > 1 and len(table[0]) > 1]


def _files(result: ExportResult) -> Table:
    return [
        ["format", "file", "MB", "exact on", "verdict"],
        [_TORCH, "", f"{result.megabytes:.1f}", "", ""],
        *(
            [one.format, one.file or "", f"{one.megabytes:.1f}", one.exact_on, one.verdict]
            for one in result.candidates
        ),
    ]


def _scores(result: ExportResult) -> Table:
    head = ["format", *(f"{one.task}, {one.metric} ({one.rows:,} rows)" for one in result.scores)]
    rows = [(_TORCH, result.scores), *((one.format, one.scores) for one in result.candidates)]
    return [head, *([name, *map(_score, scores)] for name, scores in rows)]


def _score(found: Scored) -> str:
    one = found.score
    return f"{100 * one.score:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})"


def _differences(candidates: Sequence[Candidate]) -> Table:
    return [
        ["format", "largest", "mean", "agreement", "cosine", "a text alone or in a batch"],
        *(
            [
                one.format,
                f"{one.difference.largest:.2g}",
                f"{one.difference.mean:.2g}",
                _percent(one.difference.agreement),
                "" if one.difference.cosine is None else f"{one.difference.cosine:.5f}",
                f"{one.difference.alone:.2g}",
            ]
            for one in candidates
        ),
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def _times(result: ExportResult) -> Table:
    timed = [(_TORCH, result.times), *((one.format, one.times) for one in result.candidates)]
    places = [row[:2] for row in result.times.rows] if result.times else []
    head = ["format", "cold start", *(f"{batch} x {length}: p50, p95" for batch, length in places)]
    return [head, *([name, *_shown(times)] for name, times in timed if times)]


def _shown(times: Times) -> list[str]:
    cold = "" if times.cold is None else f"{1000 * times.cold:.0f}"
    return [cold, *(f"{1000 * p50:.2f}, {1000 * p95:.2f}" for _, _, p50, p95 in times.rows)]


def _flips(candidates: Sequence[Candidate]) -> Table:
    labels = list(dict.fromkeys(label for one in candidates for label in one.difference.flips))
    return [
        ["class", *(one.format for one in candidates)],
        *(
            [label, *(str(one.difference.flips.get(label, 0)) for one in candidates)]
            for label in labels[:_MOST_FLIPS]
        ),
    ]


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _notes(result: ExportResult) -> list[str]:
    return [
        f"processor: {result.processor}",
        *([f"8-bit weights: {result.int8}"] if result.int8 else []),
        "dynamic int8 scales the activations of a whole batch at once, so that a text in a batch"
        " may differ from the same text alone",
        "cold start: importing the engine, loading the file and the first answer",
    ]


def _markdown(result: ExportResult) -> str:
    lines = [f"# {html.escape(result.model, quote=False)}", "", headline(result), ""]
    for heading, table in export_tables(result):
        lines += [f"## {heading}", "", *markdown_table(table)]
    return "\n".join([*lines, *(f"- {note}" for note in _notes(result))]) + "\n"

"""The report of an export: JSON for programs, Markdown, and one HTML page."""

import html
import json
from collections.abc import Sequence

from ...export.origin import licence_warnings
from ...reports.page import page
from ...reports.report import finite, markdown_table
from ...reports.tables import Table
from ..results import RESULT, Candidate, Difference, ExportResult, Scored, Times, kept_share
from .plots import export_plots

TORCH = "torch float32"
ANY_PROCESSOR = "any processor"
_MOST_FLIPS = 12  # classes in the table: those with the most


def report_files(result: ExportResult) -> dict[str, str]:
    """The contents of export.json, export.md and export.html, by name."""
    tables, notes = export_tables(result), _notes(result)
    return {
        RESULT: json.dumps(finite(result.to_json()), indent=1, ensure_ascii=False) + "\n",
        "export.md": _markdown(result),
        "export.html": page(result.model, headline(result), tables, export_plots(result), notes),
    }


def headline(result: ExportResult) -> str:
    """The result in a few sentences."""
    best = next((one for one in result.candidates if one.format == result.default), None)
    if best is None:
        return (
            f"No file keeps {100 * result.keep:g} % of {result.model}, so none was written;"
            " --force writes them all the same."
        )
    said = [
        f"limbeck.load runs {best.format}: {best.verdict}, {best.megabytes:.1f} MB"
        f" (torch {result.megabytes:.1f})" + _speed(result, best) + "."
    ]
    if others := [one.format for one in result.candidates if one.file and one is not best]:
        said.append(f"Written, too: {', '.join(others)}.")
    for one in result.candidates:
        if not one.file:
            said.append(f"{one.format} was {one.verdict}.")
    return " ".join(said)


def export_tables(result: ExportResult) -> list[tuple[str, Table]]:
    """All tables, with headings; the first row of each is its head."""
    limited = [one for one in result.candidates if one.exact_on != ANY_PROCESSOR]
    exact = [[one.format, one.exact_on] for one in limited]
    tables = [
        (_files_heading(result), _files(result)),
        ("Scores (x 100, 95 % interval over redrawn rows)", _scores(result)),
        (f"Difference to {TORCH} on {result.texts}", _differences(result.candidates)),
        *_times(result),
        ("Answers that changed, by the class that torch gives", _flips(result.candidates)),
        ("Where sums of 8 bits are exact", [["format", "exact on"], *exact]),
        ("Left out", [["format", "why"], *map(list, result.left_out.items())]),
    ]
    return [(heading, table) for heading, table in tables if len(table) > 1 and len(table[0]) > 1]


def score_text(found: Scored) -> str:
    """A score x 100 with its interval."""
    one = found.score
    return f"{100 * one.score:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})"


def _files_heading(result: ExportResult) -> str:
    if result.shortest is None:
        return "Files"
    return f"Files (milliseconds of {_amount(*result.shortest)}, {_threads(result.threads)})"


def _files(result: ExportResult) -> Table:
    """Every file in a row: size, what it keeps, milliseconds, and whether it was written."""
    head = ["format", "file", "MB", "keeps", "ms", "torch ÷ file", "cold start, ms", "written"]
    rows = [[TORCH, "", f"{result.megabytes:.1f}", "", *_first_times(result, result.times), ""]]
    for one in result.candidates:
        times = _first_times(result, one.times)
        size = f"{one.megabytes:.1f}"
        rows.append([one.format, one.file or "", size, _kept(result, one), *times, _written(one)])
    return _without_empty([head, *rows])


def _speed(result: ExportResult, one: Candidate) -> str:
    own, torch = result.shortest_of(one.times), result.shortest_of(result.times)
    if result.shortest is None or own is None or torch is None:
        return ""
    return f", {1000 * own:.3g} ms for {_amount(*result.shortest)} (torch {1000 * torch:.3g})"


def _amount(batch: int, length: int) -> str:
    texts = "1 text" if batch == 1 else f"{batch} texts"
    return f"{texts} of {length} {'token' if length == 1 else 'tokens'}"


def _first_times(result: ExportResult, times: Times | None) -> list[str]:
    """Milliseconds of one short text, how often torch takes as long, and the cold start."""
    own, torch = result.shortest_of(times), result.shortest_of(result.times)
    if times is None or own is None or torch is None:
        return ["", "", ""]
    cold = "" if times.cold is None else f"{1000 * times.cold:.0f}"
    return [f"{1000 * own:.2f}", f"{torch / own:.1f}" if times is not result.times else "", cold]


def _kept(result: ExportResult, one: Candidate) -> str:
    """The share that a file keeps; of which score only where this differs among the files."""
    if one.difference.largest == float("inf"):
        return ""
    of = f" ({_kept_of(result, one)})" if len(_all_kept_of(result)) > 1 else ""
    return f"{100 * one.kept:.2f} %{of}"


def _kept_of(result: ExportResult, one: Candidate) -> str:
    return kept_share(one.difference, one.scores, result.scores)[1]


def _all_kept_of(result: ExportResult) -> set[str]:
    finite_ones = [one for one in result.candidates if one.difference.largest < float("inf")]
    return {_kept_of(result, one) for one in finite_ones}


def _written(one: Candidate) -> str:
    if one.file:
        return "by --force" if "--force" in one.verdict else "yes"
    less = "less than" in one.verdict
    return "no: below --keep" if less else f"no: {one.verdict.removeprefix('not written: ')}"


def _scores(result: ExportResult) -> Table:
    head = ["format", *(f"{one.task}, {one.metric} ({one.rows:,} rows)" for one in result.scores)]
    rows = [(TORCH, result.scores), *((one.format, one.scores) for one in result.candidates)]
    none = [""] * len(result.scores)  # of a file whose numbers are not finite
    return [
        head,
        *([name, *(map(score_text, scores) if scores else none)] for name, scores in rows),
    ]


def _differences(candidates: Sequence[Candidate]) -> Table:
    head = ["format", "largest", "mean", "agreement", "R²", "cosine", "bits a token (torch)"]
    head.append("a text alone or in a batch")
    rows = [
        [
            one.format,
            f"{one.difference.largest:.2g}",
            f"{one.difference.mean:.2g}",
            _percent(one.difference.agreement),
            _five_digits(one.difference.r_squared),
            _five_digits(one.difference.cosine),
            _bits(one.difference),
            f"{one.difference.alone:.2g}",
        ]
        for one in candidates
    ]
    return _without_empty([head, *rows])


def _bits(difference: Difference) -> str:
    if difference.bits is None:
        return ""
    exact, found = difference.bits
    return f"{found:.4f} ({exact:.4f})"


def _five_digits(number: float | None) -> str:
    return "" if number is None else f"{number:.5f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def _times(result: ExportResult) -> list[tuple[str, Table]]:
    """A table for each length of texts: median and 95th percentile by the number of texts."""
    timed = [(TORCH, result.times), *((one.format, one.times) for one in result.candidates)]
    places = [row[:2] for row in result.times.rows] if result.times else []
    tables: list[tuple[str, Table]] = []
    for length in dict.fromkeys(tokens for _, tokens in places):
        at = [place for place in places if place[1] == length]
        heads = ["1 text" if batch == 1 else f"{batch} texts" for batch, _ in at]
        rows = [
            [name, *(_milliseconds(times, place) for place in at)] for name, times in timed if times
        ]
        amount = _amount(1, length).removeprefix("1 text of ")
        heading = (
            f"Milliseconds, texts of {amount}, {_threads(result.threads)}: median, 95th percentile"
        )
        tables.append((heading, [["format", *heads], *rows]))
    return tables


def _milliseconds(times: Times, place: tuple[int, int]) -> str:
    found = [(p50, p95) for *at, p50, p95 in times.rows if tuple(at) == place]
    return ", ".join(_digits(1000 * seconds) for seconds in found[0]) if found else ""


def _digits(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds < 100 else f"{milliseconds:,.0f}"


def _flips(candidates: Sequence[Candidate]) -> Table:
    changed = [one for one in candidates if one.difference.flips]
    labels = list(dict.fromkeys(label for one in changed for label in one.difference.flips))
    return [
        ["class", *(one.format for one in changed)],
        *(
            [label, *(str(one.difference.flips.get(label, 0)) for one in changed)]
            for label in labels[:_MOST_FLIPS]
        ),
    ]


def _without_empty(table: Table) -> Table:
    """The columns that have something below their head."""
    kept = [place for place in range(len(table[0])) if any(row[place] for row in table[1:])]
    return [[row[place] for place in kept] for row in table]


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _notes(result: ExportResult) -> list[str]:
    refused = any(not one.file for one in result.candidates)
    return [
        *(f"warning: {warning}" for warning in licence_warnings(result.origins)),
        *result.notes,
        f"processor: {result.processor}",
        *([f"8-bit weights: {result.int8}"] if result.int8 else []),
        *(f"keeps: {of}" for of in sorted(_all_kept_of(result))),
        "dynamic int8 scales the activations of a whole batch at once, so that a text in a batch"
        " may differ from the same text alone",
        "milliseconds: random tokens without padding; what takes over 2 seconds is timed once",
        *(["bars of files that were not written are orange"] if refused else []),
        "torch ÷ file: how many times as long torch takes in float32",
        "cold start: importing the engine, loading the file and the first answer",
    ]


def _markdown(result: ExportResult) -> str:
    lines = [f"# {html.escape(result.model, quote=False)}", ""]
    lines += [html.escape(headline(result), quote=False), ""]
    for heading, table in export_tables(result):
        lines += [f"## {html.escape(heading, quote=False)}", "", *markdown_table(table)]
    notes = (f"- {html.escape(note, quote=False)}" for note in _notes(result))
    return "\n".join([*lines, *notes]) + "\n"

"""The report of a run: JSON for programs, Markdown for a repository, HTML for a person.

The page is one file without links to anything outside it.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from ..system.files import write_texts
from .generation import PLAIN_METRICS, generation_tables, share_plot
from .page import ROLES, Records, cell, curves, page, plots
from .tables import Table, number_columns
from .vocabularies import vocabulary_tables

__all__ = [
    "ROLES",
    "headline",
    "mean_scores",
    "quality_lines",
    "summary_table",
    "tables",
    "write_report",
]

Report = Mapping[str, Any]
_NAMES = {
    "name": "name",
    "parameters": "parameters",
    "embedding_parameters": "embeddings",
    "vocabulary_size": "vocabulary",
    "megabytes": "MB",
    "peak_memory_bytes": "peak memory",
    "pieces_per_sentence": "tokens a sentence",
    "cpu_ms_per_sentence": "ms a sentence",
    "cpu_ms_per_written_piece": "ms a generated token",
    "threads": "threads",
}
_OF_SOME = ("cpu_ms_per_written_piece",)  # a column only where a model has it
SIZES = (
    "parameters",
    "embedding_parameters",
    "megabytes",
    "vocabulary_size",
    "pieces_per_sentence",
    "cpu_ms_per_sentence",
    "cpu_ms_per_written_piece",
)
_SUMMARY = ("parameters", "embedding_parameters", "megabytes", "cpu_ms_per_sentence")
_CURVE_ROWS = 5  # of each curve in the table of losses
_METRICS = "Every metric × 100 (bits, perplexity and words × 1), mean over seeds"


def write_report(report: Report, records: Records, folder: Path) -> None:
    """Write report.json, report.md and report.html, all three or none.

    Args:
        report: As `run.measure` makes it. What was not measured is null,
            empty or absent; numbers that are not finite become null.
        records: The lines of log.jsonl, for the curves.
        folder: Made if it does not exist.
    """
    report = finite(report)
    contents = {
        "report.json": json.dumps(report, indent=1, ensure_ascii=False) + "\n",
        "report.md": as_markdown(report, records),
        "report.html": as_html(report, records),
    }
    write_texts(contents, folder)


def headline(report: Report) -> str:
    """The result in one sentence, as far as it was measured."""
    student, teacher = report["student"], report.get("teacher") or {}
    said = [f"has {cell(student['parameters'], 'parameters')} parameters"]
    if teacher:
        said[0] += f" ({student['parameters'] / teacher['parameters']:.0%} of the teacher)"
    if student.get("cpu_ms_per_sentence") and teacher.get("cpu_ms_per_sentence"):
        faster = teacher["cpu_ms_per_sentence"] / student["cpu_ms_per_sentence"]
        said.append(f"runs {faster:.1f} times as fast")
    means = mean_scores(report)
    kept = {role: _share(means.get(role), means.get("teacher")) for role in ROLES}
    if kept["student"]:
        control = f" (no distillation: {kept['no_distillation']})"
        said.append(f"keeps {kept['student']} of the teacher's mean score")
        said[-1] += control if kept["no_distillation"] else ""
    return "The student " + ", ".join(said[:-1]) + (" and " if said[1:] else "") + said[-1] + "."


def quality_lines(report: Report) -> dict[str, str]:
    """The scores of every model by task, in words, for a model card."""
    return {
        f"{task} ({words(row['metric'])}, x 100)": ", ".join(
            f"{words(role)} {score}" for role in ROLES if (score := _score(row, role))
        )
        for task, row in (report.get("quality") or {}).items()
    }


def mean_scores(report: Report) -> dict[str, float]:
    """Mean of the headline metrics over tasks, for every model that was scored on all of them."""
    rows = list((report.get("quality") or {}).values())
    scored = [role for role in ROLES if rows and all(row.get(role) is not None for row in rows)]
    return {role: mean(row[role] for row in rows) for role in scored}


def summary_table(report: Report) -> Table:
    """Size, speed and scores, a row for each model; the first row is the head."""
    quality, (head, *rows) = _with_mean(report), _sizes(report, _SUMMARY)
    head += [f"{task} ({words(row['metric'])})".removesuffix(" ()") for task, row in quality]
    scored = {role: [_score(row, role) for _, row in quality] for role in ROLES}
    return [head, *([*row, *scored[role]] for role, row in zip(_costs(report), rows, strict=True))]


def tables(report: Report, records: Records = ()) -> list[tuple[str, Table]]:
    """Every table that has rows, with its heading; the first row of each is its head."""
    found = [
        ("Size and speed", _sizes(report, tuple(_NAMES))),
        ("Quality: scores × 100, ± standard deviation over seeds", _quality_table(report)),
        (_METRICS, _metrics_table(report)),
        (
            "Time on the CPU: milliseconds a text, median and 95th percentile",
            _latency_table(report),
        ),
        ("Losses on held-out text", _held_out_table(report)),
        *generation_tables(report, records),
        ("Predicting tokens of held-out text", _facts(report.get("held_out_text"))),
        *vocabulary_tables(report),
        ("Training", _facts(report.get("training"))),
        ("Stages", _stage_table(report)),
        ("Losses along the way", _curve_table(records)),
    ]
    return [(heading, table) for heading, table in found if len(table) > 1]


def as_markdown(report: Report, records: Records = ()) -> str:
    """The report without its plots."""
    lines = [f"# {html.escape(report['name'], quote=False)}", "", headline(report), ""]
    for heading, table in tables(report, records):
        lines += [f"## {heading}", "", *markdown_table(table)]
    lines += [f"- {html.escape(note, quote=False)}" for note in _notes(report)]
    return "\n".join(lines).rstrip() + "\n"


def as_html(report: Report, records: Records = ()) -> str:
    """The report as one page that needs nothing outside it."""
    drawings = [*plots(report, records, mean_scores(report)), *share_plot(records)]
    shown = tables(report, records)
    return page(report["name"], headline(report), shown, drawings, _notes(report))


def size_table(costs: Mapping[str, Mapping[str, Any]], keys: Sequence[str] = SIZES) -> Table:
    """What models cost: a row for each model, a column for each key of `SIZES`."""
    shown = [k for k in keys if k not in _OF_SOME or any(cost.get(k) for cost in costs.values())]
    rows = [[name, *(cell(cost.get(key), key) for key in shown)] for name, cost in costs.items()]
    return [["", *(_NAMES[key] for key in shown)], *rows]


def _sizes(report: Report, keys: Sequence[str]) -> Table:
    return size_table({ROLES[role]: cost for role, cost in _costs(report).items()}, keys)


def _costs(report: Report) -> dict[str, Mapping[str, Any]]:
    return {role: report[role] for role in ROLES if report.get(role)}


def _with_mean(report: Report) -> list[tuple[str, Mapping[str, Any]]]:
    """The tasks, and after several of them their mean."""
    tasks = list((report.get("quality") or {}).items())
    return [*tasks, ("mean", {"metric": "", **mean_scores(report)})] if len(tasks) > 1 else tasks


def _quality_table(report: Report) -> Table:
    quality = _with_mean(report)
    roles = [role for role in ROLES if any(row.get(role) is not None for _, row in quality)]
    shared = [role for role in roles if role != "teacher" and "teacher" in roles]
    rows = [
        [task, words(row["metric"])]
        + [_score(row, role) for role in roles]
        + [_share(row.get(role), row.get("teacher")) for role in shared]
        for task, row in quality
    ]
    head = ["task", "metric", *(ROLES[role] for role in roles)]
    return [head + [f"{ROLES[role]} keeps" for role in shared], *rows]


def _metrics_table(report: Report) -> Table:
    rows: Table = [["task", "metric", *ROLES.values()]]
    for task, quality in (report.get("quality") or {}).items():
        values = {role: (quality.get("metrics") or {}).get(role) or {} for role in ROLES}
        for metric in sorted({name for found in values.values() for name in found}):
            scale = 0.01 if metric in PLAIN_METRICS else 1.0
            found = {role: values[role].get(metric) for role in ROLES}
            scaled = {role: None if x is None else scale * x for role, x in found.items()}
            scores = [_score(scaled, role) for role in ROLES]
            rows.append([task, words(metric), *scores])
    return rows


def _latency_table(report: Report) -> Table:
    found = {
        (role, label, row["batch"], row["length"]): cell(1000 * row[key] / row["batch"])
        for role, cost in _costs(report).items()
        for row in cost.get("latencies") or []
        for label, key in (("", "p50"), (" p95", "p95"))
    }
    columns = list(dict.fromkeys(key[:2] for key in found))
    places = sorted({key[2:] for key in found})
    head = ["texts × tokens", *(f"{ROLES[role]}{label}" for role, label in columns)]
    rows = [
        [f"{batch} × {length}", *(found.get((*column, batch, length), "") for column in columns)]
        for batch, length in places
    ]
    return [head, *rows]


def _held_out_table(report: Report) -> Table:
    keys = ("before", "after", "unit")
    found = (report.get("held_out") or {}).items()
    rows = [[name, *(cell(row.get(key)) for key in keys)] for name, row in found]
    return [["objective", *keys], *rows]


def _stage_table(report: Report) -> Table:
    keys = ("steps", "tokens", "seconds")
    stages = (report.get("training") or {}).get("stages") or []
    rows = [[stage["name"], *(cell(stage.get(key), key) for key in keys)] for stage in stages]
    return [["stage", "steps", "tokens", "time"], *rows]


def _curve_table(records: Records) -> Table:
    rows: Table = [["objective", "measured", "tokens", "loss"]]
    for name, kinds in curves(records).items():
        for kind, points in kinds.items():
            shown = min(len(points), _CURVE_ROWS)
            places = [round(n * (len(points) - 1) / max(1, shown - 1)) for n in range(shown)]
            rows += [[name, kind, *map(cell, points[place])] for place in places]
    return rows


def _facts(facts: Mapping[str, Any] | None) -> Table:
    told = {k: v for k, v in (facts or {}).items() if isinstance(v, (int, float, str))}
    rows = [["time" if k == "seconds" else words(k), cell(v, k)] for k, v in told.items()]
    return [["", ""], *rows]


def _notes(report: Report) -> list[str]:
    """The notes, and what made the report."""
    made = [f"{words(k)}: {report[k]}" for k in ("command", "limbeck_version") if report.get(k)]
    return [*(report.get("notes") or []), *made]


def finite(value: Any) -> Any:
    """The same data with None for every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown_table(table: Table) -> list[str]:
    """The lines of a table, its head first."""
    marks = ["---:" if numbers else "---" for numbers in number_columns(table)]
    return [_row(table[0]), _row(marks), *map(_row, table[1:]), ""]


def _row(cells: Sequence[str]) -> str:
    plain = (html.escape(cell, quote=False).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(plain)} |"


def words(name: str) -> str:
    """A key as words."""
    return name.removesuffix("_bytes").replace("_", " ")


def _share(score: float | None, whole: float | None) -> str:
    return f"{score / whole:.1%}" if score is not None and whole and whole > 0 else ""


def _score(row: Mapping[str, Any], role: str) -> str:
    if row.get(role) is None:
        return ""
    deviation = (row.get("spread") or {}).get(role)
    if deviation is None or len((row.get("seeds") or {}).get(role) or []) == 1:
        return f"{100 * row[role]:.1f}"  # one seed has no deviation: ± 0.0 would suggest certainty
    return f"{100 * row[role]:.1f} ± {100 * deviation:.1f}"

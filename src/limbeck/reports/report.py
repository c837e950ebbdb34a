"""The report of a run: JSON for programs, Markdown for a repository, HTML for a person.

The page is one file without links to anything outside it.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..system.files import write_texts
from .finetuning import finetuning_notes, search_plots, search_tables
from .generation import generation_tables, share_plot
from .memory import memory_table
from .page import ROLES, Records, cell, curves, page, plots, words
from .quality import mean_scores, quality_tables, score_text, share_of, with_mean
from .run_results import RunResult
from .tables import Table, number_columns
from .task_results import task_tables
from .vocabularies import vocabulary_tables

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


def write_report(result: RunResult, records: Records, folder: Path) -> None:
    """Write report.json, report.md and report.html, all three or none.

    Args:
        result: What the run was measured on; numbers that are not finite become null.
        records: The lines of log.jsonl, for the curves.
        folder: Made if it does not exist.
    """
    plain = finite(result.to_json())
    result = RunResult.from_json(plain)
    contents = {
        "report.json": json.dumps(plain, indent=1, ensure_ascii=False) + "\n",
        "report.md": as_markdown(result, records),
        "report.html": as_html(result, records),
    }
    write_texts(contents, folder)


def headline(result: RunResult) -> str:
    """The result in one sentence, as far as it was measured."""
    student, teacher = result.student, result.teacher
    said = [f"has {cell(student.parameters, 'parameters')} parameters"]
    if teacher:
        said[0] += f" ({student.parameters / teacher.parameters:.0%} of the teacher)"
        if student.cpu_ms_per_sentence and teacher.cpu_ms_per_sentence:
            faster = teacher.cpu_ms_per_sentence / student.cpu_ms_per_sentence
            said.append(f"runs {faster:.1f} times as fast")
    means = mean_scores(result)
    kept = {role: share_of(means.get(role), means.get("teacher")) for role in ROLES}
    if kept["student"]:
        control = f" (no distillation: {kept['no_distillation']})"
        said.append(f"keeps {kept['student']} of the teacher's mean score")
        said[-1] += control if kept["no_distillation"] else ""
    return "The student " + ", ".join(said[:-1]) + (" and " if said[1:] else "") + said[-1] + "."


def quality_lines(result: RunResult) -> dict[str, str]:
    """The scores of every model by task, in words, for a model card."""
    return {
        f"{task} ({words(quality.metric)}, x 100)": ", ".join(
            f"{words(role)} {score_text(quality, role)}" for role in quality.scores
        )
        for task, quality in result.quality.items()
    }


def summary_table(result: RunResult) -> Table:
    """Size, speed and scores, a row for each model; the first row is the head."""
    scored, (head, *rows) = with_mean(result), _sizes(result, _SUMMARY)
    head += [f"{row.task} ({row.metric})".removesuffix(" ()") for row in scored]
    return [
        head,
        *(
            [*row, *(of_task.shown.get(role, "") for of_task in scored)]
            for role, row in zip(result.models, rows, strict=True)
        ),
    ]


def tables(result: RunResult, records: Records = ()) -> list[tuple[str, Table]]:
    """Every table that has rows, with its heading; the first row of each is its head."""
    found = [
        ("Size and speed", _sizes(result, tuple(_NAMES))),
        *quality_tables(result),
        *task_tables(result.task_answers, ROLES),
        *search_tables(result),
        (
            "Time on the CPU: milliseconds a text, median and 95th percentile",
            _latency_table(result),
        ),
        ("Losses on held-out text", _held_out_table(result)),
        *generation_tables(result, records),
        ("Predicting tokens of held-out text", _facts(result.held_out_text.to_json())),
        *vocabulary_tables(result),
        ("Training", _facts(result.training.to_json() if result.training else {})),
        ("Stages", _stage_table(result)),
        ("Memory of a step", _memory(result)),
        ("Losses along the way", _curve_table(records)),
    ]
    return [(heading, table) for heading, table in found if len(table) > 1]


def as_markdown(result: RunResult, records: Records = ()) -> str:
    """The report without its plots."""
    lines = [f"# {html.escape(result.name, quote=False)}", "", headline(result), ""]
    for heading, table in tables(result, records):
        lines += [f"## {html.escape(heading, quote=False)}", "", *markdown_table(table)]
    lines += [f"- {html.escape(note, quote=False)}" for note in _notes(result)]
    return "\n".join(lines).rstrip() + "\n"


def as_html(result: RunResult, records: Records = ()) -> str:
    """The report as one page that needs nothing outside it."""
    drawings = [*plots(result, records, mean_scores(result)), *share_plot(records)]
    drawings += search_plots(result)
    shown = tables(result, records)
    return page(result.name, headline(result), shown, drawings, _notes(result))


def size_table(costs: Mapping[str, Mapping[str, Any]], keys: Sequence[str] = SIZES) -> Table:
    """What models cost: a row for each model, a column for each key of `SIZES`."""
    shown = [k for k in keys if k not in _OF_SOME or any(cost.get(k) for cost in costs.values())]
    rows = [[name, *(cell(cost.get(key), key) for key in shown)] for name, cost in costs.items()]
    return [["", *(_NAMES[key] for key in shown)], *rows]


def _sizes(result: RunResult, keys: Sequence[str]) -> Table:
    costs = {ROLES[role]: model.to_json() for role, model in result.models.items()}
    return size_table(costs, keys)


def _latency_table(result: RunResult) -> Table:
    found = {
        (role, label, row.batch, row.length): cell(1000 * seconds / row.batch)
        for role, model in result.models.items()
        for row in model.latencies
        for label, seconds in (("", row.p50), (" p95", row.p95))
    }
    columns = list(dict.fromkeys(key[:2] for key in found))
    places = sorted({key[2:] for key in found})
    head = ["texts × tokens", *(f"{ROLES[role]}{label}" for role, label in columns)]
    rows = [
        [f"{batch} × {length}", *(found.get((*column, batch, length), "") for column in columns)]
        for batch, length in places
    ]
    return [head, *rows]


def _held_out_table(result: RunResult) -> Table:
    rows = [
        [name, cell(loss.before), cell(loss.after), loss.unit]
        for name, loss in result.held_out.items()
    ]
    return [["objective", "before", "after", "unit"], *rows]


def _stage_table(result: RunResult) -> Table:
    rows = [
        [stage.name, cell(stage.steps), cell(stage.tokens), cell(stage.seconds, "seconds")]
        for stage in (result.training.stages if result.training else ())
    ]
    return [["stage", "steps", "tokens", "time"], *rows]


def _curve_table(records: Records) -> Table:
    rows: Table = [["objective", "measured", "tokens", "loss"]]
    for name, kinds in curves(records).items():
        for kind, points in kinds.items():
            shown = min(len(points), _CURVE_ROWS)
            places = [round(n * (len(points) - 1) / max(1, shown - 1)) for n in range(shown)]
            rows += [[name, kind, *map(cell, points[place])] for place in places]
    return rows


def _memory(result: RunResult) -> Table:
    parts = result.training.memory if result.training else None
    return memory_table([("the largest", parts)]) if parts else []


def _facts(facts: Mapping[str, Any]) -> Table:
    told = {k: v for k, v in facts.items() if isinstance(v, (int, float, str))}
    rows = [["time" if k == "seconds" else words(k), cell(v, k)] for k, v in told.items()]
    return [["", ""], *rows]


def _notes(result: RunResult) -> list[str]:
    """The notes, and what made the report."""
    made = f"limbeck version: {result.limbeck_version}"
    return [*result.notes, *finetuning_notes(result), made]


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

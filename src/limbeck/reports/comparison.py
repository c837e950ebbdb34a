"""Arms of a study side by side: JSON for programs, Markdown for a repository, HTML for a person."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..system.files import write_texts
from .comparison_plots import gaps, quality_against
from .generation import PLAIN_METRICS, plain_number, positions_table
from .page import cell, page
from .report import finite, markdown_table, size_table, words
from .tables import Table

Comparison = Mapping[str, Any]
_OF_TRAINING = (
    "trainable_parameters",
    "tokens",
    "seconds",
    "tokens_per_second",
    "peak_memory_bytes",
)
Row = Mapping[str, Any]


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write report.json, report.md and report.html, all three or none.

    Args:
        comparison: As `limbeck.compare` makes it.
        folder: Made if it is not there.
    """
    comparison = finite(comparison)
    write_texts(
        {
            "report.json": json.dumps(comparison, indent=1, ensure_ascii=False) + "\n",
            "report.md": as_markdown(comparison),
            "report.html": as_html(comparison),
        },
        folder,
    )


def comparison_headline(comparison: Comparison) -> str:
    """The best arm of each student against its control, in a sentence each."""
    said = []
    for student in comparison["students"]:
        rows = [row for row in _rows(comparison, student) if row["mean"] is not None]
        if not rows:
            continue
        best = rows[0]
        several = len(comparison["students"]) > 1
        sentence = f"With the student {student} the best arm" if several else "The best arm"
        sentence += f" is {best['arm']}"
        sentence += f" ({100 * best['mean']:.1f}{_kept(best, comparison, ', {} of the teacher')})"
        if gap := best["against_control"]:
            sentence += (
                f", {100 * gap['mean']:+.1f} over {comparison['control']}"
                f" [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"
            )
        said.append(sentence + ".")
    return " ".join(said) or "Nothing has been scored yet."


def comparison_table(comparison: Comparison, student: str) -> Table:
    """Scores of the arms of one student, best first, below those of the teacher."""
    rows = _rows(comparison, student)
    tasks = list(rows[0]["quality"])
    control = comparison["control"]
    head = ["arm", *(f"{t} ({words(rows[0]['quality'][t]['metric'])})" for t in tasks)]
    known = {row["against_control"]["seeds"] for row in rows if row["against_control"]}
    interval = "95 % interval, rows alone" if known == {1} else "95 % interval"
    head += ["mean", "kept", f"against {control}", interval, "p"]
    table = [head]
    if comparison["teacher"]:
        table.append(["teacher", *_scores(comparison["teacher"], tasks), "", "", "", ""])
    for row in rows:
        gap = row["against_control"]
        against = ["", "", ""]
        if gap:
            interval = f"{100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}"
            against = [f"{100 * gap['mean']:+.1f}", interval, f"{gap['p']:.3f}"]
        name = f"{row['arm']} (control)" if row["arm"] == control else row["arm"]
        table.append([name, *_scores(row, tasks), _kept(row, comparison, "{}"), *against])
    return table


def metrics_table(comparison: Comparison, student: str, task: str) -> Table:
    """Every metric of a task for the arms of one student, below those of the teacher."""
    rows = _rows(comparison, student)
    names = list(rows[0]["quality"][task]["means"])
    named = [("teacher", comparison["teacher"])] if comparison["teacher"] else []
    named += [(row["arm"], row) for row in rows]
    table = [["arm", *(f"{words(n)}{'' if n in PLAIN_METRICS else ' × 100'}" for n in names)]]
    for name, row in named:
        means = row["quality"][task]["means"]
        table.append([name, *(_metric(n, means[n]) for n in names)])
    control = next((row for row in rows if row["arm"] == comparison["control"]), None)
    gaps = [_gaps_of_bits(row, control, task) if control else "" for _, row in named]
    if any(gaps):
        head = f"bits per byte against {comparison['control']}, least to most of the trainings"
        table = [[*line, gap] for line, gap in zip(table, [head, *gaps], strict=True)]
    return table


def _gaps_of_bits(row: Row, control: Row, task: str) -> str:
    """Of trainings that read the same text, one by one: bits differ far less than answers do."""
    mine, theirs = (_bits_of_seeds(some, task) for some in (row, control))
    gaps = [mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()]
    if row is control or len(gaps) < 2:
        return ""
    return f"{min(gaps):+.4f} to {max(gaps):+.4f}"


def _bits_of_seeds(row: Row, task: str) -> dict[str, float]:
    """Bits per byte of every training, by its seed; nothing of the teacher, which has no runs."""
    values = row["quality"][task].get("by_training", {}).get("bits_per_byte", [])
    seeds = [run.rsplit("/", 1)[-1] for run in row.get("runs", [])]
    return dict(zip(seeds, values, strict=False))


def _metric(name: str, value: float | None) -> str:
    if value is None or name in PLAIN_METRICS:
        return plain_number(value)
    return f"{100 * value:.1f}"


def training_table(comparison: Comparison, student: str) -> Table:
    """What the arms of one student cost to train, and where their runs are."""
    head = ["arm", "trained", "tokens", "time", "tokens/s", "peak memory", "held-out losses", "run"]
    table = [head]
    for row in _rows(comparison, student):
        facts = row["training"]
        before = row["held_out_before"]
        losses = ", ".join(
            f"{name} {plain_number(before.get(name))} → {plain_number(value)}"
            for name, value in row["held_out"].items()
        )
        cells = [cell(facts.get(key), key) for key in _OF_TRAINING]
        table.append([row["arm"], *cells, losses, ", ".join(row["runs"])])
    return table


def tables(comparison: Comparison) -> list[tuple[str, Table]]:
    """Every table, with its heading."""
    found = []
    for student in comparison["students"]:
        rows = _rows(comparison, student)
        if rows[0]["quality"]:
            # While a study goes on, some arms have fewer.
            several = max(len(q["values"]) for row in rows for q in row["quality"].values())
            heading = f"{student}: scores × 100, ± standard deviation over {several} seed(s)"
            found.append((heading, comparison_table(comparison, student)))
        for task, quality in rows[0]["quality"].items():
            if len(quality["means"]) > 1:
                table = metrics_table(comparison, student, task)
                found.append((f"{student}, {task}: every metric, mean over seeds", table))
        if len(table := positions_table(rows)) > 1:
            found.append((f"{student}: first, middle and last third of held-out texts", table))
    if _sizes(comparison)[1:]:
        found.append(("Size and speed", _sizes(comparison)))
    for student in comparison["students"]:
        found.append((f"{student}: training", training_table(comparison, student)))
    return found


def as_markdown(comparison: Comparison) -> str:
    """The report without its plots."""
    lines = [f"# {html.escape(comparison['name'], quote=False)}", ""]
    lines += [comparison_headline(comparison), ""]
    for heading, table in tables(comparison):
        lines += [f"## {heading}", "", *markdown_table(table)]
    lines += [f"- {html.escape(note, quote=False)}" for note in _notes(comparison)]
    return "\n".join(lines).rstrip() + "\n"


def as_html(comparison: Comparison) -> str:
    """The report as one page that needs nothing outside it."""
    drawings = []
    for title, key, label, scale in (
        ("Quality against time", "cpu_ms_per_sentence", "CPU ms a sentence", 1.0),
        ("Quality against size", "parameters", "million parameters", 1e-6),
    ):
        points = {
            row["arm"]: [
                (scale * cost[key], 100 * other["mean"])
                for other in comparison["rows"]
                if other["arm"] == row["arm"]
                and other["mean"] is not None
                and (cost := other["cost"]).get(key)
            ]
            for row in comparison["rows"]
        }
        teacher = comparison["teacher"]
        if teacher and teacher["mean"] is not None and teacher["cost"].get(key):
            points["teacher"] = [(scale * teacher["cost"][key], 100 * teacher["mean"])]
        if any(points.values()):
            drawings.append((title, quality_against(points, label)))
    for student in comparison["students"]:
        found = {
            row["arm"]: row["against_control"]
            for row in _rows(comparison, student)
            if row["against_control"]
        }
        if found:
            title = f"{student}: mean score × 100 against {comparison['control']}"
            drawings.append((title, gaps(found)))
    headline = comparison_headline(comparison)
    return page(comparison["name"], headline, tables(comparison), drawings, _notes(comparison))


def _rows(comparison: Comparison, student: str) -> list[Row]:
    """Of one student, best first."""
    mine = [row for row in comparison["rows"] if row["student"] == student]
    return sorted(mine, key=lambda row: -(row["mean"] or 0.0))


def _sizes(comparison: Comparison) -> Table:
    named = {"teacher": comparison["teacher"]["cost"]} if comparison["teacher"] else {}
    for student, first in comparison["students"].items():
        named[student] = first
        for row in comparison["rows"]:
            if row["student"] == student and row["cost"] not in named.values():
                named[f"{student}, {row['arm']}"] = row["cost"]
    return size_table(named)


def _scores(row: Row, tasks: list[str]) -> list[str]:
    found = [_score(row["quality"][task]["mean"], row["quality"][task]) for task in tasks]
    return [*found, _score(row["mean"], row)]


def _score(value: float | None, row: Row) -> str:
    if value is None:
        return ""
    several = len(row["values"]) > 1 if "values" in row else bool(row["spread"])
    return f"{100 * value:.1f} ± {100 * row['spread']:.1f}" if several else f"{100 * value:.1f}"


def _kept(row: Row, comparison: Comparison, form: str) -> str:
    teacher = comparison["teacher"]
    if not teacher or not teacher["mean"] or row["mean"] is None:
        return ""
    return form.format(f"{row['mean'] / teacher['mean']:.1%}")


def _notes(comparison: Comparison) -> list[str]:
    made = f"command: {comparison['command']}"
    again = f"one arm again, alone, RUN being the last column of its row: {comparison['again']}"
    return [*comparison["notes"], made, again, f"limbeck version: {comparison['limbeck_version']}"]

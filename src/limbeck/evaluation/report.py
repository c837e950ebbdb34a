"""What the student kept, as JSON for programs, Markdown for a repository, HTML for a person.

The page is one file without links to anything outside it.
"""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from .plots import Records, latency_bars, loss_curves, quality_against

Report = Mapping[str, Any]
Table = list[list[str]]
ROLES = {"teacher": "teacher", "student": "student", "no_distillation": "no distillation"}


def write_report(report: Report, records: Records, folder: Path) -> None:
    """Write report.json, report.md and report.html, each whole or not at all.

    Args:
        report: As `limbeck.measure` makes it: ``teacher``, ``student`` and
            ``no_distillation`` with their costs, ``quality``, ``training``,
            ``held_out`` and ``notes``; what was not measured is null or empty.
        records: The lines of log.jsonl, for the curves.
        folder: Made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "report.json": json.dumps(report, indent=1, ensure_ascii=False) + "\n",
        "report.md": as_markdown(report),
        "report.html": as_html(report, records),
    }
    for name, content in contents.items():
        part = folder / f"{name}.part"
        part.write_text(content, encoding="utf-8")
        part.replace(folder / name)


def headline(report: Report) -> str:
    """The result in one sentence, of what was measured."""
    student, teacher = report["student"], report.get("teacher")
    said = [f"has {_millions(student['parameters'])} parameters"]
    if teacher:
        said[0] += f" ({student['parameters'] / teacher['parameters']:.0%} of the teacher)"
        if student.get("cpu_ms_per_sentence") and teacher.get("cpu_ms_per_sentence"):
            faster = teacher["cpu_ms_per_sentence"] / student["cpu_ms_per_sentence"]
            said.append(f"runs {faster:.1f} times as fast")
    scores = mean_scores(report)
    if {"teacher", "student"} <= scores.keys():
        kept = f"keeps {scores['student'] / scores['teacher']:.1%} of the teacher's mean score"
        if "no_distillation" in scores:
            kept += f" (no distillation: {scores['no_distillation'] / scores['teacher']:.1%})"
        said.append(kept)
    return "The student " + ", ".join(said[:-1]) + (" and " if said[1:] else "") + said[-1] + "."


def mean_scores(report: Report) -> dict[str, float]:
    """Mean of the tasks' headline metrics, by model; of the models scored on every task."""
    quality = report.get("quality") or {}
    return {
        role: mean(row[role] for row in quality.values())
        for role in ROLES
        if quality and all(row.get(role) is not None for row in quality.values())
    }


def summary_table(report: Report) -> Table:
    """Size, speed and scores, a row a model; the first row is the heading."""
    quality = report.get("quality") or {}
    rows = [
        ["", "parameters", "embeddings", "MB", "ms a sentence", *map(_task_name, quality.items())]
    ]
    means = mean_scores(report)
    if len(quality) > 1:
        rows[0].append("mean")
    for role, name in ROLES.items():
        cost = report.get(role)
        if not cost:
            continue
        row = [
            name,
            _millions(cost["parameters"]),
            _millions(cost["embedding_parameters"]),
            _number(cost.get("megabytes")),
            _number(cost.get("cpu_ms_per_sentence")),
        ]
        row += [_score(task, role) for task in quality.values()]
        if len(quality) > 1:
            row.append(f"{100 * means[role]:.1f}" if role in means else "")
        rows.append(row)
    return rows


def tables(report: Report) -> list[tuple[str, Table]]:
    """Every table of the report with its heading."""
    found = [("Size, speed and quality", summary_table(report))]
    metrics: Table = [["task", "metric", *ROLES.values()]]
    for task, row in (report.get("quality") or {}).items():
        by_role = row.get("metrics") or {}
        for metric in sorted({m for values in by_role.values() for m in values}):
            cells = [by_role.get(role, {}).get(metric) for role in ROLES]
            metrics.append([task, metric, *("" if c is None else f"{100 * c:.1f}" for c in cells)])
    if len(metrics) > 1:
        found.append(("Every metric, mean over seeds", metrics))
    latency: Table = [["model", "batch", "length", "p50 ms", "p95 ms"]]
    for role, name in ROLES.items():
        for row in (report.get(role) or {}).get("latencies") or []:
            times = [f"{1000 * row[key]:.2f}" for key in ("p50", "p95")]
            latency.append([name, str(row["batch"]), str(row["length"]), *times])
    if len(latency) > 1:
        found.append(("Latency of a batch on the CPU", latency))
    held_out: Table = [["objective", "before", "after", "unit"]]
    for name, row in (report.get("held_out") or {}).items():
        held_out.append([name, _number(row["before"]), _number(row["after"]), row["unit"]])
    if len(held_out) > 1:
        found.append(("On held-out text", held_out))
    training = report.get("training") or {}
    rows = [[key.replace("_", " "), _number(value)] for key, value in training.items()]
    if rows:
        found.append(("Training", [["", ""], *rows]))
    return found


def as_markdown(report: Report) -> str:
    """The report without its plots."""
    lines = [f"# {report['name']}", "", headline(report), ""]
    for heading, table in tables(report):
        lines += [f"## {heading}", "", _row(table[0]), _row(["---"] * len(table[0]))]
        lines += [*map(_row, table[1:]), ""]
    lines += [f"- {note}" for note in report.get("notes", [])]
    return "\n".join(lines).rstrip() + "\n"


def as_html(report: Report, records: Records) -> str:
    """The report as one page that needs nothing outside it."""
    body = [f"<h1>{_safe(report['name'])}</h1>", f"<p class=lead>{_safe(headline(report))}</p>"]
    plots = _plots(report, records)
    all_tables = tables(report)
    body += [_html_table(*all_tables[0]), f"<div class=plots>{''.join(plots)}</div>"]
    body += [_html_table(heading, table) for heading, table in all_tables[1:]]
    notes = "".join(f"<li>{_safe(note)}</li>" for note in report.get("notes", []))
    body.append(f"<ul>{notes}</ul>")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{_safe(report['name'])}</title><style>{_STYLE}</style>"
        f"<main>{''.join(body)}</main></html>\n"
    )


def _plots(report: Report, records: Records) -> list[str]:
    costs = {role: report[role] for role in ROLES if report.get(role)}
    scores = {role: 100 * score for role, score in mean_scores(report).items() if role in costs}
    by_size = {r: (costs[r]["parameters"] / 1e6, scores[r]) for r in scores}
    by_time = {
        r: (costs[r]["cpu_ms_per_sentence"], scores[r])
        for r in scores
        if costs[r].get("cpu_ms_per_sentence")
    }
    latencies = {
        role: {(x["batch"], x["length"]): 1000 * x["p50"] / x["batch"] for x in cost["latencies"]}
        for role, cost in costs.items()
        if cost.get("latencies")
    }
    drawings = [
        ("Losses", loss_curves(records)),
        ("Quality against size", quality_against(by_size, "million parameters")),
        ("Quality against time", quality_against(by_time, "CPU ms a sentence")),
        ("Latency", latency_bars(latencies)),
    ]
    return [
        f"<figure><figcaption>{title}</figcaption>{svg}</figure>" for title, svg in drawings if svg
    ]


_STYLE = """
:root{color-scheme:light}body{margin:0;background:#fafaf7;color:#1d1d1b;
font:16px/1.5 system-ui,sans-serif}main{max-width:1000px;margin:0 auto;padding:2rem 1rem}
h1{margin:0 0 .2rem}h2{margin:2rem 0 .5rem;font-size:1.1rem}.lead{font-size:1.15rem;max-width:45rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;
font-variant-numeric:tabular-nums}th,td{padding:.3rem .7rem;text-align:right;
border-bottom:1px solid #e2e0d8;white-space:nowrap}th{font-weight:600}
th:first-child,td:first-child{text-align:left}.plots{display:flex;flex-wrap:wrap;gap:1rem}
figure{margin:1rem 0;background:#fff;border:1px solid #e2e0d8;border-radius:6px;padding:.6rem}
figcaption{font-weight:600;font-size:.95rem}svg{max-width:100%;height:auto}
"""


def _html_table(heading: str, table: Table) -> str:
    head = "".join(f"<th>{_safe(cell)}</th>" for cell in table[0])
    rows = "".join(
        "<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in table[1:]
    )
    return f"<h2>{_safe(heading)}</h2><div class=scroll><table><tr>{head}</tr>{rows}</table></div>"


def _safe(text: str) -> str:
    return html.escape(str(text))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _task_name(item: tuple[str, Mapping[str, Any]]) -> str:
    task, row = item
    return f"{task} ({row['metric'].replace('_', ' ')})"


def _score(row: Mapping[str, Any], role: str) -> str:
    if row.get(role) is None:
        return ""
    spread = (row.get("spread") or {}).get(role)
    return f"{100 * row[role]:.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f}M" if number < 1e8 else f"{number / 1e6:.0f}M"


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)

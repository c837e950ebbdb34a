"""The report of a study: JSON for programs, Markdown for a repository, HTML for a person."""

import html
import json
from pathlib import Path

from ..system.files import write_texts
from .comparison_plots import gaps, quality_against
from .comparison_search import search_notes, search_tables
from .generation import PLAIN_METRICS, plain_number, positions_table
from .page import cell, page, words
from .report import finite, markdown_table, size_table
from .study_results import ArmResult, StudyResult, TaskResult, TeacherResult
from .tables import Table

_OF_TRAINING = (
    "trainable_parameters",
    "tokens",
    "seconds",
    "tokens_per_second",
    "peak_memory_bytes",
)


def write_comparison(comparison: StudyResult, folder: Path, *, drawn: bool = True) -> None:
    """Write report.json, report.md and report.html, all three or none.

    Args:
        comparison: What the study has found; numbers that are not finite become null.
        folder: Made if it does not exist.
        drawn: Whether the page has drawings, which take nearly all of the time.
    """
    plain = finite(comparison.to_json())
    comparison = StudyResult.from_json(plain)
    write_texts(
        {
            "report.json": json.dumps(plain, indent=1, ensure_ascii=False) + "\n",
            "report.md": as_markdown(comparison),
            "report.html": as_html(comparison, drawn=drawn),
        },
        folder,
    )


def comparison_headline(comparison: StudyResult) -> str:
    """The best arm of each student against its control, in a sentence each."""
    sentences = []
    for student in comparison.students:
        best = next((row for row in comparison.arms_of(student) if row.mean is not None), None)
        if best is None or best.mean is None:
            continue
        several = len(comparison.students) > 1
        sentence = f"With the student {student} the best arm" if several else "The best arm"
        share = comparison.kept(best)
        of_teacher = f", {share} of the teacher" if share else ""
        sentence += f" is {best.arm} ({100 * best.mean:.1f}{of_teacher})"
        if gap := best.against_control:
            sentence += (
                f", {100 * gap.mean:+.1f} over {comparison.control}"
                f" [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
            )
        sentences.append(sentence + ".")
    if comparison.pending:
        ended = sum(len(row.runs) for row in comparison.rows)
        sentences.append(f"{ended} of {ended + len(comparison.pending)} trainings have ended.")
    if not sentences and comparison.rows and not any(row.quality for row in comparison.rows):
        return (
            f"All {sum(len(row.runs) for row in comparison.rows)} trainings have ended. They are"
            " not scored, because the study names no task (evaluation.tasks)."
        )
    return " ".join(sentences) or "Nothing has been scored yet."


def comparison_table(comparison: StudyResult, student: str) -> Table:
    """Scores of the arms of one student, best first, below those of the teacher."""
    rows = comparison.arms_of(student)
    tasks = list(rows[0].quality)
    control = comparison.control
    head = ["arm", *(f"{t} ({words(rows[0].quality[t].metric)})" for t in tasks)]
    known = {row.against_control.seeds for row in rows if row.against_control}
    interval = "95 % interval, rows alone" if known == {1} else "95 % interval"
    head += ["mean", "kept", f"against {control}", interval, "p"]
    table = [head]
    if comparison.teacher:
        table.append([comparison.teacher_row, *_scores(comparison.teacher, tasks), "", "", "", ""])
    for row in rows:
        against = ["", "", ""]
        if gap := row.against_control:
            interval = f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
            against = [f"{100 * gap.mean:+.1f}", interval, f"{gap.p:.3f}"]
        name = f"{row.arm} (control)" if row.arm == control else row.arm
        table.append([name, *_scores(row, tasks), comparison.kept(row), *against])
    return table


def metrics_table(comparison: StudyResult, student: str, task: str) -> Table:
    """Every metric of a task for the arms of one student, below those of the teacher."""
    rows = comparison.arms_of(student)
    names = list(rows[0].quality[task].means)
    named: list[tuple[str, TeacherResult | ArmResult]] = [(row.arm, row) for row in rows]
    if comparison.teacher and task in comparison.teacher.quality:
        named.insert(0, (comparison.teacher_row, comparison.teacher))
    table = [["arm", *(f"{words(n)}{'' if n in PLAIN_METRICS else ' × 100'}" for n in names)]]
    for name, row in named:
        means = row.quality[task].means
        table.append([name, *(_metric(n, means.get(n)) for n in names)])
    control = next((row for row in rows if row.arm == comparison.control), None)
    # The teacher has no trainings to compare.
    bits = [""] * (len(named) - len(rows)) + [_gaps_of_bits(row, control, task) for row in rows]
    if any(bits):
        head = f"bits per byte against {comparison.control}, least to most of the trainings"
        table = [[*line, gap] for line, gap in zip(table, [head, *bits], strict=True)]
    return table


def _gaps_of_bits(row: ArmResult, control: ArmResult | None, task: str) -> str:
    """Differences of trainings that read the same text: bits differ far less than answers do."""
    if control is None or row is control:
        return ""
    mine, theirs = (some.by_seed(task, "bits_per_byte") for some in (row, control))
    found = [mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()]
    return f"{min(found):+.4f} to {max(found):+.4f}" if len(found) > 1 else ""


def _metric(name: str, value: float | None) -> str:
    if value is None or name in PLAIN_METRICS:
        return plain_number(value)
    return f"{100 * value:.1f}"


def training_table(comparison: StudyResult, student: str) -> Table:
    """What the arms of one student cost to train, and where their runs are."""
    head = ["arm", "trained", "tokens", "time", "tokens/s", "peak memory", "held-out losses", "run"]
    table = [head]
    for row in comparison.arms_of(student):
        losses = ", ".join(
            f"{name} {plain_number(row.held_out_before.get(name))} → {plain_number(value)}"
            for name, value in row.held_out.items()
        )
        cells = [cell(row.training.get(key), key) for key in _OF_TRAINING]
        table.append([row.arm, *cells, losses, ", ".join(row.runs)])
    return table


def pending_table(comparison: StudyResult) -> Table:
    """The trainings that have not ended yet: a row for each arm of each student."""
    seeds: dict[tuple[str, ...], list[str]] = {}
    for place in comparison.pending:
        _, student, arm, seed = place.split("/")
        seeds.setdefault((student, arm), []).append(seed)
    rows = [[*named, ", ".join(found)] for named, found in seeds.items()]
    return [["student", "arm", "seeds"], *rows]


def tables(comparison: StudyResult) -> list[tuple[str, Table]]:
    """Every table, with its heading."""
    found = []
    for student in comparison.students:
        rows = comparison.arms_of(student)
        if rows[0].quality:
            # While a study is running, some arms have fewer.
            several = max(len(q.values) for row in rows for q in row.quality.values())
            deviation = f", ± standard deviation over {several} seeds" if several > 1 else ""
            heading = f"{student}: scores × 100{deviation}"
            found.append((heading, comparison_table(comparison, student)))
        for task, quality in rows[0].quality.items():
            if len(quality.means) > 1:
                table = metrics_table(comparison, student, task)
                mean = ", mean over seeds" if len(quality.values) > 1 else ""
                found.append((f"{student}, {task}: every metric{mean}", table))
        if len(table := positions_table(rows)) > 1:
            found.append((f"{student}: first, middle and last third of held-out texts", table))
    if comparison.pending:
        found.append(("Not trained yet", pending_table(comparison)))
    found += search_tables(comparison.search)
    if _sizes(comparison)[1:]:
        found.append(("Size and speed", _sizes(comparison)))
    for student in comparison.students:
        found.append((f"{student}: training", training_table(comparison, student)))
    return found


def as_markdown(comparison: StudyResult) -> str:
    """The report without its plots."""
    lines = [f"# {html.escape(comparison.name, quote=False)}", ""]
    lines += [comparison_headline(comparison), ""]
    for heading, table in tables(comparison):
        lines += [f"## {html.escape(heading, quote=False)}", "", *markdown_table(table)]
    lines += [f"- {html.escape(note, quote=False)}" for note in _notes(comparison)]
    return "\n".join(lines).rstrip() + "\n"


def as_html(comparison: StudyResult, *, drawn: bool = True) -> str:
    """The report as one page that needs nothing outside it.

    Args:
        comparison: What the study has found.
        drawn: Whether it has drawings.
    """
    drawings = [*_cost_plots(comparison), *_gap_plots(comparison)] if drawn else []
    headline = comparison_headline(comparison)
    return page(comparison.name, headline, tables(comparison), drawings, _notes(comparison))


def _gap_plots(comparison: StudyResult) -> list[tuple[str, str]]:
    """For each student a drawing of the differences from the control, with its title."""
    drawings = []
    for student in comparison.students:
        found = {
            row.arm: gap for row in comparison.arms_of(student) if (gap := row.against_control)
        }
        if found:
            title = f"{student}: mean score × 100 against {comparison.control}"
            drawings.append((title, gaps(found)))
    return drawings


def _cost_plots(comparison: StudyResult) -> list[tuple[str, str]]:
    """Drawings of the mean score against what students cost, with their titles."""
    drawings = []
    for title, key, label, scale in (
        ("Quality against time", "cpu_ms_per_sentence", "CPU ms a sentence", 1.0),
        ("Quality against size", "parameters", "million parameters", 1e-6),
    ):
        points: dict[str, list[tuple[float, float]]] = {row.arm: [] for row in comparison.rows}
        named: list[tuple[str, TeacherResult | ArmResult]] = [(r.arm, r) for r in comparison.rows]
        if comparison.teacher:
            named.append((comparison.teacher_row, comparison.teacher))
        for name, row in named:
            if row.mean is not None and row.cost.get(key):
                points.setdefault(name, []).append((scale * row.cost[key], 100 * row.mean))
        if any(points.values()):
            drawings.append((title, quality_against(points, label, comparison.teacher_row)))
    return drawings


def _sizes(comparison: StudyResult) -> Table:
    named = {comparison.teacher_row: comparison.teacher.cost} if comparison.teacher else {}
    for student, first in comparison.students.items():
        named[student] = first
        for row in comparison.rows:
            if row.student == student and row.cost not in named.values():
                named[f"{student}, {row.arm}"] = row.cost
    return size_table(named)


def _scores(row: TeacherResult | ArmResult, tasks: list[str]) -> list[str]:
    found = [_task_score(row.quality[t]) if t in row.quality else "" for t in tasks]
    return [*found, _score(row.mean, row.spread, several=bool(row.spread))]


def _task_score(result: TaskResult) -> str:
    return _score(result.mean, result.spread, several=len(result.values) > 1)


def _score(value: float | None, deviation: float | None, *, several: bool) -> str:
    if value is None:
        return ""
    if several and deviation is not None:
        return f"{100 * value:.1f} ± {100 * deviation:.1f}"
    return f"{100 * value:.1f}"


def _notes(comparison: StudyResult) -> list[str]:
    made = f"command: {comparison.command}"
    again = f"to train one arm alone, with RUN as in the last column of its row: {comparison.again}"
    searched = search_notes(comparison.search)
    return [
        *comparison.notes,
        *searched,
        made,
        again,
        f"limbeck version: {comparison.limbeck_version}",
    ]

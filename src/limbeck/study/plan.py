"""What a study will train and cost, before anything heavy."""

import json
from collections.abc import Sequence

from ..recipe.setup import Setup
from ..reports.tables import Table
from ..run.plan import exported_student, machine_table, model_sizes, named_teachers
from ..run.probe import Probe, probe
from ..system.progress import duration
from .arms import ArmRun
from .equal_time import steps_within
from .schema import EqualTime, Study, named_values


def study_probes(runs: Sequence[ArmRun]) -> list[list[Probe]]:
    """A few real steps of every stage of every training; trainings that cost the same share them.

    Args:
        runs: The trainings of a study.

    Returns:
        For each training, one for each of its stages.
    """
    known: dict[str, list[Probe]] = {}
    for run in runs:
        if (costs := _what_costs(run.setup)) not in known:
            stages = range(len(run.setup.stages))
            known[costs] = [probe(run.setup, number) for number in stages]
    return [known[_what_costs(run.setup)] for run in runs]


def study_tables(
    study: Study, runs: Sequence[ArmRun], probes: Sequence[Sequence[Probe]] | None
) -> list[tuple[str, Table]]:
    """The plan of a study as tables with headings; times only where trainings were probed.

    Args:
        study: Read from its file.
        runs: Its trainings; where values are searched, those of the search.
        probes: As of `study_probes`; None without times.
    """
    heading = f"Trainings: {len(runs) + _after_search(study, runs)}"
    return [
        ("Models", _models(runs)),
        ("Machine", machine_table(runs[0].setup)),
        (heading, _trainings(study, runs, probes)),
    ]


def _models(runs: Sequence[ArmRun]) -> Table:
    """Every teacher and student once; a student that an arm changes bears the arm's name too."""
    table = model_sizes([])
    for run in runs:
        student = (f"student {run.student}", exported_student(run.setup))
        named = [*named_teachers(run.setup), student]
        for row in model_sizes(named, vectors=run.setup.learns_vectors)[1:]:
            if row in table:
                continue
            if row[0] in {known[0] for known in table}:
                row[0] = f"{row[0]}, {run.arm}"
            if row not in table:
                table.append(row)
    return table


def _after_search(study: Study, runs: Sequence[ArmRun]) -> int:
    """How many trainings follow a search: those of its choices with the other seeds."""
    return (study.seeds - 1) * len({(run.student, run.arm) for run in runs}) if study.search else 0


def _trainings(
    study: Study, runs: Sequence[ArmRun], probes: Sequence[Sequence[Probe]] | None
) -> Table:
    """A row for every training that differs by more than its seed."""
    searched = ["searched"] if study.search else []
    table: Table = [["student", "arm", *searched, "steps", "tokens", "time", "peak memory"]]
    times = []
    for number, run in enumerate(runs):
        measured = probes[number] if probes else None
        steps: list[int] | None = [stage.steps for stage in run.setup.stages]
        if isinstance(study.equal, EqualTime):
            steps = steps_within(run.setup, measured, study.equal.seconds) if measured else None
        row = [run.student, run.arm, *([named_values(run.values)] if searched else [])]
        row += ["", ""] if steps is None else [f"{sum(steps):,}", _tokens(run.setup, steps)]
        if measured and steps:
            each = zip(measured, steps, strict=True)
            times.append(sum(one.seconds_per_step * count for one, count in each))
            peaks = [one.peak_memory_bytes for one in measured if one.peak_memory_bytes]
            row += [duration(times[-1]), f"{max(peaks) / 1e9:.1f} GB" if peaks else ""]
        row += [""] * (len(table[0]) - len(row))
        if row[: 2 + len(searched)] != table[-1][: 2 + len(searched)]:  # not by another seed
            table.append(row)
    if times:
        in_all = sum(times) * (1 + _after_search(study, runs) / len(times))
        table.append(["in all", *[""] * (len(table[0]) - 3), duration(in_all), ""])
    return table


def _tokens(setup: Setup, steps: Sequence[int]) -> str:
    """How many tokens are read; nothing where rows of a task are, which have any length."""
    if any(stage.rows for stage in setup.stages):
        return ""
    batches = sum(n * stage.batch_size for stage, n in zip(setup.stages, steps, strict=True))
    return f"{batches * setup.recipe.data.max_length:,}"


def _what_costs(setup: Setup) -> str:
    """What of a recipe decides the time and the memory of its steps."""
    recipe = setup.recipe.model_dump(mode="json", exclude={"name", "seed", "evaluation"})
    for stage in recipe["stages"]:
        stage.pop("optimizer")
    return json.dumps(recipe, sort_keys=True)

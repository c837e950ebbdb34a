"""``limbeck plan`` of a study."""

from pathlib import Path

from .terminal import console, print_table


def plan_study(path: Path, overrides: list[str] | None, *, timed: bool) -> None:
    """Show every problem of a study, or what its trainings will do and cost.

    Raises:
        RecipeError: With every problem of the study and of its arms.
    """
    from ..study.schema import check_study_form, read_study

    raw = read_study(path, overrides or [])
    check_study_form(raw)

    from ..study.arms import prepare_study
    from ..study.plan import study_probes, study_tables
    from ..system.progress import warn

    study, runs = prepare_study(raw)
    for heading, table in study_tables(study, runs, study_probes(runs) if timed else None):
        print_table(heading, table)
    if timed:
        console.print(
            "times are of training alone, one after another, each with its teacher beside it;"
            " what arms share of the teacher's signals is computed once",
            highlight=False,
        )
    for warning in dict.fromkeys(warning for run in runs for warning in run.setup.warnings):
        warn(console, warning)

"""Whether every model of a run was fine-tuned to its best: what was chosen, curves, warnings."""

from collections.abc import Mapping

from matplotlib import rc_context
from matplotlib.figure import Figure

from .page import COLOURS, MARKERS, ROLES, SETTINGS, name_lines, svg_of, words
from .run_results import RunResult, TaskQuality
from .search_results import SearchResult
from .tables import Table

_CHOSEN = "Fine-tuning: chosen by the score on validation rows, which are training rows"
_BELOW = {"student": "its student", "no_distillation": "the student without distillation"}
_CURVES = "Learning curves: best validation score × 100 after so many epochs"


def search_tables(result: RunResult) -> list[tuple[str, Table]]:
    """Tables of what searches have chosen, with their headings; none without a search."""
    chosen: Table = [
        ["task", "model", "learning rate", "epochs", "metric", "score", "rows", "epochs in all"]
    ]
    found = [
        (task, ROLES[role], search)
        for task, quality in result.quality.items()
        for role, search in _by_role(quality).items()
    ]
    for task, role, search in found:
        best = search.chosen
        chosen.append(
            [
                task,
                role,
                f"{best.learning_rate:g}",
                f"{best.num_train_epochs:g}",
                words(search.metric),
                "" if best.score is None else f"{100 * best.score:.1f}",
                f"{search.validation_rows:,}",
                f"{search.epochs:g}",
            ]
        )
    lengths = sorted({epochs for *_, search in found for epochs, _ in search.curve})
    curves: Table = [["task", "model", *(f"{epochs:g}" for epochs in lengths)]]
    for task, role, search in found:
        scores = dict(search.curve)
        shown = [f"{100 * scores[n]:.1f}" if n in scores else "" for n in lengths]
        curves.append([task, role, *shown])
    return [(_CHOSEN, chosen), (_CURVES, curves)]


def search_plots(result: RunResult) -> list[tuple[str, str]]:
    """The learning curves of all models, a drawing for each task that had a search."""
    return [
        (f"Learning curves: {task}", _curves({r: s.curve for r, s in _by_role(quality).items()}))
        for task, quality in result.quality.items()
        if quality.search
    ]


def finetuning_notes(result: RunResult) -> list[str]:
    """Models that may not be at their best, each with what to change."""
    notes = [
        f"{ROLES[role]} on {task}: {note}"
        for task, quality in result.quality.items()
        for role, search in _by_role(quality).items()
        for note in search_notes(search)
    ]
    return [*notes, *teacher_warnings(result)]


def search_notes(search: SearchResult) -> list[str]:
    """Where the best may lie beyond what was tried; one sentence for each direction."""
    return [
        f"had not converged: it is {limit}; its best may lie beyond, so give the search"
        f" {'more num_train_epochs' if 'epochs' in limit else 'further learning_rates'}"
        for limit in search.limits()
    ]


def teacher_warnings(result: RunResult) -> list[str]:
    """Where the teacher scores below a student."""
    own = result.task_answers.task if result.task_answers else None  # scored with its own head
    warnings = []
    for task, quality in result.quality.items():
        if task == own:
            change = "fine-tune the teacher longer (limbeck finetune)"
        elif "teacher" in quality.search:
            change = "give the search more num_train_epochs or further learning_rates"
        else:
            change = "give finetuning more num_train_epochs, or a search"
        warnings += _teacher_below(task, quality, change)
    return warnings


def _teacher_below(task: str, quality: TaskQuality, change: str) -> list[str]:
    """The warnings of a task; generation tasks train no model."""
    scores = quality.scores
    if "teacher" not in scores or "rouge_l" in quality.metrics.get("teacher", {}):
        return []
    return [
        f"teacher on {task}: it scores below {_BELOW[role]}"
        f" ({100 * scores['teacher']:.1f} < {100 * score:.1f}), so it is probably not trained to"
        f" its best, and shares of its score say little; {change}"
        for role, score in scores.items()
        if score > scores["teacher"]
    ]


def _by_role(quality: TaskQuality) -> dict[str, SearchResult]:
    return {role: quality.search[role] for role in ROLES if role in quality.search}


def _curves(curves: Mapping[str, list[tuple[float, float]]]) -> str:
    """Validation score against epochs, a line for each model."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.subplots()
        for role, curve in curves.items():
            axes.plot(
                [epochs for epochs, _ in curve],
                [100 * score for _, score in curve],
                color=COLOURS[role],
                marker=MARKERS[role],
            )
        ends = {ROLES[role]: curve[-1] for role, curve in curves.items() if curve}
        name_lines(axes, {name: (epochs, 100 * score) for name, (epochs, score) in ends.items()})
        axes.set_xlim(left=0)
        axes.set_xlabel("epochs")
        axes.set_ylabel("validation score × 100")
        return svg_of(figure)

"""`limbeck evaluate` on a folder of `limbeck export`: a file of it is scored on its engine."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EvaluationError
from ..system.files import expanded
from .terminal import console

if TYPE_CHECKING:
    from ..evaluation.seeds import TaskScore
    from ..recipe.schema import EvaluationPart

SECONDS_EACH = 0.5  # of each batch size and length, at least
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Of a folder of limbeck export: the format of the file that is scored; by default the"
        " one that limbeck.load runs.",
    ),
]


def scored_format(model: str, given: Mapping[str, Any]) -> str | None:
    """The format of the file that is scored; None where no folder of `limbeck export` is.

    Args:
        model: As the user gave it.
        given: The parameters of `limbeck evaluate`.

    Raises:
        EvaluationError: It is such a folder, and a flag needs a model in torch; or it is none, and
            a format is named.
        ExportError: There is no such file.
    """
    from ..deploy.exported_folder import chosen_format, result_of

    folder = expanded(model)
    result = result_of(folder)
    if result is None:
        if given["format_"] is not None:
            raise EvaluationError(
                f"--format names a file of a folder of `limbeck export`, and {model!r} is none;"
                " leave it out"
            )
        return None
    said = f"{model!r} is a folder of `limbeck export`"
    if given["teacher"] is not None:
        raise EvaluationError(
            f"{said}, and --teacher needs models that generate; give the folder that was exported"
        )
    if given["task"] and not given["own_head"]:
        raise EvaluationError(
            f"{said}, and a file cannot be fine-tuned; score it with the head that it has"
            " (--own-head), or fine-tune the folder that was exported"
        )
    if inside := [name for name in ("sentence_pooling", "truncate_dim") if given[name]]:
        raise EvaluationError(
            f"{said}, and its file makes vectors as it was exported; leave"
            f" --{inside[0].replace('_', '-')} out, or export a folder that is pooled or truncated"
            " so"
        )
    if not any(given[name] for name in ("task", "similarity", "retrieval", "bitext", "cost")):
        raise EvaluationError(
            f"{said}, and nothing is named that its file is scored on; name it with --task and"
            " --own-head, --similarity, --retrieval or --bitext, or measure its --cost"
        )
    if given["precision"] not in ("auto", "float32"):
        raise EvaluationError(
            f"{said}, and its files have the precision of their formats; leave --precision out, and"
            " name one with --format"
        )
    return chosen_format(str(folder), result, given["format_"])


def own_head_scores_of_file(
    model: str,
    part: "EvaluationPart",
    *,
    form: str | None,
    threads: int | None,
    max_length: int | None,
) -> "dict[str, TaskScore]":
    """The scores of a file on tasks with the head that its model has, after notes on their rows.

    Args:
        model: A folder of `limbeck export`.
        part: The tasks, and which split of them is scored.
        form: The format of the file; None for the default.
        threads: That compute; None for as many as there are cores.
        max_length: Tokens of a row at most; None for all that the model reads, as it was measured
            and as `limbeck.load` reads.

    Raises:
        ExportError: The model has no head, or there is no such file.
        EvaluationError: A task is of another kind or of other labels than the head.
    """
    from ..deploy.exported_model import ExportedModel
    from ..deploy.scores import row_notes
    from ..run.own_head import task_of_head
    from ..run.task_answers import score_of_task

    file = ExportedModel(model, format=form, threads=threads)
    head = file.need_head()
    tasks = [task_of_head(head, location, model, split=part.split) for location in part.tasks]
    for note in row_notes(tasks, file.reader, max_length=max_length):
        console.print(note, highlight=False, soft_wrap=True)
    found = {}
    for task in tasks:
        score = file.score(task, max_length=max_length)
        found[task.name] = score_of_task(task, score, training_rows=0)
    return found


def cost_of_exported(model: str, *, form: str | None, threads: int | None) -> dict[str, Any]:
    """What a file costs, measured in a process of its own, as JSON holds it.

    Args:
        model: A folder of `limbeck export`.
        form: The format of the file; None for the default.
        threads: That compute; None for as many as torch uses.

    Raises:
        ExportError: There is no such file, or the process failed.
    """
    import torch

    from ..deploy.exported_model import ExportedModel
    from ..deploy.formats import FORMATS
    from ..deploy.timing import LENGTHS, cost_of_file

    file = ExportedModel(model, format=form, threads=threads)
    cost = cost_of_file(
        expanded(model) / FORMATS[file.format].file,
        file.format,
        threads=threads or torch.get_num_threads(),
        vocabulary=file.vocabulary_size,
        lengths=tuple(dict.fromkeys(min(length, file.max_length) for length in LENGTHS)),
        seconds=SECONDS_EACH,
    )
    return asdict(cost)

"""The rows of a task that a stage reads, and whether they suit its objectives."""

from collections.abc import Iterable, Mapping, Sequence

from ..data.query_pairs import query_numbers, rows_alone
from ..errors import Problem
from ..objectives.class_labels import ClassLabels
from ..objectives.contract import Objective
from ..objectives.margin_mse import MarginMse
from ..training.stage import Stage
from .schema import DataPart
from .sides import Models
from .stage_part import AlignmentPart, StagePart
from .task_rows import TaskRows

NO_ROWS = "counts rows of a task, which this stage does not read; give tokens or max_steps"


def rows_of_stage(
    objectives: Mapping[str, Objective], rows: TaskRows | None, data: DataPart
) -> TaskRows | None:
    """The rows that a stage reads: where its objectives need the head, or there is no text."""
    needed = any(objective.student_needs().class_logits for objective in objectives.values())
    if rows is None or not (needed or not (data.text or data.prompts)):
        return None
    return rows.labelled if learns_labels_alone(objectives.values()) else rows


def learns_labels_alone(objectives: Iterable[Objective]) -> bool:
    """Whether a row without a label would teach nothing."""
    given = [*objectives]
    return bool(given) and all(
        isinstance(one, ClassLabels) and one.labels_from == "gold" for one in given
    )


def rows_problems(
    part: StagePart,
    number: int,
    objectives: Mapping[str, Objective],
    models: Models,
    *,
    rows: TaskRows | None,
) -> list[Problem]:
    """What has no place in a stage that reads rows of a task, or in one that does not."""
    place = f"stages.{number}"
    if rows is None:
        found = [(f"{place}.num_train_epochs", NO_ROWS)] if part.num_train_epochs else []
    else:
        message = "has no place in a stage that reads the rows of a task; leave it out"
        given = ("policy", "masking")
        found = [(f"{place}.{name}", message) for name in given if getattr(part, name) is not None]
        if part.alignment is not None and models.student.architecture.causal:
            found.append((f"{place}.alignment", f"of decoders {message}"))
        elif part.alignment not in (None, AlignmentPart()):
            message = "must be match, without options, in a stage that reads the rows of a task"
            found.append((f"{place}.alignment", message))
        if not (rows.train and rows.held_out):
            message = f"learns from labels alone, and of the rows with labels {len(rows.train)} are"
            message += f" left to learn from and {len(rows.held_out)} held out; give rows with"
            message += " labels (`data.task`), or hold more of them out (`data.held_out.fraction`)"
            found.append((f"{place}.objectives", message))
        if part.tokens is not None:
            message = "is for text; of rows give num_train_epochs, or max_steps"
            found.append((f"{place}.tokens", message))
    found += [
        (f"{place}.objectives.{name}", said)
        for name, objective in objectives.items()
        if isinstance(objective, MarginMse) and (said := _unpaired(rows))
    ]
    headless = [name for name, o in objectives.items() if o.student_needs().predictions]
    if models.student.head:
        message = (
            "needs a vocabulary head, and the student has the head of a task; train it in a recipe"
            " of its own before this one, and name its student (`student.model`)"
        )
        found += [(f"{place}.objectives.{name}", message) for name in headless]
    return found


def compares_pairs(objectives: Iterable[Objective]) -> bool:
    """Whether an objective compares two rows of one query, so that rows are read in such pairs."""
    return any(isinstance(objective, MarginMse) for objective in objectives)


def _unpaired(rows: TaskRows | None) -> str | None:
    """Why rows cannot be compared with others of their query; None where some can."""
    needed = "give rows in which a `text` (the query) has several `text_pair` (documents)"
    if rows is None:
        return f"compares rows of a task, which this stage does not read; {needed}"
    if any(row.words is not None or row.text_pair is None for row in rows.train):
        return f"compares documents of one query, and not all rows are pairs of texts; {needed}"
    if rows_alone(query_numbers([row.text for row in rows.train])) == len(rows.train):
        said = f"compares documents of one query, and each of {len(rows.train)} rows has its own"
        return f"{said}; {needed}"
    return None


def rows_warnings(rows: TaskRows | None, stages: Sequence[Stage]) -> list[str]:
    """Rows of which a step reads some several times, and rows that have no pair."""
    if rows is None:
        return []
    few = [
        f"stage {stage.name} reads {stage.batch_size} rows in a step, and there are"
        f" {len(rows.train)} to learn from"
        for stage in stages
        if stage.rows and stage.batch_size > len(rows.train)
    ]
    pairs = sum(row.text_pair is not None for row in rows.train)
    if rows.kind == "sequence" and 0 < pairs < len(rows.train):
        few.append(
            f"{pairs} of {len(rows.train)} rows are pairs of texts, and the others single texts; a"
            " model of one kind has not learned the other"
        )
    if not any(compares_pairs(stage.objectives.values()) for stage in stages):
        return few
    alone = rows_alone(query_numbers([row.text for row in rows.train]))
    said = (
        f"{alone} of {len(rows.train)} rows have a query (`text`) of which there is no other row;"
        " they are read, and `margin_mse` learns nothing of them"
    )
    return [*few, said] if alone else few

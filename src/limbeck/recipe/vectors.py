"""Vectors of texts that a student learns: the teacher's, and whether rows and stages suit them."""

from collections.abc import Sequence

from ..errors import LimbeckError, ModelError, Problem
from ..export.sentence_transformers import check_order
from ..models.sentences.load import chain_of, sentence_vectors
from ..models.sentences.vectors import SentenceVectors as Vectors
from ..objectives.sentence_vectors import SentenceVectors
from ..training.stage import Stage
from .models_part import TeacherPart
from .schema import DataPart
from .sides import Models


def learns_vectors(stages: Sequence[Stage]) -> bool:
    """Whether any stage learns vectors of texts."""
    return any(stage.student_needs().sentence_vectors for stage in stages)


def compares_coordinates(stages: Sequence[Stage]) -> bool:
    """Whether any stage compares the two models' vectors, which then have the same width."""
    objectives = [objective for stage in stages for objective in stage.objectives.values()]
    return any(isinstance(objective, SentenceVectors) for objective in objectives)


def maps_vectors(models: Models, teacher: str, stages: Sequence[Stage]) -> bool:
    """Whether the student gets a new map to the width of the teacher's vectors."""
    if not compares_coordinates(stages):
        return False
    name = models.student.name
    own = chain_of(name) if name else None
    has_vectors = own is not None and own.pooling is not None
    mine = sentence_vectors(name).width if has_vectors else models.student.shape.hidden_size
    return mine != sentence_vectors(teacher).width


def teacher_prompt(part: TeacherPart) -> str:
    """What is put before each text that the teacher reads: its own default, or what is named."""
    known = _prompts(part)
    if part.prompt is None:
        chain = chain_of(part.model)
        return known.get(chain.default_prompt or "", "") if chain else ""
    return known.get(part.prompt, part.prompt)


def _prompts(part: TeacherPart) -> dict[str, str]:
    """The teacher's prompts by their names."""
    chain = chain_of(part.model)
    return dict(chain.prompts) if chain else {}


def vector_problems(
    part: TeacherPart | None, models: Models, data: DataPart, stages: Sequence[Stage]
) -> list[Problem]:
    """Why vectors of texts cannot be learned, where a stage wants them."""
    if not learns_vectors(stages):
        named = part is not None and part.prompt is not None
        message = "is for `sentence_vectors` and `sentence_similarities`; leave it out"
        return [("teacher.prompt", message)] if named else []
    if part is None:
        return []  # the objective says that it needs a teacher
    try:
        theirs = sentence_vectors(part.model)
        prompt = teacher_prompt(part)
    except LimbeckError as error:
        return [("teacher.model", str(error))]
    problems = _pooling_problems(models.student.name, theirs)
    if data.task is not None and not any(s.student_needs().class_logits for s in stages):
        message = "has classes, tags or scores, which no stage learns beside the vectors; give the"
        message += " texts as `data.rows`, or add `class_logits` or `class_labels`"
        problems.append(("data.task", message))
    if part.prompt and part.prompt.isidentifier() and part.prompt not in _prompts(part):
        known = ", ".join(_prompts(part)) or "it has none"
        message = (
            f"is {part.prompt!r}, which is no name of a prompt of the teacher ({known}); give one"
            f" of them, or the text itself, as {part.prompt + ': '!r}"
        )
        problems.append(("teacher.prompt", message))
    if prompt and not theirs.pooling.include_prompt:
        message = (
            "is put before texts, and the teacher's pooling leaves prompts out; give '' for none"
        )
        problems.append(("teacher.prompt", message))
    for number, stage in enumerate(stages):
        if not stage.student_needs().sentence_vectors:
            continue
        if stage.policy or (stage.alignment and not stage.rows):
            message = "learns vectors of whole texts; leave alignment and policy out, or give the"
            message += " texts as `data.rows`, of which tokens can be aligned"
            problems.append((f"stages.{number}", message))
        if not stage.rows and models.two_vocabularies:
            message = "is read in the student's tokens alone; give the texts as `data.rows`"
            problems.append(("data.text", message))
        elif not stage.rows and data.packing:
            message = "must be false where vectors of texts are learned: a row is one text"
            problems.append(("data.packing", message))
        for name, objective in stage.objectives.items():
            if not isinstance(objective, SentenceVectors):
                continue
            widest = max(objective.matryoshka_dims, default=0)
            if widest > theirs.width:
                field = f"stages.{number}.objectives.{name}.matryoshka_dims"
                message = f"has {widest}, and the teacher's vectors have {theirs.width} coordinates"
                problems.append((field, message))
    return list(dict.fromkeys(problems))


def _pooling_problems(student: str, theirs: Vectors) -> list[Problem]:
    """Why the student's pooling, its own or else the teacher's, cannot be saved with it."""
    own = chain_of(student) if student else None
    field, pooling = "teacher.model", theirs.pooling
    if own and own.pooling:
        field, pooling = "student.model", own.pooling
    try:
        check_order(pooling)
    except ModelError as error:
        return [(field, str(error))]
    return []

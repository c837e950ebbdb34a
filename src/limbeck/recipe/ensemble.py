"""Several teachers of a task: whether they read the same tokens and say the same of them."""

import json
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerFast

from ..activations import CLASS_LOGITS
from ..errors import LimbeckError, Problem
from ..models.families.lookup import architecture_of
from ..models.load import load_config
from ..models.task_heads import TaskHead, head_of, label_problem, no_head_of_task
from ..models.weight_headers import check_weights
from ..tokenization.load import load_tokenizer
from ..tokenization.post_processor import own_frame
from ..training.stage import Stage
from .models_part import TeacherPart
from .sides import Models, ModelSide, same_tokens
from .task import with_head

_WHY = (
    "all teachers read one tokenization of the rows, so they need the same tokenizer; distil from"
    " models that were fine-tuned from the same pretrained one, or leave this one out"
)
_SPLITTING = {"normalizer": "normalizer", "pre_tokenizer": "pre-tokenizer", "model": "model"}
Described = tuple[Models, list[Problem], list[str]]


def with_ensemble(models: Models, part: TeacherPart | None, *, max_length: int) -> Described:
    """The models with all further teachers; their problems; warnings.

    Args:
        models: With the head of the task, which the further teachers must have too.
        part: The teacher, as a recipe names it.
        max_length: Tokens of a row at most.
    """
    if part is None or not part.ensemble:
        return models, [], []
    first = models.teacher
    if first is None or first.head is None:
        message = "is for models with the head of a task (`data.task` or `data.rows`), whose"
        message += " class probabilities are averaged; leave it out"
        return models, [("teacher.ensemble", message)], []
    names = [part.model, *part.ensemble]
    problems = [
        (f"teacher.ensemble.{number - 1}", f"names {name!r} twice")
        for number, name in enumerate(names)
        if name in names[:number]
    ]
    sides: list[ModelSide] = []
    warnings: list[str] = []
    for number, name in enumerate(part.ensemble):
        side, found, notes = _member(name, first, part, max_length=max_length)
        problems += [(f"teacher.ensemble.{number}", message) for message in found]
        warnings += notes
        sides += [side] if side else []
    heads = [head_of(side.config) for side in (first, *sides)]
    known = {label for head in heads if head for label in head.labels}
    if len(sides) == len(part.ensemble) and (unknown := sorted(set(part.labels) - known)):
        message = f"{', '.join(map(repr, unknown))} is no label of any of the teachers"
        problems.append(("teacher.labels", message))
    return replace(models, ensemble=tuple(sides)), problems, warnings


def ensemble_problems(part: TeacherPart | None, stages: Sequence[Stage]) -> list[Problem]:
    """Stages that need more of several teachers than their class logits."""
    if part is None or not part.ensemble:
        return []
    needed = "and of several teachers (`teacher.ensemble`) only class logits are averaged; name one"
    problems = []
    for number, stage in enumerate(stages):
        place = f"stages.{number}"
        problems += [
            (f"{place}.objectives.{name}", f"needs {', '.join(kinds)} of the teacher, {needed}")
            for name, objective in stage.objectives.items()
            if (
                kinds := sorted(
                    {n[0] for n in objective.teacher_needs().tensors() - {CLASS_LOGITS}}
                )
            )
        ]
        if stage.generates_with_teacher:
            problems.append((f"{place}.policy", f"generates text with the teacher, {needed}"))
        if stage.mixed is not None:
            problems.append((f"{place}.mixed", f"trains the teacher, {needed}"))
    return problems


def columns_of_ensemble(models: Models) -> tuple[tuple[int, ...], ...]:
    """For each further teacher, which of its classes are those of the first, in its order."""
    first = models.required_teacher().head
    if first is None:
        return ()
    return tuple(
        tuple(side.head.labels.index(label) for label in first.labels)
        for side in models.ensemble
        if side.head
    )


def _member(
    name: str, first: ModelSide, part: TeacherPart, *, max_length: int
) -> tuple[ModelSide | None, list[str], list[str]]:
    """A further teacher before a weight is loaded; what is wrong with it; notes."""
    try:
        config = load_config(name)
        head = head_of(config)
        if head is None:
            return None, [no_head_of_task(name, config)], []
        head = head.renamed(part.labels, strict=False)
        architecture, tokenizer = architecture_of(config), load_tokenizer(name)
        problem, note = check_weights(name, architecture=architecture)
    except LimbeckError as error:
        return None, [str(error)], []
    side = with_head(ModelSide.of(name, config, architecture, tokenizer), head)
    problems = [problem] if problem else []
    problems += _other_head(name, head, first)
    if other := _other_tokens(tokenizer, first.tokenizer):
        problems.append(f"{name!r} {other}: {_WHY}")
    reads = min(max_length, first.shape.max_position_embeddings)
    if (limit := side.shape.max_position_embeddings) < reads:
        problems.append(
            f"{name!r} reads {limit} tokens at most, and the first teacher"
            f" {reads} of a row; lower data.max_length, or leave it out"
        )
    return side, problems, [note] if note else []


def _other_head(name: str, head: TaskHead, first: ModelSide) -> list[str]:
    """A head of another kind than the first teacher's, or of other labels."""
    mine = first.head
    if mine is None:
        return []
    if not head.like(mine):
        return [f"{name!r} has {head.about}, and the first teacher {mine.about}; give the same"]
    for given, known, whose in (
        (mine.labels, head.labels, repr(name)),
        (head.labels, mine.labels, repr(first.name)),
    ):
        if problem := label_problem(given, known, whose):
            return [problem.replace("the rows have", "another teacher has", 1)]
    return []


def _other_tokens(mine: PreTrainedTokenizerFast, first: PreTrainedTokenizerFast) -> str | None:
    """What a tokenizer does to text in another way than the first; None where it does the same."""
    if not same_tokens(first, mine):
        same = len(set(first.get_vocab().items()) & set(mine.get_vocab().items()))
        return (
            f"has {len(mine)} tokens and the first teacher {len(first)}, of which {same} are the"
            " same with the same number"
        )
    if own_frame(mine.backend_tokenizer) != own_frame(first.backend_tokenizer):
        own, theirs = _framed(mine), _framed(first)
        return f"puts {own} around a text, and the first teacher {theirs}"
    one, other = (json.loads(some.backend_tokenizer.to_str()) for some in (mine, first))
    for part, called in _SPLITTING.items():
        if one[part] != other[part]:
            return f"has another {called} than the first teacher, so it reads other tokens"
    if mine.padding_side != first.padding_side or mine.pad_token_id != first.pad_token_id:
        return "pads in another way than the first teacher"
    return None


def _framed(tokenizer: PreTrainedTokenizerFast) -> str:
    """The special tokens around a text, as `[CLS] ... [SEP]`."""
    ends = own_frame(tokenizer.backend_tokenizer)
    if ends is None:
        return "nothing"
    around = (tokenizer.convert_ids_to_tokens(list(ids)) for ids in ends)
    return " ... ".join(" ".join(tokens) for tokens in around)

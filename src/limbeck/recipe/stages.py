"""The stages of a recipe as the loop takes them, with every problem found on the way."""

from collections.abc import Mapping
from typing import Any

from ..errors import Problem
from ..objectives.catalogue import objective_of
from ..objectives.contract import Objective
from ..objectives.labels import Labels
from ..objectives.schedule import Ramp
from ..tokenization.masking import Masking, NextToken
from ..training.stages import Stage
from .low_rank import skeleton
from .parse import parse_objective, stage_objectives
from .prompts import stage_policy
from .schema import DataPart, StagePart
from .sides import Models, padding_problems
from .tokenizers import alignment_problems, comparison_problems

Built = tuple[Stage | None, Masking | NextToken | None, list[Problem]]


def build_stage(part: StagePart, number: int, models: Models, data: DataPart) -> Built:
    """A stage with its objectives bound to both models, what hides tokens in it, and its problems."""
    problems = alignment_problems(part, number, models, data)
    own = models.student
    if part.alignment and not problems:
        models = models.aligned(part.alignment)
    bound: dict[str, Objective] = {}
    weights: dict[str, float | Ramp] = {}
    for name, options in stage_objectives(part.model_dump()).items():
        place = ("stages", str(number), "objectives", name)
        given, weight, found = parse_objective(name, options, place)
        problems += found
        if given is None:
            continue
        objective = objective_of(options.get("kind", name), given)
        # Labels are of the student's own tokens, whatever is compared beside them.
        student = own if isinstance(objective, Labels) else models.student
        wrong = objective.problems_with(student, models.teacher)
        problems += [(".".join([*place, *([f] if f else [])]), message) for f, message in wrong]
        if not wrong:
            bound[name] = objective.bound(student, models.teacher)
            weights[name] = weight
    if part.alignment and part.alignment.kind != "boundaries":
        message = "needs `alignment: boundaries`, and decoders; leave it out"
        problems += [
            (f"stages.{number}.objectives.{name}", message)
            for name, objective in bound.items()
            if objective.teacher_needs().likelihoods
        ]
    compares = any(objective.teacher_needs().anything for objective in bound.values())
    if compares and not part.alignment:
        problems += comparison_problems(models, f"stages.{number}.objectives")
    problems += _size_problems(part, number, data)
    if part.trainable == "head":
        problems += _head_problems(bound, number, models)
    policy, found = stage_policy(part, number, models, data)
    problems += found
    if data.isolate_documents and (
        part.alignment or not (data.packing and models.architecture.causal)
    ):
        message = "is for packed text that decoders read, without an alignment; leave it out"
        problems.append(("data.isolate_documents", message))
    if part.masking and models.architecture.causal:
        message = "hides tokens, which decoders do not learn from; leave it out"
        problems.append((f"stages.{number}.masking", message))
    if problems:
        return None, None, problems
    stage = Stage(
        name=part.name or "+".join(bound),
        objectives=bound,
        weights=weights,
        trainable=part.trainable,
        alignment=part.alignment is not None,
        policy=policy,
        projections=part.projection_init,
        **_course(part, data),
    )
    predicts = stage.student_needs().predictions or stage.teacher_needs().predictions
    if models.architecture.causal:
        return stage, NextToken() if predicts else None, []
    masking = part.masking or (Masking() if predicts else None)
    both = part.alignment is not None and part.alignment.teacher_input == "masked"
    if masking and (problems := _mask_problems(models, number, both=both)):
        return None, None, problems
    return stage, masking, []


def _mask_problems(models: Models, number: int, *, both: bool) -> list[Problem]:
    """Tokenizers without a mask token, where tokens are hidden."""
    tokenizers = {"student": models.tokenizer}
    if both and models.teacher_tokenizer:
        tokenizers["teacher"] = models.teacher_tokenizer
    lacking = [who for who, found in tokenizers.items() if found.mask_token_id is None]
    message = "hides tokens, but the tokenizer of the {} has no mask_token; add one, or leave out"
    message += " `masking` and the objectives that need predictions (labels, output ...)"
    return [(f"stages.{number}", message.format(who)) for who in lacking]


def _head_problems(
    objectives: Mapping[str, Objective], number: int, models: Models
) -> list[Problem]:
    """Objectives that give a vocabulary head nothing to learn from, or a head without weights."""
    place = f"stages.{number}.trainable"
    others = [name for name, o in objectives.items() if not o.student_needs().predictions]
    if others:
        message = f"is head, but {', '.join(others)} asks for no predictions; train all, or leave"
        return [(place, f"{message} the objective out")]
    model = skeleton(models)
    body = {id(parameter) for parameter in model.base_model.parameters()}
    if all(id(parameter) in body for parameter in model.parameters()):
        message = "is head, but the student's is its embedding table and nothing else; train all"
        return [(place, message)]
    return []


def build_mixed_stage(part: StagePart, number: int, models: Models, data: DataPart) -> Built:
    """Stage I of mixed-vocabulary training."""
    place = f"stages.{number}"
    share = part.mixed.student_fraction if part.mixed else 0.5
    needed = [
        (number == 0, f"{place}.mixed", "can only be the first stage"),
        (models.teacher is not None, "teacher", "is missing; a mixed stage trains a copy of it"),
        (
            models.teacher is None or models.two_vocabularies,
            "student.tokenizer",
            "is the teacher's own; learn another (limbeck vocabulary learn) and name it",
        ),
        (
            not models.architecture.causal,
            "student.model_type",
            "is a decoder; a mixed stage hides words, which only encoders fill in",
        ),
        (part.trainable == "all", f"{place}.trainable", "must be all in a mixed stage"),
        (part.alignment is None, f"{place}.alignment", "has no place in a mixed stage"),
        (part.policy is None, f"{place}.policy", "has no place in a mixed stage"),
        (bool(data.text), "data.text", "is missing; a mixed stage reads text"),
        (data.packing, "data.packing", "must be true with a mixed stage"),
    ]
    problems = [(field, message) for met, field, message in needed if not met]
    if models.teacher_architecture is not None:
        theirs = models.teacher_tokenizer
        problems += padding_problems(models.teacher_architecture, theirs, models.tokenizer)
    problems += _size_problems(part, number, data) + _mask_problems(models, number, both=True)
    if problems:
        return None, None, problems
    stage = Stage(
        name=part.name or "mixed",
        objectives={"labels": Labels()},
        weights={"labels": 1.0},
        mixed=share,
        **_course(part, data),
    )
    return stage, part.masking or Masking(), []


def _size_problems(part: StagePart, number: int, data: DataPart) -> list[Problem]:
    problems: list[Problem] = []
    if part.tokens is not None and not data.packing:
        problems.append((f"stages.{number}.tokens", "needs `data.packing`; unpacked, give steps"))
    if part.micro_batch_size and part.micro_batch_size > part.batch_size:
        problems.append(
            (f"stages.{number}.micro_batch_size", f"is above batch_size={part.batch_size}")
        )
    return problems


def _course(part: StagePart, data: DataPart) -> dict[str, Any]:
    """How long a stage is, how it is cut and how fast it learns."""
    return {
        "steps": part.max_steps
        or steps_of_tokens(part.tokens or 0, part.batch_size, data.max_length),
        "batch_size": part.batch_size,
        "micro_batch_size": part.micro_batch_size or part.batch_size,
        "optimizer": part.optimizer,
        "dropout": part.dropout,
    }


def steps_of_tokens(tokens: int, batch_size: int, length: int) -> int:
    """Steps that see at least that many tokens, with full sequences.

    >>> steps_of_tokens(5_000_000, 32, 128)
    1221
    """
    return max(1, -(-tokens // (batch_size * length)))

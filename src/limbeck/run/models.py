"""The student of a recipe with its initial weights, and the teacher beside it."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from ..evaluation.examples import multi_hot
from ..models.architecture import Architecture
from ..models.capture import output_map
from ..models.load import load_body, load_config, load_model, load_task_model, load_with_head
from ..models.task_heads import head_of, is_task_class
from ..recipe.setup import Setup
from ..student.embedding_init import (
    kept_tokens,
    mean_of_containing_tokens,
    mean_of_teacher_tokens,
    set_embeddings,
)
from ..student.frozen import hold_frozen, share_frozen
from ..student.label_bias import log_odds, set_output_bias
from ..student.layer_copy import copy_layers
from ..student.mixed_vocabulary import with_tokens
from ..student.recompute import recompute_layers
from ..student.shape import build_student
from ..teacher.live import LiveTeacher
from ..training.processes import keeps_shards
from .batches import calibration_tokens
from .low_rank import lower_rank, train_only_factors
from .teacher import attend, live_teachers, load_teacher
from .text_counts import teacher_token_counts
from .vectors import attach_student_vectors


def build_models(
    setup: Setup, accelerator: Accelerator, *, copy: bool = True
) -> tuple[PreTrainedModel, LiveTeacher | None]:
    """The student with its initial weights, and the teacher where anything needs one.

    Args:
        setup: A checked recipe.
        accelerator: Tells the device.
        copy: False leaves the student's weights random, which only a probe may want.
    """
    recipe, models = setup.recipe, setup.models
    student = _first_student(setup, pretrained=copy)
    teacher = None
    taught = setup.runs_teacher
    if copy and recipe.teacher and recipe.student.embedding_init != "random":
        _begin_with_embeddings(setup, student, recipe.teacher.model)
    aligned = any(stage.alignment or stage.rows for stage in setup.stages)
    copied = bool(models.copied_layers) and not models.two_vocabularies
    if recipe.teacher and (copied or (taught and (aligned or not models.two_vocabularies))):
        asks_logits = any(stage.needs_teacher_logits for stage in setup.stages)
        model = load_teacher(
            models.required_teacher(), accelerator, with_head=True if asks_logits else None
        )
        if copy and copied:
            copy_teacher_layers(setup, student, model)
        if taught:
            teacher = live_teachers(setup, model, accelerator)
    if recipe.student.low_rank:
        text = [calibration_tokens(setup)] if recipe.student.low_rank.whiten else []
        lower_rank(student, models, recipe.student.low_rank, calibration=text, seed=recipe.seed)
    if recipe.training.gradient_checkpointing:
        recompute_layers(student, models.student.architecture)
    if setup.learns_low_rank_alone and not keeps_shards(accelerator):
        _hold_frozen(setup, student, teacher, accelerator)
    attend(setup, student)
    attach_student_vectors(setup, student)
    return student, teacher


def _hold_frozen(
    setup: Setup, student: PreTrainedModel, teacher: LiveTeacher | None, accelerator: Accelerator
) -> None:
    """Hold what is never trained in 16 bits, and once for both models where they have the same."""
    train_only_factors(setup, student)
    hold_frozen(student, setup.recipe.training.frozen_dtype)
    if teacher:
        student.to(accelerator.device)  # moved later, its weights would be others
        share_frozen(student, teacher.model)


def _begin_with_embeddings(setup: Setup, student: PreTrainedModel, teacher: str) -> None:
    """Give the student what its tokens are to the teacher, and the teacher's layers if asked."""
    side = setup.models.required_teacher()
    architecture = side.architecture
    if side.head:
        model = load_task_model(teacher, side.head, stored=True)
    else:
        model = load_model(teacher, architecture=architecture, stored=True)
    rows, weights = first_rows(setup, model)
    if setup.models.copied_layers and setup.stages[0].mixed is None:
        head = _first_head(setup, model, architecture)
        copy_teacher_layers(setup, student, with_tokens(model, architecture, rows, *head))
    else:
        set_embeddings(student, rows, weights=weights)


def _first_student(setup: Setup, *, pretrained: bool) -> PreTrainedModel:
    models, name = setup.models, setup.recipe.student.model
    if models.student.head:
        return _first_task_student(setup, pretrained=pretrained)
    if pretrained and name:
        return load_with_head(
            name, architecture=models.student.architecture, seed=setup.recipe.seed
        )
    config, seed = models.student.config, setup.recipe.seed
    return build_student(config, seed=seed, architecture=models.student.architecture)


def _first_task_student(setup: Setup, *, pretrained: bool) -> PreTrainedModel:
    """A student with the head of a task: its own if it was trained for these labels, or a new one.

    Args:
        setup: A checked recipe.
        pretrained: False leaves all weights random.
    """
    side, name = setup.models.student, setup.recipe.student.model
    own = head_of(load_config(name)) if name else None
    if name and own and pretrained and own == side.head:
        return load_task_model(name, own)
    student = build_student(
        side.config, seed=setup.recipe.seed, architecture=side.architecture, head=side.head
    )
    if side.head and side.head.multi_label and setup.rows:
        rows = multi_hot(setup.rows.train, side.head.labels)
        set_output_bias(student, side.head, log_odds(rows))
    if name and pretrained:
        with torch.random.fork_rng():
            torch.manual_seed(setup.recipe.seed)  # decides a pooler that the files lack
            body = load_body(name).state_dict()
        inside = student.base_model.state_dict().keys()
        student.base_model.load_state_dict({k: v for k, v in body.items() if k in inside})
    return student


def copy_teacher_layers(setup: Setup, student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Initialize the student's layers from the teacher's, where the recipe wants it."""
    models, part = setup.models, setup.recipe.student.init_from_teacher
    if models.copied_layers and part:
        copy_layers(
            student,
            teacher,
            models.student.architecture,
            layers=models.copied_layers,
            width=part.width,
            calibration=[calibration_tokens(setup)],
        )


def first_rows(setup: Setup, teacher: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """What each of the student's tokens is to the teacher, and its weight; 0 where none is."""
    embeddings: Any = teacher.get_input_embeddings()
    return _rows_of(setup, embeddings.weight)


def _first_head(
    setup: Setup, teacher: PreTrainedModel, architecture: Architecture
) -> tuple[Tensor | None, Tensor | None]:
    """The head's rows for the student's tokens, and their biases; None where it has none itself."""
    if teacher is teacher.base_model or is_task_class(type(teacher)):
        return None, None
    embeddings: Any = teacher.get_input_embeddings()
    output = output_map(teacher, architecture)
    tied = output.weight is embeddings.weight
    rows = None if tied else _rows_of(setup, output.weight)[0]
    return rows, None if output.bias is None else _rows_of(setup, output.bias[:, None])[0][:, 0]


def _rows_of(setup: Setup, table: Tensor) -> tuple[Tensor, Tensor]:
    """Rows for the student's tokens of a table of the teacher's, with the weights of tokens."""
    kind, models = setup.recipe.student.embedding_init, setup.models
    tokenizers = models.required_teacher().tokenizer, models.student.tokenizer
    table = table.detach().float()
    means = mean_of_teacher_tokens(table, *tokenizers)
    ids = models.student.shape.token_ids
    even = torch.zeros(len(means))
    even[ids.columns("cpu")] = 1.0
    if kind == "mean":
        return means, even
    counts = torch.from_numpy(teacher_token_counts(setup)) if kind == "weighted" else None
    rows, total = mean_of_containing_tokens(
        table[: len(models.tokens.same)], models.tokens, means, counts=counts
    )
    kept = kept_tokens(*tokenizers)
    rows[kept] = means[kept]
    return rows, total if kind == "weighted" else even

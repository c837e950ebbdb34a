"""The models of a recipe, with weights: student, teacher, and what is trained in each stage."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import RecipeError
from ..export.both import load_both
from ..models.architecture import Architecture
from ..models.attention import use_float32_attention
from ..models.load import load_model, load_with_head
from ..models.modules import submodule
from ..objectives.alignment import Alignment
from ..recipe.check import Setup
from ..recipe.low_rank import lower_rank, train_only_factors
from ..recipe.schema import AlignmentPart, Recipe
from ..recipe.sides import compared_tokens
from ..student.first_embeddings import (
    mean_of_containing_tokens,
    mean_of_teacher_tokens,
    set_embeddings,
)
from ..student.layer_copy import copy_layers
from ..student.mixed_vocabulary import MixedVocabulary, reader_of_student_tokens, with_tokens
from ..student.projections import Projections
from ..student.recompute import recompute_layers
from ..student.shape import build_student
from ..system.device import choose_device, choose_precision
from ..teacher.live import LiveTeacher, halve_weights
from ..training.processes import keeps_shares, shard_layers
from ..training.stages import Learner, MixedLearner
from .batches import calibration_tokens, teacher_token_counts


def build_accelerator(recipe: Recipe, folder: Path | str) -> Accelerator:
    """Device, precision, processes and trackers."""
    # Runs of one process may differ in precision; the library keeps the first one's otherwise.
    AcceleratorState._reset_state()
    device = choose_device(recipe.training.device)
    precision = choose_precision(recipe.training.precision, device)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if precision.half else "no",
        log_with=list(recipe.training.report_to) or None,
        project_dir=str(folder),
    )


def build_models(
    setup: Setup, accelerator: Accelerator, *, copy: bool = True
) -> tuple[PreTrainedModel, LiveTeacher | None]:
    """The student with its first weights, and the teacher where anything needs one.

    Args:
        setup: A checked recipe.
        accelerator: Tells the device.
        copy: False leaves the student's first weights random, which only a probe may want.
    """
    recipe, models = setup.recipe, setup.models
    student = _first_student(setup, pretrained=copy)
    teacher = None
    taught = any(stage.teacher_needs().anything or stage.asks_logits for stage in setup.stages)
    taught = taught and recipe.teacher is not None and recipe.teacher.cache is None
    if copy and recipe.teacher and recipe.student.embedding_init != "random":
        _begin_with_embeddings(setup, student, recipe.teacher.model)
    aligned = any(stage.alignment for stage in setup.stages)
    copied = bool(models.copied_layers) and not models.two_vocabularies
    if recipe.teacher and (copied or (taught and (aligned or not models.two_vocabularies))):
        asks_logits = any(stage.asks_logits for stage in setup.stages)
        model = load_teacher(setup, accelerator, with_head=True if asks_logits else None)
        if copy and copied:
            copy_teacher_layers(setup, student, model)
        if taught:
            teacher = live_teacher(setup, model, accelerator)
    if recipe.student.low_rank:
        text = [calibration_tokens(setup)] if recipe.student.low_rank.whiten else []
        lower_rank(student, models, recipe.student.low_rank, calibration=text, seed=recipe.seed)
    if recipe.training.gradient_checkpointing:
        recompute_layers(student, models.architecture)
    _attend(setup, student)
    return student, teacher


def _begin_with_embeddings(setup: Setup, student: PreTrainedModel, teacher: str) -> None:
    """Give the student what its tokens are to the teacher, and the teacher's layers if asked."""
    architecture = _teacher_architecture(setup)
    model = load_model(teacher, architecture=architecture, stored=True)
    rows, weights = _first_rows(setup, model)
    if setup.models.copied_layers and setup.stages[0].mixed is None:
        copy_teacher_layers(setup, student, with_tokens(model, architecture, rows))
    else:
        set_embeddings(student, rows, weights=weights)


def _first_student(setup: Setup, *, pretrained: bool) -> PreTrainedModel:
    models, name = setup.models, setup.recipe.student.model
    if pretrained and name:
        return load_with_head(name, architecture=models.architecture, seed=setup.recipe.seed)
    config, seed = models.student_config, setup.recipe.seed
    return build_student(config, seed=seed, causal=models.architecture.causal)


def teacher_after_mixed(setup: Setup, folder: Path) -> PreTrainedModel:
    """The teacher that a mixed stage has left in a run's folder, as a reader of student tokens."""
    both, first = load_both(folder, architecture=_teacher_architecture(setup))
    return reader_of_student_tokens(both, _teacher_architecture(setup), student_from=first)


def untrained_after_mixed(setup: Setup) -> PreTrainedModel:
    """A model of the size that a mixed stage leaves, for a probe: it reads student tokens."""
    architecture, part = _teacher_architecture(setup), setup.recipe.teacher
    if part is None:
        raise RecipeError("this recipe has no teacher, and something asks for one; name it")
    model = load_with_head(part.model, architecture=architecture, seed=setup.recipe.seed)
    table: Any = model.get_input_embeddings()
    rows = table.weight.new_zeros(setup.models.student.vocab_size, table.weight.shape[1])
    return with_tokens(model, architecture, rows)


def load_teacher(
    setup: Setup, accelerator: Accelerator, *, with_head: bool | None
) -> PreTrainedModel:
    """The recipe's teacher, in the precision of its file.

    Args:
        setup: A checked recipe.
        accelerator: What keeps shares wants all of a layer's weights in one precision.
        with_head: As for `load_model`.
    """
    part, architecture = setup.recipe.teacher, _teacher_architecture(setup)
    if part is None:
        raise RecipeError("this recipe has no teacher, and something asks for one; name it")
    stored = not keeps_shares(accelerator)
    return load_model(part.model, architecture=architecture, with_head=with_head, stored=stored)


def live_teacher(setup: Setup, model: PreTrainedModel, accelerator: Accelerator) -> LiveTeacher:
    """A teacher that runs beside the student, on its device."""
    _attend(setup, model)
    architecture = _teacher_architecture(setup)
    # What keeps shares wants the weights of a layer alike.
    if _reads_in_bfloat16(setup) and not keeps_shares(accelerator):
        halve_weights(model)
    model.requires_grad_(False).to(accelerator.device)
    shard_layers(submodule(model.base_model, architecture.layers), accelerator)
    return LiveTeacher(model, architecture)


def _reads_in_bfloat16(setup: Setup) -> bool:
    """Whether the teacher always does, also where it writes."""
    policies = [stage.policy for stage in setup.stages if stage.policy]
    asking = [policy for policy in policies if policy.rule and policy.rule.asks_teacher]
    coarse = all(policy.options.precision == "bfloat16" for policy in asking)
    return coarse and setup.precision.half


def copy_teacher_layers(setup: Setup, student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """First weights of the student, where the recipe wants them to be the teacher's."""
    models, part = setup.models, setup.recipe.student.init_from_teacher
    if models.copied_layers and part:
        copy_layers(
            student,
            teacher,
            models.architecture,
            layers=models.copied_layers,
            width=part.width,
            calibration=[calibration_tokens(setup)],
        )


def build_learner(setup: Setup, student: PreTrainedModel, number: int) -> Learner | MixedLearner:
    """The student with what is trained beside it in one stage."""
    stage = setup.stages[number]
    if stage.mixed is not None:
        theirs = setup.models.teacher
        ids = theirs.token_ids if theirs else None, setup.models.student.token_ids
        return MixedLearner(student, _mixed_vocabulary(setup, student), vocabularies=ids)
    shapes = setup.models.student, setup.models.teacher
    projections = {
        name: Projections(objective.projection_sizes(*shapes), seed=setup.recipe.seed + number)
        for name, objective in stage.objectives.items()
    }
    student.requires_grad_(True)
    if stage.trainable == "head":
        student.base_model.requires_grad_(False)
    part = setup.recipe.student.low_rank
    if stage.trainable == "low_rank" or (part and part.kind == "lora"):
        train_only_factors(student, part)
    return Learner(
        student,
        projections,
        setup.models.architecture,
        stage.objectives,
        _alignment(setup, number) if setup.recipe.stages[number].alignment else None,
    )


def _alignment(setup: Setup, number: int) -> Alignment:
    part = setup.recipe.stages[number].alignment or AlignmentPart()
    mine, theirs = setup.models.student, setup.models.teacher
    of_kind = partial(
        Alignment,
        part.pool,
        likelihoods=setup.stages[number].teacher_needs().likelihoods,
        student_ids=mine.token_ids,
        teacher_ids=theirs.token_ids if theirs else None,
    )
    if part.columns == "all":
        return of_kind(None, None)
    tokens = setup.models.tokens
    compared = np.flatnonzero(compared_tokens(tokens, part))
    teacher = torch.from_numpy(compared)
    if part.columns == "shared":
        same = torch.from_numpy(tokens.same[compared])
        return of_kind(same, teacher)
    parts, owner = (torch.from_numpy(found) for found in tokens.written_with(compared))
    rows = mine.vocab_size if part.logit_pooling == "log_sum_exp" else None
    return of_kind(parts, teacher, owner=owner, summed_over=rows)


def _mixed_vocabulary(setup: Setup, student: PreTrainedModel) -> MixedVocabulary:
    architecture, seed = _teacher_architecture(setup), setup.recipe.seed
    name = setup.recipe.teacher.model if setup.recipe.teacher else ""
    model = load_with_head(name, architecture=architecture, seed=seed)
    _attend(setup, model)
    if setup.recipe.training.gradient_checkpointing:
        recompute_layers(model, architecture)
    random = setup.recipe.student.embedding_init == "random"
    rows = None if random else _first_rows(setup, model)[0]
    return MixedVocabulary(model, student, architecture, seed=seed, rows=rows)


def _first_rows(setup: Setup, teacher: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """What each of the student's tokens is to the teacher, and its weight; 0 where none is."""
    kind, models = setup.recipe.student.embedding_init, setup.models
    if models.teacher_tokenizer is None:
        raise RecipeError("this recipe has no teacher to take first embeddings from; name it")
    embeddings: Any = teacher.get_input_embeddings()
    table = embeddings.weight.detach().float()
    means = mean_of_teacher_tokens(table, models.teacher_tokenizer, models.tokenizer)
    ids = models.student.token_ids
    even = torch.zeros(len(means))
    even[ids.columns("cpu")] = 1.0
    if kind == "mean":
        return means, even
    counts = torch.from_numpy(teacher_token_counts(setup)) if kind == "weighted" else None
    rows, total = mean_of_containing_tokens(
        table[: len(models.tokens.same)], models.tokens, means, counts=counts
    )
    return rows, total if kind == "weighted" else even


def _attend(setup: Setup, model: PreTrainedModel) -> None:
    if setup.precision.half and setup.device.type == "cpu":
        use_float32_attention(model)


def _teacher_architecture(setup: Setup) -> Architecture:
    if setup.models.teacher_architecture is None:
        raise RecipeError("this recipe has no teacher, and something asks for one; name it")
    return setup.models.teacher_architecture

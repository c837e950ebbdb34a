"""What is trained in each stage of a recipe: the student, and what stands beside it."""

from functools import partial

import numpy as np
import torch
from transformers import PreTrainedModel

from ..models.load import load_with_head
from ..objectives.alignment import Alignment
from ..recipe.setup import Setup
from ..recipe.sides import compared_tokens
from ..recipe.stage_part import AlignmentPart
from ..student.mixed_vocabulary import MixedVocabulary
from ..student.projections import Projections
from ..student.recompute import recompute_layers
from ..student.rounding import round_layers
from ..training.learner import Learner, MixedLearner
from .low_rank import train_only_factors
from .models import first_rows
from .teacher import attend


def build_learner(setup: Setup, student: PreTrainedModel, number: int) -> Learner | MixedLearner:
    """The student with what is trained beside it in one stage."""
    stage = setup.stages[number]
    if stage.mixed is not None:
        mine, theirs = setup.models.shapes
        ids = theirs.token_ids if theirs else None, mine.token_ids
        return MixedLearner(student, _mixed_vocabulary(setup, student), vocabularies=ids)
    shapes = setup.models.shapes
    projections = {
        name: Projections(objective.projection_sizes(*shapes), seed=setup.recipe.seed + number)
        for name, objective in stage.objectives.items()
    }
    round_layers(student, stage.rounding)
    student.requires_grad_(True)
    if stage.trainable == "head":
        student.base_model.requires_grad_(False)
    part = setup.recipe.student.low_rank
    if stage.trainable == "low_rank" or (part and part.kind == "lora"):
        train_only_factors(setup, student)
    return Learner(
        student,
        projections,
        setup.models.student.architecture,
        stage.objectives,
        _alignment(setup, number) if setup.recipe.stages[number].alignment else None,
    )


def _alignment(setup: Setup, number: int) -> Alignment:
    part = setup.recipe.stages[number].alignment or AlignmentPart()
    mine, theirs = setup.models.shapes
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
    parts, owner = (torch.from_numpy(found) for found in tokens.parts_of(compared))
    rows = mine.vocab_size if part.logit_pooling == "log_sum_exp" else None
    return of_kind(parts, teacher, owner=owner, summed_over=rows)


def _mixed_vocabulary(setup: Setup, student: PreTrainedModel) -> MixedVocabulary:
    teacher, seed = setup.models.required_teacher(), setup.recipe.seed
    architecture = teacher.architecture
    model = load_with_head(teacher.name, architecture=architecture, seed=seed)
    attend(setup, model)
    if setup.recipe.training.gradient_checkpointing:
        recompute_layers(model, architecture)
    random = setup.recipe.student.embedding_init == "random"
    rows = None if random else first_rows(setup, model)[0]
    return MixedVocabulary(model, student, architecture, seed=seed, rows=rows)

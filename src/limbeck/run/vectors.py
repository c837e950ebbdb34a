"""Vectors of texts in a run: of the teacher as it is stored, of the student as it learns them."""

import hashlib

import torch
from transformers import PreTrainedModel

from ..models.locate import locate
from ..models.sentences.attached import attach_vectors
from ..models.sentences.load import DENSE_WEIGHTS, chain_of, sentence_vectors
from ..models.sentences.vectors import Dense, SentenceVectors
from ..models.shapes import state_width
from ..recipe.setup import Setup
from ..recipe.vectors import compares_coordinates
from ..system.fingerprints import content_of


def attach_teacher_vectors(setup: Setup, model: PreTrainedModel) -> None:
    """Let the teacher make vectors of texts, where a stage compares them."""
    if setup.learns_vectors:
        attach_vectors(model, sentence_vectors(setup.models.required_teacher().name))


def attach_student_vectors(setup: Setup, student: PreTrainedModel) -> None:
    """Let the student make vectors of texts as its teacher does, where a stage compares them."""
    if setup.learns_vectors:
        attach_vectors(student, student_vectors(setup))


def student_vectors(setup: Setup) -> SentenceVectors:
    """How the student's texts become vectors of the teacher's width.

    They are pooled and scaled as the teacher's, or as those of the model that it continues; a Dense
    layer without bias maps them where they are of another width and coordinates are compared.
    """
    theirs = sentence_vectors(setup.models.required_teacher().name)
    name = setup.recipe.student.model
    if name and (own := chain_of(name)) and own.pooling:
        mine = sentence_vectors(name)
    else:
        width = state_width(setup.models.student.config.get_text_config())
        mine = SentenceVectors(width, pooling=theirs.pooling, normalize=theirs.normalize)
    if mine.width == theirs.width or not compares_coordinates(setup.stages):
        return mine
    with torch.random.fork_rng():
        torch.manual_seed(setup.recipe.seed)
        layer = Dense(mine.full_width, theirs.width, bias=False, activation="Identity")
    dense = [found for found in mine.dense if isinstance(found, Dense)]
    return SentenceVectors(
        mine.hidden_size,
        pooling=mine.pooling,
        dense=[*dense, layer],
        normalize=theirs.normalize,
    )


def vectors_identity(setup: Setup) -> str:
    """What distinguishes the vectors of a recipe's teacher beside its transformer; '' without."""
    if not setup.learns_vectors:
        return ""
    name = setup.models.required_teacher().name
    chain = chain_of(name)
    if chain is None:
        return f"mean of {locate(name)}"
    layers = [
        (content_of(layer.folder / DENSE_WEIGHTS), layer.activation, layer.residual)
        for layer in chain.dense
    ]
    facts = (chain.pooling, chain.normalize, chain.truncate_dim, layers)
    return hashlib.sha256(repr(facts).encode()).hexdigest()

"""A little of a recipe's own text as its teacher reads it."""

import numpy as np

from ..batch import Tokens
from ..recipe.setup import Setup
from ..recipe.sides import ModelSide
from ..tokenization.batching import as_tokens
from ..tokenization.padding import padded, real_tokens
from .batches import calibration_tokens


def teacher_tokens(setup: Setup, teacher: ModelSide) -> Tokens:
    """Text in the teacher's tokens, for what is computed from activations.

    Args:
        setup: A checked recipe.
        teacher: Of the recipe.
    """
    tokens = calibration_tokens(setup)
    if not setup.models.two_vocabularies:
        return tokens
    texts = setup.models.student.tokenizer.batch_decode(tokens.input_ids, skip_special_tokens=True)
    longest = min(setup.recipe.data.max_length, teacher.shape.max_position_embeddings)
    read = [teacher.tokenizer(text).input_ids[:longest] for text in texts]
    ids, real = padded(read, 0, np.int64), real_tokens(read)
    return as_tokens(ids, real, ids, real)

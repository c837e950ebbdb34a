"""A little of a recipe's own text as its teacher reads it."""

import torch

from ..batch import Tokens
from ..recipe.setup import Setup
from ..recipe.sides import ModelSide
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
    width = max(map(len, read))
    ids = torch.zeros(len(read), width, dtype=torch.long)
    mask = torch.zeros(len(read), width, dtype=torch.bool)
    for row, found in enumerate(read):
        ids[row, : len(found)] = torch.tensor(found)
        mask[row, : len(found)] = True
    return Tokens(ids, mask, ids, mask)

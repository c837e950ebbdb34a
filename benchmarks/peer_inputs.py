"""The inputs of ``peers.py``: two prompts with responses, and two tiny BERTs."""

import formulas
import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from limbeck.batch import Tokens
from limbeck.tokenization.prompts import answered

# Two prompts of 2 and 4 tokens, each with a response of 3: the first text is padded.
PROMPTS = [np.array([1, 5]), np.array([1, 6, 2, 7])]
RESPONSES = [np.array([3, 8, 4]), np.array([5, 3, 6])]


def prompts_answered() -> Tokens:
    """The prompts with their responses, in the form that limbeck's decoders read."""
    return answered(PROMPTS, RESPONSES, pad=0)


def logits(seed: int, vocabulary: int = 9) -> Tensor:
    """Logits at every position of the texts, including padding."""
    shape = (*prompts_answered().mask.shape, vocabulary)
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def predicted(given: Tensor) -> Tensor:
    """Rows at the positions where limbeck predicts a token of a response."""
    return given[prompts_answered().predicted]


def response_pairs(student: Tensor, teacher: Tensor) -> formulas.Pairs:
    """Rows that predict a token of a response: those one position before it."""
    return [
        (student[row, place - 1].tolist(), teacher[row, place - 1].tolist())
        for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True))
        for place in range(len(prompt), len(prompt) + len(response))
    ]


def response_labels() -> Tensor:
    """The tokens of the responses, and -100 elsewhere: the labels of trl."""
    labels = torch.full_like(prompts_answered().input_ids, -100)
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        labels[row, len(prompt) : len(prompt) + len(response)] = torch.tensor(response)
    return labels


def two_texts(left: int) -> Tokens:
    """Two texts of 4 tokens in 7 positions, with ``left`` of the 3 padding tokens before them."""
    mask = torch.zeros(2, 7, dtype=torch.bool)
    mask[:, left : left + 4] = True
    ids = torch.full_like(mask, 3, dtype=torch.int64)
    ids[mask] = torch.tensor([1, 5, 7, 2, 1, 8, 4, 2])
    return Tokens(ids, mask, ids, mask)


def bert(seed: int, width: int) -> BertModel:
    """A BERT of random weights without position embeddings, so that a text may be shifted."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=9,
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            initializer_range=0.5,
            architectures=["BertForMaskedLM"],
        )
        model = BertModel(config).eval()
    nn.init.zeros_(model.embeddings.position_embeddings.weight)
    return model


def both_berts() -> tuple[BertModel, BertModel]:
    """A student and a wider teacher."""
    return bert(0, 8), bert(1, 12)

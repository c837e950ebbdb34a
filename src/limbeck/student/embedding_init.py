"""Initialization of a new vocabulary's embeddings from means of the teacher's embeddings.

Source: the idea of FastText-like initialisation in Zhao et al. 2021, arXiv:1909.11687; means
of the tokens that hold a new one, Kolesnikova et al. 2022, arXiv:2205.02340; the truncated
singular value decomposition for a narrower student is the usual one.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..errors import StudentError
from ..token_ids import TokenIds
from ..tokenization.spelling import spellings, token_of, tokens_of_bytes, unspelled
from ..tokenization.token_map import ROLES, TokenMap

_PARTS_AT_ONCE = 2**15  # rows of the teacher's table that are held a second time


def mean_of_teacher_tokens(
    table: Float[Tensor, "teacher_vocabulary width"],
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
) -> Float[Tensor, "student_vocabulary width"]:
    """A row for each student token: the mean over the teacher tokens that its letters give.

    A token that the teacher has too, at the same place of a word, keeps the teacher's row, and so
    do bytes; special tokens take the row of the same role, or else of the same name. A token whose
    letters the teacher does not know gets the mean of all teacher tokens.
    """
    known, ids = spellings(teacher), TokenIds.of(teacher)
    rows = table[ids.columns(table.device)].mean(0).repeat(TokenIds.of(student).end, 1)
    others = unspelled(teacher)
    for key, number in unspelled(student).items():
        tokens = [others[key]] if key in others else []
        if isinstance(key, bytes):
            tokens = tokens or tokens_of_bytes(teacher, key)
        if tokens:
            rows[number] = table[tokens].mean(0)
    for spelling, number in spellings(student).items():
        own = token_of(spelling, known)
        tokens = _tokenize(teacher, spelling.letters) if own is None else [own]
        if tokens:
            rows[number] = table[tokens].mean(0)
    for role in ROLES:
        mine, theirs = getattr(student, role), getattr(teacher, role)
        if mine is not None and theirs is not None:
            rows[mine] = table[theirs]
    return rows


def kept_tokens(teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast) -> list[int]:
    """The bytes, marks of spaces and special tokens of the student that the teacher has too."""
    others = unspelled(teacher)
    return [number for key, number in unspelled(student).items() if key in others]


def mean_of_containing_tokens(
    table: Float[Tensor, "teacher_vocabulary width"],
    tokens: TokenMap,
    otherwise: Float[Tensor, "student_vocabulary width"],
    *,
    counts: Int64[Tensor, " teacher_vocabulary"] | None = None,
) -> tuple[Float[Tensor, "student_vocabulary width"], Float[Tensor, " student_vocabulary"]]:
    """A row for each student token: the mean over the teacher tokens that contain it.

    Args:
        table: The teacher's embeddings.
        tokens: The teacher's tokens in the student's vocabulary.
        otherwise: The rows of student tokens that no teacher token contains.
        counts: How often a text has each teacher token, as its weight in the mean; by
            default all have the same weight.

    Returns:
        The rows, and for each student token the total weight of the teacher tokens that contain it.
    """
    spelled = torch.from_numpy(tokens.spellable).nonzero()[:, 0]
    parts, owner = (torch.from_numpy(some) for some in tokens.parts_of(spelled.numpy()))
    weights = (torch.ones(len(table)) if counts is None else counts.float())[spelled][owner]
    total = torch.zeros(len(otherwise)).index_add_(0, parts, weights)
    sums = torch.zeros_like(otherwise)
    # Together the parts of 250,000 tokens would be several times as large as the table.
    taken = spelled[owner]
    for start in range(0, len(parts), _PARTS_AT_ONCE):
        some = slice(start, start + _PARTS_AT_ONCE)
        sums.index_add_(0, parts[some], weights[some, None] * table[taken[some]].to(otherwise))
    found = (total > 0)[:, None]
    return torch.where(found, sums / total.clamp_min(1)[:, None], otherwise), total


def set_embeddings(
    student: PreTrainedModel,
    rows: Float[Tensor, "vocabulary width"],
    *,
    weights: Float[Tensor, " vocabulary"] | None = None,
) -> None:
    """Put rows into a student's embedding table, along their main directions if it is narrower.

    Args:
        student: Its embedding table is overwritten.
        rows: The new rows.
        weights: The weight of each row when the main directions are computed.

    Raises:
        StudentError: The table is wider than the rows.
    """
    table: Any = student.get_input_embeddings()
    narrow = table.weight.shape[1]
    if narrow > rows.shape[1]:
        raise StudentError(
            f"the student's embeddings have {narrow} coordinates and the teacher's"
            f" {rows.shape[1]}; make the student's narrower, or start from random embeddings"
        )
    with torch.no_grad():
        if narrow < rows.shape[1]:
            shares = torch.ones(len(rows)) if weights is None else weights
            shares = shares / shares.sum()
            centred = rows - shares @ rows
            _, _, directions = torch.linalg.svd(
                shares.sqrt()[:, None] * centred, full_matrices=False
            )
            rows = centred @ directions[:narrow].mT
        table.weight[: len(rows)] = rows


def _tokenize(tokenizer: PreTrainedTokenizerFast, letters: str) -> list[int]:
    tokens = tokenizer(letters, add_special_tokens=False)["input_ids"]
    return [token for token in tokens if token != tokenizer.unk_token_id]

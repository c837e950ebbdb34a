"""First embeddings of a new vocabulary, from the teacher's: the mean of the teacher's pieces.

Source: the idea of FastText-like initialisation in Zhao et al. 2021, arXiv:1909.11687; the
truncated singular value decomposition for a narrower student is the usual one.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..errors import StudentError
from ..tokenization.spelling import spellings

_ROLES = ("pad_token_id", "unk_token_id", "cls_token_id", "sep_token_id", "mask_token_id")


def mean_of_teacher_pieces(
    table: Float[Tensor, "teacher_pieces width"],
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
) -> Float[Tensor, "student_pieces width"]:
    """A row for each student piece: the mean of the teacher pieces that its letters are cut into.

    A piece that the teacher has too, at the same place of a word, keeps the teacher's row;
    special tokens take the row of the same role. What the teacher does not know gets the mean of
    all its pieces.
    """
    known = spellings(teacher)
    rows = table.mean(0).repeat(len(student), 1)
    for spelling, number in spellings(student).items():
        pieces = [known[spelling]] if spelling in known else _cut(teacher, spelling.letters)
        if pieces:
            rows[number] = table[pieces].mean(0)
    for role in _ROLES:
        mine, theirs = getattr(student, role), getattr(teacher, role)
        if mine is not None and theirs is not None:
            rows[mine] = table[theirs]
    return rows


def set_embeddings(student: PreTrainedModel, rows: Float[Tensor, "pieces width"]) -> None:
    """Put rows into a student's embedding table, along their main directions where it is narrower.

    Raises:
        StudentError: The table is wider than the rows.
    """
    table: Any = student.get_input_embeddings()
    narrow = table.weight.shape[1]
    if narrow > rows.shape[1]:
        raise StudentError(
            f"the student's embeddings have {narrow} coordinates and the teacher's"
            f" {rows.shape[1]}; make the student's narrower, or begin at random"
        )
    with torch.no_grad():
        if narrow < rows.shape[1]:
            centred = rows - rows.mean(0)
            _, _, directions = torch.linalg.svd(centred, full_matrices=False)
            rows = centred @ directions[:narrow].mT
        table.weight[: len(rows)] = rows


def _cut(tokenizer: PreTrainedTokenizerFast, letters: str) -> list[int]:
    pieces = tokenizer(letters, add_special_tokens=False)["input_ids"]
    return [piece for piece in pieces if piece != tokenizer.unk_token_id]

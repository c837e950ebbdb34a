"""What student tokens mean to a teacher of both vocabularies: its nearest teacher tokens."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ..reports.vocabulary_results import NearestTokens

_AT_ONCE = 1024  # student tokens compared with all of the teacher's


def neighbours(
    student: Float[Tensor, "student_vocabulary width"],
    teacher: Float[Tensor, "teacher_vocabulary width"],
    shared: Mapping[int, int],
    *,
    names: tuple[Sequence[str], Sequence[str]],
    shown: Sequence[int],
    count: int = 5,
) -> NearestTokens:
    """The teacher tokens nearest to student tokens.

    Args:
        student: Embeddings of the student's tokens, at the teacher's width.
        teacher: Embeddings of the teacher's tokens.
        shared: The teacher's id of each shared token, by the student's id.
        names: Names of all tokens, the student's and the teacher's.
        shown: Ids of the student tokens in ``nearest``.
        count: Teacher tokens for each of them.
    """
    rows, others = normalize(student.float(), dim=-1), normalize(teacher.float(), dim=-1)
    numbers = torch.tensor(sorted(shared), dtype=torch.long)
    same = 0
    for some in torch.split(numbers, _AT_ONCE):
        first = (rows[some] @ others.mT).argmax(-1)
        same += int((first == torch.tensor([shared[int(n)] for n in some])).sum())
    nearest = []
    for number in shown:
        cosines, places = (others @ rows[number]).topk(min(count, len(others)))
        found = zip(places.tolist(), cosines.tolist(), strict=True)
        nearest.append((names[0][number], [(names[1][place], cosine) for place, cosine in found]))
    return NearestTokens(len(numbers), same / max(1, len(numbers)), nearest)

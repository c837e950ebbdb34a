"""A teacher that reads its own pieces and the student's: stage I of mixed-vocabulary training.

A student piece enters through the student's own, narrower embedding table and an affine
map to the teacher's width; a hidden one is predicted through the same map, turned round.
Everything is trained: the teacher's body keeps its place for both kinds, and the student
is left with embeddings that mean to it what the teacher's mean to the teacher.

Source: mixed-vocabulary training, Zhao et al. 2021, arXiv:1909.11687; that the output
layer is tied through the map is our choice.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..activations import Needs, Predictions, capture
from ..architectures import Anatomy, submodule
from ..batch import Tokens
from ..errors import StudentError


class MixedEmbedding(nn.Module):
    """The teacher's embedding table, and after its last row the student's, mapped to its width.

    Args:
        teacher: The teacher's table.
        student: The student's table; it stays the student's own.
    """

    def __init__(self, teacher: nn.Embedding, student: nn.Embedding) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student
        self.map = nn.Linear(student.embedding_dim, teacher.embedding_dim)

    @property
    def student_from(self) -> int:
        """Number of the student's first piece."""
        return self.teacher.num_embeddings

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens width"]:
        """What enters the teacher's first layer, before positions."""
        of_teacher: Tensor = self.teacher(ids.clamp_max(self.student_from - 1))
        places = (ids >= self.student_from).nonzero(as_tuple=True)
        mapped = self.map(self.student(ids[places] - self.student_from))
        return of_teacher.index_put(places, mapped.to(of_teacher.dtype))


class MixedVocabulary(nn.Module):
    """The teacher's body with its head, reading and predicting both vocabularies.

    Args:
        teacher: With a vocabulary head, trained or not; it becomes the body, and changes.
        student: Gives its embedding table, which stays its own and is trained here.
        anatomy: The teacher's.
        seed: Decides the map's first weights.

    Raises:
        StudentError: One of them has no embedding table of the usual kind.
    """

    def __init__(
        self, teacher: PreTrainedModel, student: PreTrainedModel, anatomy: Anatomy, *, seed: int
    ) -> None:
        super().__init__()
        self.body = teacher
        self.body.requires_grad_(True)
        tables = [_table(self.body, "teacher"), _table(student, "student")]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embedding = MixedEmbedding(*tables)
        self.body.set_input_embeddings(self.embedding)
        self.student_bias = nn.Parameter(torch.zeros(tables[1].num_embeddings))
        self._anatomy = anatomy

    def plain(self, *, student_only: bool = False) -> PreTrainedModel:
        """The body as an ordinary model, whose table has the student's rows at its own width.

        Args:
            student_only: Only the student's pieces, numbered as the student does;
                otherwise they stand after the teacher's.
        """
        with torch.no_grad():
            rows = self.embedding.map(self.embedding.student.weight)
            bias = self.student_bias.detach()
            model = copy.deepcopy(self.body)
            table = copy.deepcopy(self.embedding.teacher)
            model.set_input_embeddings(table)
            model.tie_weights()
            first = 0 if student_only else self.embedding.student_from
            resized = model.resize_token_embeddings(first + len(rows), mean_resizing=False)
            resized.weight[first:] = rows
            output: Any = submodule(model, self._anatomy.output or self._anatomy.head[-1])
            output.weight[first:] = rows
            if output.bias is not None:
                output.bias[first:] = bias
        model.train(False)
        return model

    def predictions(self, tokens: Tokens) -> tuple[Predictions, Predictions]:
        """At the predicted positions, over the teacher's pieces and over the student's.

        Each is to be read at the positions whose label is of its kind.
        """
        found = capture(self.body, self._anatomy, tokens, Needs(predictions=True)).predictions
        if found is None:
            raise StudentError("the teacher of mixed-vocabulary training has no vocabulary head")
        is_student = tokens.labels[tokens.predicted] >= self.embedding.student_from
        of_teacher = Predictions(found.features[~is_student], found.weight, found.bias)
        # (E A + b) . h = E . (A h) + b . h, and b . h is the same for all pieces.
        features = found.features[is_student] @ self.embedding.map.weight
        return of_teacher, Predictions(features, self.embedding.student.weight, self.student_bias)


def _table(model: PreTrainedModel, owner: str) -> nn.Embedding:
    table = model.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        raise StudentError(
            f"the {owner}'s embedding table is {type(table).__name__}; mixed-vocabulary training"
            " needs an nn.Embedding"
        )
    return table

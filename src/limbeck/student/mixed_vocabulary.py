"""A teacher that reads its own tokens and the student's: stage I of mixed-vocabulary training.

A student token enters through the student's own, narrower embedding table and an affine
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

from ..activations import Needs, Predictions
from ..batch import Tokens
from ..errors import StudentError
from ..models.architecture import Architecture
from ..models.capture import capture
from ..models.modules import submodule


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
        # Random rows enter as far from the mean of the teacher's as those lie; nearer, they
        # would be drowned by positions until they have grown.
        with torch.no_grad():
            scale = _spread(teacher.weight) / _spread(student.weight)
            nn.init.orthogonal_(self.map.weight).mul_(scale)
            self.map.bias.copy_(teacher.weight.mean(0))

    @property
    def student_from(self) -> int:
        """Number of the student's first token."""
        return self.teacher.num_embeddings

    def fit(self, rows: Float[Tensor, "vocabulary width"]) -> None:
        """Choose the map so that student tokens enter as these rows, by least squares."""
        with torch.no_grad():
            table = self.student.weight[: len(rows)]
            centre, mean = table.mean(0), rows.mean(0)
            found = torch.linalg.lstsq(table - centre, rows - mean).solution
            self.map.weight.copy_(found.mT)
            self.map.bias.copy_(mean - centre @ found)

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
        architecture: The teacher's.
        seed: Decides the map's first weights.
        rows: What each student token is to enter the teacher as at first, as nearly as the
            map can make it of the student's table; None leaves the map random.

    Raises:
        StudentError: One of them has no embedding table of the usual kind.
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        student: PreTrainedModel,
        architecture: Architecture,
        *,
        seed: int,
        rows: Float[Tensor, "vocabulary width"] | None = None,
    ) -> None:
        super().__init__()
        self.body = teacher
        self.body.requires_grad_(True)
        tables = [_table(self.body, "teacher"), _table(student, "student")]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embedding = MixedEmbedding(*tables)
        if rows is not None:
            self.embedding.fit(rows)
        self.body.set_input_embeddings(self.embedding)
        self.student_bias = nn.Parameter(torch.zeros(tables[1].num_embeddings))
        self._architecture = architecture

    def plain(self) -> PreTrainedModel:
        """The body as an ordinary model whose table holds the student's tokens after its own."""
        with torch.no_grad():
            rows = self.embedding.map(self.embedding.student.weight)
            model = copy.deepcopy(self.body)
            model.set_input_embeddings(copy.deepcopy(self.embedding.teacher))
            model.tie_weights()
            first = self.embedding.student_from
            table = model.resize_token_embeddings(first + len(rows), mean_resizing=False)
            output = _output(model, self._architecture)
            table.weight[first:] = rows
            output.weight[first:] = rows
            if output.bias is not None:
                output.bias[first:] = self.student_bias
        model.train(False)
        return model

    def predictions(self, tokens: Tokens) -> tuple[Predictions, Predictions]:
        """At the predicted positions, over the teacher's tokens and over the student's.

        Each is to be read at the positions whose label is of its kind.
        """
        found = capture(self.body, self._architecture, tokens, Needs(predictions=True)).predictions
        if found is None:
            raise StudentError("the teacher of mixed-vocabulary training has no vocabulary head")
        is_student = tokens.labels[tokens.predicted] >= self.embedding.student_from
        of_teacher = Predictions(found.features[~is_student], found.weight, found.bias)
        # (E A + b) . h = E . (A h) + b . h, and b . h is the same for all tokens.
        features = found.features[is_student] @ self.embedding.map.weight
        return of_teacher, Predictions(features, self.embedding.student.weight, self.student_bias)


def reader_of_student_tokens(
    both: PreTrainedModel, architecture: Architecture, *, student_from: int
) -> PreTrainedModel:
    """The teacher that knows the student's tokens alone, numbered as the student does.

    Token by token it can be compared with the student, as a teacher of one vocabulary.

    Args:
        both: As `MixedVocabulary.plain` gives it; only read.
        architecture: The teacher's.
        student_from: Number of the student's first token in it.
    """
    table, output = _table(both, "teacher"), _output(both, architecture)
    bias = None if output.bias is None else output.bias[student_from:]
    return with_tokens(
        both, architecture, table.weight[student_from:], output.weight[student_from:], bias
    )


def with_tokens(
    model: PreTrainedModel,
    architecture: Architecture,
    rows: Float[Tensor, "vocabulary width"],
    output_rows: Float[Tensor, "vocabulary width"] | None = None,
    bias: Float[Tensor, " vocabulary"] | None = None,
) -> PreTrainedModel:
    """A copy of a model that reads other tokens, and predicts them if it has a head.

    Args:
        model: Only read.
        architecture: Its own.
        rows: What the tokens enter as.
        output_rows: What they are predicted by; by default ``rows``.
        bias: Of their logits; by default 0.
    """
    with torch.no_grad():
        changed: Any = copy.deepcopy(model)
        changed.float()  # rows are more precise than some files
        table = changed.resize_token_embeddings(len(rows), mean_resizing=False)
        table.weight.copy_(rows)
        if changed is not changed.base_model:
            output = _output(changed, architecture)
            output.weight.copy_(rows if output_rows is None else output_rows)
            if output.bias is not None:
                output.bias.copy_(torch.zeros(len(rows)) if bias is None else bias)
    changed.train(False)
    made: PreTrainedModel = changed
    return made


def _spread(rows: Tensor) -> Tensor:
    """Root mean square distance of rows from their mean."""
    return (rows - rows.mean(0)).square().sum(1).mean().sqrt()


def _output(model: PreTrainedModel, architecture: Architecture) -> nn.Linear:
    found = submodule(model, architecture.output or architecture.head[-1])
    if not isinstance(found, nn.Linear):
        raise StudentError(f"the teacher's output is {type(found).__name__}, not a linear map")
    return found


def _table(model: PreTrainedModel, owner: str) -> nn.Embedding:
    table = model.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        raise StudentError(
            f"the {owner}'s embedding table is {type(table).__name__}; mixed-vocabulary training"
            " needs an nn.Embedding"
        )
    return table

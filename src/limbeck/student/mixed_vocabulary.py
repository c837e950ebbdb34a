"""A teacher that reads its own tokens and the student's: stage I of mixed-vocabulary training.

A student token enters through the student's own, narrower embedding table and an affine map to
the teacher's width; a hidden student token is predicted through the transpose of the same map.
Everything is trained: the teacher's body learns to read tokens of both kinds, and the student
gets embeddings with the meaning that the teacher's embeddings have for the teacher.

Source: mixed-vocabulary training, Zhao et al. 2021, arXiv:1909.11687; tying the output layer
through the map is our choice.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..activations import Needs, Predictions
from ..batch import Tokens
from ..errors import StudentError
from ..models.architecture import Architecture
from ..models.capture import capture, output_map
from ..models.modules import submodule
from ..models.task_heads import is_task_class


class MixedEmbedding(nn.Module):
    """The teacher's embedding table, followed by the student's, mapped to the teacher's width.

    Args:
        teacher: The teacher's table.
        student: The student's table, shared with the student.
    """

    def __init__(self, teacher: nn.Embedding, student: nn.Embedding) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student
        self.map = nn.Linear(student.embedding_dim, teacher.embedding_dim)
        # Random rows are scaled to the standard deviation of the teacher's rows; if they were
        # smaller, positions would hide them until they have grown.
        with torch.no_grad():
            scale = _deviation(teacher.weight) / _deviation(student.weight)
            nn.init.orthogonal_(self.map.weight).mul_(scale)
            self.map.bias.copy_(teacher.weight.mean(0))

    @property
    def student_from(self) -> int:
        """The id of the student's first token."""
        return self.teacher.num_embeddings

    def fit(self, rows: Float[Tensor, "vocabulary width"]) -> None:
        """Fit the map by least squares, so that student tokens enter as these rows."""
        with torch.no_grad():
            table = self.student.weight[: len(rows)]
            centre, mean = table.mean(0), rows.mean(0)
            found = torch.linalg.lstsq(table - centre, rows - mean).solution
            self.map.weight.copy_(found.mT)
            self.map.bias.copy_(mean - centre @ found)

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens width"]:
        """The embeddings that enter the teacher, before positions."""
        of_teacher: Tensor = self.teacher(ids.clamp_max(self.student_from - 1))
        places = (ids >= self.student_from).nonzero(as_tuple=True)
        mapped = self.map(self.student(ids[places] - self.student_from))
        return of_teacher.index_put(places, mapped.to(of_teacher.dtype))


class MixedVocabulary(nn.Module):
    """The teacher's body with its head, reading and predicting both vocabularies.

    Args:
        teacher: With a vocabulary head, trained or not; it becomes the body and is changed.
        student: Its embedding table is shared and trained here.
        architecture: The teacher's.
        seed: Decides the initialization of the map.
        rows: The row as which each student token should enter the teacher at first; the map
            is fitted to them. None leaves the map random.

    Raises:
        StudentError: One of the models has no `nn.Embedding` as its embedding table.
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
        """The body as an ordinary model whose table has the student's tokens after its own."""
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
            bias = output_map(model, self._architecture).bias
            if bias is not None:
                bias[first:] = self.student_bias
        model.train(False)
        return model

    def predictions(self, tokens: Tokens) -> tuple[Predictions, Predictions]:
        """At the predicted positions, over the teacher's tokens and over the student's.

        Each belongs to the positions whose label is a token of that vocabulary.
        """
        found = capture(self.body, self._architecture, tokens, Needs(predictions=True)).predictions
        if found is None:
            raise StudentError("the teacher of mixed-vocabulary training has no vocabulary head")
        is_student = tokens.labels[tokens.predicted] >= self.embedding.student_from
        of_teacher = replace(found, features=found.features[~is_student])
        # (E A + b) . h = E . (A h) + b . h, and b . h is the same for all tokens.
        features = found.features[is_student] @ self.embedding.map.weight
        weight = self.embedding.student.weight
        return of_teacher, Predictions(features, weight, self.student_bias, found.soft_cap)


def reader_of_student_tokens(
    both: PreTrainedModel, architecture: Architecture, *, student_from: int
) -> PreTrainedModel:
    """A teacher that has only the student's tokens, with the student's ids.

    It can be compared with the student token by token, as a teacher of the same vocabulary.

    Args:
        both: As `MixedVocabulary.plain` returns it; only read.
        architecture: The teacher's.
        student_from: The id of the student's first token in ``both``.
    """
    table, output = _table(both, "teacher"), _output(both, architecture)
    bias = output_map(both, architecture).bias
    bias = None if bias is None else bias[student_from:]
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
    """A copy of a model that reads other tokens, and predicts them if it has a vocabulary head.

    Args:
        model: Only read.
        architecture: The model's.
        rows: Input embeddings of the tokens.
        output_rows: Output embeddings of the tokens; by default ``rows``.
        bias: Bias of their logits; by default 0.
    """
    with torch.no_grad():
        changed = _copied_without_rows(model, architecture)
        changed.float()  # rows may be more precise than the model's weights
        if architecture.output_bias:  # transformers would resize a layer within such a head
            table = _new_table(changed, architecture, len(rows))
        else:
            table = changed.resize_token_embeddings(len(rows), mean_resizing=False)
        table.weight.copy_(rows)
        if _predicts(changed):
            output = _output(changed, architecture)
            output.weight.copy_(rows if output_rows is None else output_rows)
            of_logits = output_map(changed, architecture).bias
            if of_logits is not None:
                of_logits.copy_(torch.zeros(len(rows)) if bias is None else bias)
    changed.train(False)
    made: PreTrainedModel = changed
    return made


def _new_table(model: Any, architecture: Architecture, rows: int) -> nn.Embedding:
    """An untrained embedding table in a model whose head reads it and has a bias beside it."""
    table = nn.Embedding(rows, model.get_input_embeddings().embedding_dim)
    model.base_model.set_input_embeddings(table)
    model.config.vocab_size = rows
    if _predicts(model):
        path, _, name = architecture.output_bias.rpartition(".")
        setattr(submodule(model, path), name, nn.Parameter(torch.zeros(rows)))
    return table


def _copied_without_rows(model: PreTrainedModel, architecture: Architecture) -> Any:
    """A copy of a model with one row of each embedding table, whose rows are replaced anyway.

    A table of 250,000 rows is most of a model, and would be copied only to be thrown away.
    """
    tables = [_table(model, "teacher").weight]
    if _predicts(model):
        tables.append(_output(model, architecture).weight)
    rows = {id(table): nn.Parameter(table.detach()[:1].clone()) for table in tables}
    return copy.deepcopy(model, dict(rows))


def _predicts(model: PreTrainedModel) -> bool:
    """Whether a model has a vocabulary head, and neither none nor that of a task."""
    return model is not model.base_model and not is_task_class(type(model))


def _deviation(rows: Tensor) -> Tensor:
    """Root mean square distance of rows from their mean."""
    return (rows - rows.mean(0)).square().sum(1).mean().sqrt()


def _output(model: PreTrainedModel, architecture: Architecture) -> nn.Linear | nn.Embedding:
    found = submodule(model, architecture.output or architecture.head[-1])
    if not isinstance(found, nn.Linear | nn.Embedding):
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

"""A model's vectors, scored on pairs, queries and translations as they are."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...errors import EvaluationError
from ...reports.task_results import Interval
from .encode import DOCUMENT, QUERY, Encoder
from .files import Pairs, Retrieval
from .scores import Vectors, bitext_scores, retrieval_scores, similarity_scores


@dataclass(frozen=True)
class Prompts:
    """What is put before texts: names of a folder's prompts, or texts; None for its own.

    Attributes:
        query: Before the queries of retrieval.
        document: Before its documents.
        other: Before the texts of similarity and bitext.
    """

    query: str | None = None
    document: str | None = None
    other: str | None = None


@dataclass(frozen=True)
class EmbeddingTasks:
    """What is to be scored, as it was read."""

    similarity: tuple[Pairs, ...] = ()
    retrieval: tuple[Retrieval, ...] = ()
    bitext: tuple[Pairs, ...] = ()


@dataclass(frozen=True)
class EmbeddingScore:
    """The scores of a model's vectors on one task.

    Attributes:
        task: Its name.
        kind: similarity, retrieval or bitext.
        rows: Pairs or queries.
        width: Coordinates of a vector.
        prompts: The texts that were put before those of each field.
        documents: The model that made the vectors of the documents, where it is another one.
        scores: By name, the headline first, each with the interval of redrawn rows.
    """

    task: str
    kind: str
    rows: int
    width: int
    scores: Mapping[str, Interval]
    prompts: Mapping[str, str] = field(default_factory=dict)
    documents: str | None = None

    @property
    def metric(self) -> str:
        """The name of the headline."""
        return next(iter(self.scores))

    @property
    def headline(self) -> float:
        """The score that stands for the task."""
        return self.scores[self.metric].score

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "metric": self.metric, "mean": self.headline}


def evaluate_embeddings(
    encoder: Encoder,
    tasks: EmbeddingTasks,
    *,
    documents: Encoder | None = None,
    prompts: Prompts | None = None,
    batch_size: int = 64,
) -> list[EmbeddingScore]:
    """The scores of a model on every task, in the order of `EmbeddingTasks`.

    Args:
        encoder: Makes the vectors of pairs and queries, and of documents.
        tasks: As they were read.
        documents: Makes the vectors of documents instead: a small model for queries, beside a
            large one that has read the corpus once.
        prompts: What is put before texts; by default the prompts of the folders.
        batch_size: Texts at once.

    Raises:
        EvaluationError: The vectors of both models differ in width, or as `Encoder.encode`.
        ModelError: A prompt is named that a folder lacks.
    """
    given, reader = prompts or Prompts(), documents or encoder
    # All that can be refused is, before a text is encoded.
    other = {"text": encoder.prompt(given.other)}
    asked = {
        "query": encoder.prompt(given.query, QUERY),
        "document": reader.prompt(given.document, DOCUMENT),
    }
    _check_widths(encoder, reader)
    width, named = encoder.width, documents.name if documents else None
    found = []
    for pairs in tasks.similarity:
        left, right = _of_pairs(encoder, pairs, other["text"], batch_size)
        scores = similarity_scores(left, right, np.array(pairs.labels))
        found.append(
            EmbeddingScore(pairs.name, "similarity", len(left), width, scores, prompts=other)
        )
    for task in tasks.retrieval:
        queries = encoder.encode(task.queries, prompt=asked["query"], batch_size=batch_size)
        corpus = reader.encode(task.corpus, prompt=asked["document"], batch_size=batch_size)
        scores = retrieval_scores(queries, corpus, task.relevant)
        found.append(
            EmbeddingScore(task.name, "retrieval", len(queries), width, scores, asked, named)
        )
    for pairs in tasks.bitext:
        left, right = _of_pairs(encoder, pairs, other["text"], batch_size)
        scores = bitext_scores(left, right, (pairs.left, pairs.right))
        found.append(EmbeddingScore(pairs.name, "bitext", len(left), width, scores, prompts=other))
    return found


def _check_widths(encoder: Encoder, reader: Encoder) -> None:
    if encoder.width != reader.width:
        raise EvaluationError(
            f"the vectors of {encoder.name!r} have {encoder.width} coordinates and those of"
            f" {reader.name!r} {reader.width}, so queries and documents cannot be compared;"
            " give a student with a Dense layer to the width of its teacher, or truncate both to"
            " one width"
        )


def _of_pairs(
    encoder: Encoder, pairs: Pairs, prompt: str, batch_size: int
) -> tuple[Vectors, Vectors]:
    """The vectors of the texts of each side."""
    left = encoder.encode(pairs.left, prompt=prompt, batch_size=batch_size)
    return left, encoder.encode(pairs.right, prompt=prompt, batch_size=batch_size)

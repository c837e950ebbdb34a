"""Every objective by the name that recipes use; this is the only list."""

from dataclasses import fields
from typing import Any

from .attention_scores import AttentionScores
from .class_labels import ClassLabels
from .class_logits import ClassLogits
from .contract import Objective
from .embeddings import Embeddings
from .hidden_states import HiddenStates
from .labels import Labels
from .logits import Logits
from .margin_mse import MarginMse
from .mean_hidden_states import MeanHiddenStates
from .qkv import Qkv
from .relations import Relations
from .sentence_similarities import SentenceSimilarities
from .sentence_vectors import SentenceVectors
from .span_likelihood import SpanLikelihood
from .uld import Uld

OBJECTIVES: dict[str, type[Objective]] = {
    "labels": Labels,
    "logits": Logits,
    "uld": Uld,
    "span_likelihood": SpanLikelihood,
    "hidden_states": HiddenStates,
    "mean_hidden_states": MeanHiddenStates,
    "embeddings": Embeddings,
    "attention_scores": AttentionScores,
    "relations": Relations,
    "qkv": Qkv,
    "class_logits": ClassLogits,
    "class_labels": ClassLabels,
    "margin_mse": MarginMse,
    "sentence_vectors": SentenceVectors,
    "sentence_similarities": SentenceSimilarities,
}


def objective_of(kind: str, options: Any) -> Objective:
    """The objective of that name; ``options`` is an instance of its class in `OPTIONS`."""
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    return OBJECTIVES[kind](**given)

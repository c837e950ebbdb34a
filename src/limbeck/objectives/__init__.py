"""What "alike" means: how near a student is to its teacher, one idea a file.

`DistillationLoss` makes any of these objectives the loss of a training loop of one's own;
`OBJECTIVES` has them by the names that recipes use.
"""

from typing import TYPE_CHECKING

from ..system.lazy import lazily

if TYPE_CHECKING:
    from .attention_scores import AttentionScores
    from .catalogue import OBJECTIVES
    from .class_labels import ClassLabels
    from .class_logits import ClassLogits
    from .contract import Objective
    from .divergences import DIVERGENCES, divergence_of
    from .embeddings import Embeddings
    from .hidden_states import HiddenStates
    from .labels import Labels
    from .layer_mapping import layer_links
    from .logits import Logits
    from .loss import DistillationLoss, Total
    from .loss_inputs import tokens_of
    from .margin_mse import MarginMse
    from .mean_hidden_states import MeanHiddenStates
    from .presets import PRESETS
    from .qkv import Qkv
    from .relations import Relations
    from .schedule import Ramp
    from .sentence_similarities import SentenceSimilarities
    from .sentence_vectors import SentenceVectors
    from .span_likelihood import SpanLikelihood
    from .uld import Uld

__all__ = [
    "DIVERGENCES",
    "OBJECTIVES",
    "PRESETS",
    "AttentionScores",
    "ClassLabels",
    "ClassLogits",
    "DistillationLoss",
    "Embeddings",
    "HiddenStates",
    "Labels",
    "Logits",
    "MarginMse",
    "MeanHiddenStates",
    "Objective",
    "Qkv",
    "Ramp",
    "Relations",
    "SentenceSimilarities",
    "SentenceVectors",
    "SpanLikelihood",
    "Total",
    "Uld",
    "divergence_of",
    "layer_links",
    "tokens_of",
]

__getattr__ = lazily(
    __name__,
    {
        "DIVERGENCES": ".divergences",
        "OBJECTIVES": ".catalogue",
        "PRESETS": ".presets",
        "AttentionScores": ".attention_scores",
        "ClassLabels": ".class_labels",
        "ClassLogits": ".class_logits",
        "DistillationLoss": ".loss",
        "Embeddings": ".embeddings",
        "HiddenStates": ".hidden_states",
        "Labels": ".labels",
        "Logits": ".logits",
        "MarginMse": ".margin_mse",
        "MeanHiddenStates": ".mean_hidden_states",
        "Objective": ".contract",
        "Qkv": ".qkv",
        "Ramp": ".schedule",
        "Relations": ".relations",
        "SentenceSimilarities": ".sentence_similarities",
        "SentenceVectors": ".sentence_vectors",
        "SpanLikelihood": ".span_likelihood",
        "Total": ".loss",
        "Uld": ".uld",
        "divergence_of": ".divergences",
        "layer_links": ".layer_mapping",
        "tokens_of": ".loss_inputs",
    },
)

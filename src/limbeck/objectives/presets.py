"""Published combinations of objectives by name, so that a stage can say ``preset: tinybert``.

Source: each one's own line in `PRESETS`; the hidden-state maps as compared by Udagawa et
al. 2023, arXiv:2310.08797.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .layer_mapping import NAMED_MAPS


class Preset(NamedTuple):
    """What the preset is, and its objectives with their options, as in a recipe."""

    about: str
    objectives: Mapping[str, Mapping[str, Any]]


_OF_CLASSES: dict[str, dict[str, float]] = {
    "class_logits": {"temperature": 2.0},
    "class_labels": {"weight": 0.5},
}
PRESETS: dict[str, Preset] = {
    "no-distillation": Preset("masked tokens of the text alone, no teacher", {"labels": {}}),
    "logits": Preset("output distributions alone (OD)", {"logits": {}}),
    **{
        f"hidden-{name}": Preset(
            f"hidden states alone (HS), layer map {name}", {"hidden_states": {"layers": name}}
        )
        for name in ("last", *NAMED_MAPS)
    },
    "minilm": Preset(
        "attention and value relations of the last layer, Wang et al. 2020, arXiv:2002.10957",
        {"relations": {"pairs": {"QK": 1.0, "VV": 1.0}}},
    ),
    "minilmv2": Preset(
        "query, key and value relations of one layer (MHA), Wang et al. 2021, arXiv:2012.15828",
        {"relations": {}},
    ),
    "directminilm": Preset(
        "queries, keys and values of one layer, mapped, Udagawa et al. 2023, arXiv:2310.08797",
        {"qkv": {}},
    ),
    "distilbert": Preset(
        "output at temperature 2, labels, and the direction of the last hidden states, Sanh et"
        " al. 2019, arXiv:1910.01108",
        {
            "logits": {"weight": 5.0, "temperature": 2.0},
            "labels": {"weight": 2.0},
            "hidden_states": {"weight": 1.0, "layers": "last", "measure": "cosine"},
        },
    ),
    "distilrubert-tiny": Preset(
        "output at temperature 2, labels, and the means over all layers, for a vocabulary of its"
        " own (with `alignment`), Kolesnikova et al. 2022, arXiv:2205.02340",
        {
            "logits": {"weight": 2.0, "temperature": 2.0},
            "labels": {"weight": 0.5},
            "mean_hidden_states": {"weight": 0.1},
        },
    ),
    "fine-tuning": Preset("the labels of a task's rows alone, no teacher", {"class_labels": {}}),
    "classifier": Preset(
        "a task's labels, and its teacher's class probabilities at temperature 2, Hinton et al."
        " 2015, arXiv:1503.02531",
        _OF_CLASSES,
    ),
    "tagger": Preset(
        "the same for each word of a tagging task",
        _OF_CLASSES,
    ),
    "reranker": Preset(
        "its teacher's margins between documents of one query, no labels, Hofstätter et al. 2020,"
        " arXiv:2010.02666",
        {"margin_mse": {}},
    ),
    "embeddings": Preset(
        "the teacher's vectors of texts, no labels, Kim and Baek 2025, arXiv:2509.12539",
        {"sentence_vectors": {}},
    ),
    "tinybert-task": Preset(
        "attention scores, hidden states, embeddings and class probabilities on a task's rows, Jiao"
        " et al. 2020, arXiv:1909.10351",
        {
            "attention_scores": {"layers": "uniform"},
            "hidden_states": {"layers": "uniform"},
            "embeddings": {},
            "class_logits": {},
        },
    ),
    "tinybert": Preset(
        "attention scores, hidden states, embeddings and output, Jiao et al. 2020,"
        " arXiv:1909.10351",
        {
            "attention_scores": {"layers": "uniform"},
            "hidden_states": {"layers": "uniform"},
            "embeddings": {},
            "logits": {},
        },
    ),
}

"""What other packages and limbeck train alike: models, objective and sizes, package by package."""

from dataclasses import dataclass, field
from typing import Any

from one_step import FROM_TEACHER

THREE_LAYERS = {"num_hidden_layers": 3, "init_from_teacher": {"layers": "uniform"}}
OPTIMIZER: dict[str, Any] = {
    "learning_rate": 5e-4,
    "lr_scheduler_type": "constant",
    "warmup_ratio": 0.0,
    "weight_decay": 0.01,
    "adam_beta2": 0.98,
    "max_grad_norm": 1.0,
}
EPSILON = 1e-6  # of limbeck's AdamW
HEADS = 16  # of the relations
HOT = 8.0  # the temperature of the classes


@dataclass(frozen=True)
class Job:
    """A training by a package's trainer, and the same by a recipe of limbeck.

    Attributes:
        what: In words, for the table.
        student: As in a recipe.
        objectives: As in a recipe.
        rows: Texts in a batch.
        max_length: Tokens of a text at most.
        facts: What the package's trainer is told beside these.
    """

    what: str
    student: dict[str, Any]
    objectives: dict[str, Any]
    rows: int
    max_length: int
    facts: dict[str, Any] = field(default_factory=dict)


JOBS = {
    "bertdistiller": Job(
        "relations of MiniLMv2: MiniLM to 3 x 256",
        FROM_TEACHER,
        {"relations": {"heads": HEADS}},
        32,
        128,
        {"heads": HEADS},
    ),
    "textbrewer": Job(
        "three classes, labels, four states: MiniLM to 3 x 384",
        THREE_LAYERS,
        {
            "class_logits": {"temperature": HOT, "weight": HOT**-2},  # TextBrewer has no T^2
            "class_labels": {"weight": 0.5},
            "embeddings": {},
            "hidden_states": {"layers": "0:1,1:3,2:5"},
        },
        32,
        128,
        {
            "temperature": HOT,
            "label_weight": 0.5,
            "states": [(0, 0), (1, 2), (2, 4), (3, 6)],  # 0 is the embedding output there
        },
    ),
    "sentence-transformers": Job(
        "vectors of texts, each read once: MiniLM to 3 x 384",
        THREE_LAYERS,
        {"sentence_vectors": {"measure": "mse"}},
        64,
        128,
    ),
    "trl": Job(
        "distributions over the vocabulary: a decoder to half of its layers",
        {"init_from_teacher": {"layers": "uniform"}},
        {"logits": {"divergence": "jensen_shannon"}},
        4,
        256,
    ),
}


def recipe(told: dict[str, Any], student: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a job.

    Args:
        told: The job, and what its folder says beside it.
        student: As in a recipe.
    """
    return {
        "teacher": told["teacher"],
        "student": student,
        "data": {**told["data"], "max_length": told["max_length"]},
        "stages": [
            {
                "objectives": told["objectives"],
                "max_steps": told["steps"],
                "batch_size": told["rows"],
                "optimizer": OPTIMIZER,
            }
        ],
        "training": {
            "precision": told["precision"],
            "device": "cpu" if told["device"] == "cpu" else "auto",
        },
    }

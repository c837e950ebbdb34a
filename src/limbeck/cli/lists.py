"""The lists that `limbeck list` shows, by name; nothing is imported, so that help comes at once."""

from typing import NamedTuple


class Listed(NamedTuple):
    """A list.

    Attributes:
        where: Where what it names is written, in a recipe or as a flag.
        about: What it names.
        more: What is said below it, where there is more to say.
    """

    where: str
    about: str
    more: str = ""


LISTS = {
    "objectives": Listed(
        "stages: objectives", "in what the student is to be like its teacher, or the text"
    ),
    "presets": Listed("stages: preset", "published combinations of objectives"),
    "methods": Listed("method", "whole methods for decoders, that set student, policy, objectives"),
    "policies": Listed("stages: policy", "who generates the text that a decoder learns from"),
    "divergences": Listed("logits: divergence", "measures of how far two distributions are apart"),
    "layer-maps": Listed("hidden_states: layers", "which teacher layers a student layer learns"),
    "alignments": Listed("stages: alignment", "how two vocabularies are compared (match, reduce)"),
    "schedules": Listed(
        "stages: optimizer",
        "how learning rates, weights and temperatures change over a stage",
        "A ramp stands in place of a number, as temperature: {start: 4, end: 1}. It may be the"
        " `weight` of any objective, the `temperature` of logits and class_logits, and the"
        " `student_fraction` of a mixed stage.",
    ),
    "optimizers": Listed("stages: optimizer", "the optimizer and its numbers"),
    "initializations": Listed(
        "student", "where the student's weights and embeddings come from, before it learns"
    ),
    "low-rank": Listed("student: low_rank", "low-rank layers and adapters (LoRA)"),
    "roundings": Listed(
        "stages: quantization_aware", "roundings of exported files that a student learns through"
    ),
    "tasks": Listed("evaluation: tasks", "published tasks, which are scored as they always are"),
    "task-kinds": Listed(
        "data: task, evaluation",
        "what a task may be, the fields of its rows and its scores",
    ),
    "families": Listed(
        "student: model_type",
        "families of models that are known",
        "limbeck looks at other types that transformers has: limbeck inspect --type TYPE.",
    ),
    "formats": Listed(
        "limbeck export --formats",
        "files for other runtimes",
        "Models without a head are encoders that give hidden states, and no vectors of texts.",
    ),
    "augmentations": Listed("limbeck augment", "how more rows are made out of those of a task"),
}

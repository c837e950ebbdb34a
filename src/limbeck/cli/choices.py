"""What a recipe can choose from, as `limbeck list` shows it."""

from collections.abc import Callable
from dataclasses import fields as fields_of
from typing import Any

from ..augmentation.settings import AugmentSettings
from ..deploy.formats import FORMATS, MODELS, Format, extra_of
from ..evaluation.tasks import METRICS, TASKS, TaskKind
from ..generation.options import RULE_OPTIONS, PolicyOptions
from ..models.families import ARCHITECTURES
from ..models.families.quirks import quirks
from ..objectives.layer_mapping import NAMED_MAPS, layer_links
from ..objectives.measures import MEASURES
from ..objectives.options import OPTIONS
from ..objectives.presets import PRESETS
from ..objectives.schedule import Ramp
from ..recipe.methods import METHODS
from ..recipe.models_part import CopyPart, LowRankPart, StudentPart
from ..recipe.options_table import options_table
from ..recipe.parse_objective import option_names
from ..recipe.stage_part import AlignmentPart, StagePart
from ..reports.tables import Table
from ..student.rounding_kinds import Rounding
from ..training.settings import OptimizerSettings

_SINGLE_MAPS = {
    "last": "The last student layer and the teacher's last.",
    "last-1": "The last student layer and the teacher's last but one; last-2 and so on.",
    "0:1,2:5": "Pairs of a student layer and a teacher layer.",
}
# Rows of each kind of task, and what is said of a text there.
_TASK_KINDS: dict[TaskKind, tuple[str, str]] = {
    TaskKind.CLASSIFICATION: ("text, text_pair?, label (a string)", "one of several labels"),
    TaskKind.MULTI_LABEL: (
        "text, text_pair?, label (a list of strings)",
        "any number of labels",
    ),
    TaskKind.REGRESSION: ("text, text_pair?, label (a number)", "a number"),
    TaskKind.TAGGING: ("tokens, tags (IOB2)", "a tag for every word"),
    TaskKind.JOINT: ("tokens, tags, label", "both; data.predict chooses what is learned"),
    TaskKind.GENERATION: ("prompt, references; or messages", "a text that answers a prompt"),
}
# Of vectors, by `limbeck evaluate`; the scores are those of `evaluation.embeddings.scores`.
_VECTOR_TASKS = [
    ["similarity", "text, text_pair, label", "spearman, pearson", "how alike two texts are"],
    [
        "retrieval",
        "id, text; relevant in queries",
        "ndcg_at_10, recall_at_1, recall_at_10",
        "documents of a query",
    ],
    ["bitext", "text, text_pair", "accuracy, to_pair, to_text", "translations found by vectors"],
]
_ROUNDINGS: dict[Rounding, str] = {
    "int8": "weights and activations in 8 bits, as onnx-int8 computes with VNNI, AMX or on ARM",
    "int8_reduced": "the same with weights of 7 bits, as for processors without VNNI",
    "int4": "weights in 4 bits by blocks, as onnx-int4-weights has them; for decoders",
}


def _objectives() -> Table:
    rows = [[n, ", ".join(option_names(n)), _about(kind)] for n, kind in OPTIONS.items()]
    return [["name", "options", "description"], *rows]


def _presets() -> Table:
    rows = [[n, ", ".join(preset.objectives), preset.about] for n, preset in PRESETS.items()]
    return [["name", "objectives", "description"], *rows]


def _methods() -> Table:
    return [["name", "description"], *([name, method.about] for name, method in METHODS.items())]


def _policies() -> Table:
    return [
        ["name", "options", "description"],
        ["corpus", "", "The references in the files of prompts."],
        ["mixed", "fraction 0.5", "The student generates a fraction; the rest are references."],
        *([n, ", ".join(_fields(rule)), _about(rule)] for n, rule in RULE_OPTIONS.items()),
        ["any but corpus", ", ".join(_fields(PolicyOptions)), _about(PolicyOptions)],
    ]


def _divergences() -> Table:
    rows = []
    for name, measure in MEASURES.items():
        taken = [f"{option} {known.default:g}" for option, known in measure.options.items()]
        rows.append([name, ", ".join(taken), measure.about])
    return [["name", "options", "description"], *rows]


def _layer_maps() -> Table:
    return [
        ["name", "student layer: teacher layers, of 3 and 6", "description"],
        *([n, _links(n), _about(function)] for n, function in NAMED_MAPS.items()),
        *([n, _links(n), about] for n, about in _SINGLE_MAPS.items()),
    ]


def _tasks() -> Table:
    rows = [[n, task.headline, task.language, task.about] for n, task in TASKS.items()]
    return [["task", "metric", "language", "description"], *rows]


def _alignments() -> Table:
    return options_table(AlignmentPart)


def _schedules() -> Table:
    rates = options_table(OptimizerSettings, ["lr_scheduler_type", "warmup_ratio"])
    return rates + options_table(Ramp, prefix="ramp: ")[1:]


def _optimizers() -> Table:
    return options_table(OptimizerSettings)


def _initializations() -> Table:
    return [
        *options_table(StudentPart, ["model", "embedding_init"]),
        *options_table(CopyPart, prefix="init_from_teacher: ")[1:],
        *options_table(StagePart, ["projection_init"], prefix="stages: ")[1:],
    ]


def _low_rank() -> Table:
    return options_table(LowRankPart)


def _roundings() -> Table:
    return [["name", "description"], *([name, about] for name, about in _ROUNDINGS.items())]


def _task_kinds() -> Table:
    rows = [
        [kind.value, fields, ", ".join(METRICS[kind]), about]
        for kind, (fields, about) in _TASK_KINDS.items()
    ]
    return [["kind", "fields of a row", "scores", "what is said of a text"], *rows, *_VECTOR_TASKS]


def _families() -> Table:
    rows = [
        [
            name,
            "decoder" if row.causal else "encoder",
            "yes" if row.head else "no",
            ", ".join(quirks(row, name)),
        ]
        for name, row in ARCHITECTURES.items()
    ]
    return [["model_type", "kind", "vocabulary head", "differs from BERT in"], *rows]


def _formats() -> Table:
    rows = [
        [name, form.engine, extra_of(form.engine), _models(form)] for name, form in FORMATS.items()
    ]
    return [["format", "runs on", "extras", "models"], *rows]


def _models(form: Format) -> str:
    return ", ".join(MODELS[kind] for kind in form.kinds) or "all"


def _augmentations() -> Table:
    names = ["masked", "spans", "neighbors", "edits", "copies", "replace_prob", "top_k"]
    return options_table(AugmentSettings, [*names, "min_similarity"])


CHOICES: dict[str, Callable[[], Table]] = {
    "objectives": _objectives,
    "presets": _presets,
    "methods": _methods,
    "policies": _policies,
    "divergences": _divergences,
    "layer-maps": _layer_maps,
    "alignments": _alignments,
    "schedules": _schedules,
    "optimizers": _optimizers,
    "initializations": _initializations,
    "low-rank": _low_rank,
    "roundings": _roundings,
    "tasks": _tasks,
    "task-kinds": _task_kinds,
    "families": _families,
    "formats": _formats,
    "augmentations": _augmentations,
}


def _about(thing: object) -> str:
    return (thing.__doc__ or "").splitlines()[0]


def _fields(rule: Any) -> list[str]:
    return [f"{field.name} {field.default}" for field in fields_of(rule)]


def _links(name: str) -> str:
    links = layer_links(name, 3, 6)
    return ", ".join(f"{s}: {'+'.join(map(str, teachers))}" for s, teachers in links)

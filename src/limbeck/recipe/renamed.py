"""Keys and values that recipes had before they took the names of transformers, TRL and peft.

There is no compatibility: whoever brings an old recipe is told the new name of every old word at
once, beside whatever else is wrong with it.
"""

from collections.abc import Mapping
from typing import Any

from ..errors import Problem

# By the place where a key stands; * is any number or name.
KEYS: dict[str, dict[str, str]] = {
    "teacher": {"anatomy": "architecture"},
    "student": {
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "intermediate": "intermediate_size",
        "positions": "max_position_embeddings",
        "key_value_heads": "num_key_value_heads",
        "vocabulary": "vocab_size",
        "architecture": "model_type",
        "copy": "init_from_teacher",
        "embeddings": "embedding_init",
        "other_normalisation": "allow_normalizer_mismatch",
    },
    "student.low_rank": {
        "layers": "target_modules",
        "budget": "parameter_ratio",
        "alpha": "lora_alpha",
        "whitened": "whiten",
    },
    "data": {
        "length": "max_length",
        "response": "max_new_tokens",
        "between": "separator",
        "chat": "chat_template",
        "predicted": "loss_on",
        "packed": "packing",
        "apart": "isolate_documents",
    },
    "data.held_out": {"share": "fraction"},
    "stages.*": {"steps": "max_steps", "trained": "trainable", "projections": "projection_init"},
    "stages.*.mixed": {"share": "student_fraction"},
    "stages.*.masking": {
        "share": "mlm_probability",
        "replaced": "mask_replace_prob",
        "random": "random_replace_prob",
    },
    "stages.*.alignment": {"of_parts": "logit_pooling", "teacher_reads": "teacher_input"},
    "stages.*.policy": {
        "share": "fraction",
        "replay": "replay_ratio",
        "kept": "replay_buffer_size",
        "block": "draft_length",
        "graphs": "cuda_graphs",
        "top": "top_k",
    },
    "stages.*.optimizer": {
        "warmup_share": "warmup_ratio",
        "decay": "lr_scheduler_type",
        "clip_norm": "max_grad_norm",
        "beta2": "adam_beta2",
    },
    "stages.*.objectives": {
        "hidden": "hidden_states",
        "mean_hidden": "mean_hidden_states",
        "vectors": "qkv",
        "attention_maps": "attention_scores",
        "output": "logits",
        "chunks": "span_likelihood",
    },
    "stages.*.objectives.mean_hidden_states": {"trained": "trainable"},
    "stages.*.objectives.logits": {"pieces": "top_k"},
    "stages.*.objectives.uld": {"pieces": "top_k"},
    "training": {
        "checkpointing": "gradient_checkpointing",
        "log_every": "logging_steps",
        "held_out_every": "eval_steps",
        "checkpoint_every": "save_steps",
        "checkpoints_kept": "save_total_limit",
        "trackers": "report_to",
    },
    "evaluation": {
        "writing": "generation",
        "settings": "finetuning",
        "training_rows": "max_train_samples",
        "no_distillation": "baseline",
        "test_split": "split",
    },
    "evaluation.generation": {
        "response": "max_new_tokens",
        "length": "max_length",
        "between": "separator",
        "chat": "chat_template",
        "rows": "max_eval_samples",
    },
    "evaluation.finetuning": {"epochs": "num_train_epochs"},
}
VALUES: dict[str, dict[str, str]] = {
    "student.low_rank.kind": {"replace": "factorize", "adapt": "lora"},
    "student.low_rank.export": {"factored": "low_rank"},
    "data.loss_on": {"responses": "completion", "everything": "all"},
    "stages.*.trainable": {"factors": "low_rank"},
    "stages.*.alignment": {"ends": "boundaries"},
    "stages.*.alignment.kind": {"ends": "boundaries"},
    "stages.*.policy.labels": {"written": "generated"},
    "stages.*.preset": {"output": "logits"},
}


def with_new_words(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """A recipe with its old words replaced, and a problem for each of them.

    >>> with_new_words({"student": {"layers": 3}})
    ({'student': {'num_hidden_layers': 3}}, [('student.layers', \
"unknown key; did you mean 'num_hidden_layers'?")])
    """
    problems: list[Problem] = []
    return _replaced(raw, (), (), problems), problems


def _replaced(
    value: Any, written: tuple[str, ...], place: tuple[str, ...], problems: list[Problem]
) -> Any:
    """A value of a recipe with new words.

    Args:
        value: Of any kind.
        written: Where it stands in the recipe as it is.
        place: Where it stands among the new words, * for a number.
        problems: Gets a problem for every old word.
    """
    pattern = ".".join(place)
    if isinstance(value, list):
        return [
            _replaced(item, (*written, str(number)), (*place, "*"), problems)
            for number, item in enumerate(value)
        ]
    if not isinstance(value, Mapping):
        new = VALUES.get(pattern, {}).get(value) if isinstance(value, str) else None
        if new:
            problems.append((".".join(written), f"is {value!r}; did you mean {new!r}?"))
        return new or value
    known = KEYS.get(pattern, {})
    found: dict[Any, Any] = {}
    for key, inner in value.items():
        # An objective may have any name where its kind is said.
        named = isinstance(inner, Mapping) and "kind" in inner and place[-1:] == ("objectives",)
        new = None if named else known.get(key) if isinstance(key, str) else None
        path = (*written, str(key))
        if new:
            problems.append((".".join(path), f"unknown key; did you mean {new!r}?"))
        if new is None or new not in value:
            found[new or key] = _replaced(inner, path, (*place, str(new or key)), problems)
    return found

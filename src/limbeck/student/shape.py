"""A student's sizes become a transformers configuration, and an initialized model."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from ..models.architecture import Architecture
from ..models.auto_classes import empty_model, whole_class
from ..models.low_rank_layers import add_low_rank_layers, low_rank_ranks
from ..models.modules import parameter_counts
from ..models.shapes import Shape, shape_of, unused_positions
from ..models.task_heads import TaskHead, task_class

# Widths that are the hidden size's where they are not given, by their names in configurations.
_WIDTHS = ("embedding_size", "word_embed_proj_dim", "pooler_hidden_size")
# Lists of the layers of a kind, and how many of the first layers have no experts.
_NUMBERS_OF_LAYERS = ("mlp_only_layers", "attn_layer_indices")
_FIRST_LAYERS = ("first_k_dense_replace", "num_dense_layers")


def shape_problems(
    shape: Shape, architecture: Architecture | None = None, config: Any = None
) -> list[tuple[str, str]]:
    """Every problem of a student's shape, as (field, message).

    Args:
        shape: The student's.
        architecture: The family's row, where there is one to hold the shape against.
        config: A configuration of the family, where more of it than the sizes matters.
    """
    problems = [
        (name, f"is {value}, must be at least 1")
        for name, value in vars(shape).items()
        if isinstance(value, int) and not isinstance(value, bool) and value < 1
    ]
    if not problems:
        problems = _head_problems(shape, rotary=architecture is not None and architecture.rotary)
        problems += _group_problems(shape, config) + _factor_problems(shape, config)
    wide = 4 * shape.hidden_size
    if architecture and not architecture.intermediate_field and shape.intermediate_size != wide:
        message = f"is {shape.intermediate_size}, but in this family it is always 4 x hidden_size;"
        problems.append(("intermediate_size", f"{message} give {wide}, or leave it out"))
    if (ids := shape.token_ids).end > shape.vocab_size:
        message = f"is {shape.vocab_size}, but the tokenizer has {len(ids)} tokens"
        if ids.absent:
            message += f" with ids up to {ids.end - 1}"
        problems.append(("vocab_size", f"{message}; give {ids.end} or more"))
    return problems


def _head_problems(shape: Shape, *, rotary: bool) -> list[tuple[str, str]]:
    """Heads that do not divide the hidden size, or that positions could not turn in pairs."""
    if shape.head_dim is None and shape.hidden_size % shape.num_attention_heads:
        valid = [
            n for n in range(1, shape.hidden_size + 1) if shape.hidden_size % n == 0 and n <= 64
        ]
        message = f"is {shape.num_attention_heads}, which does not divide"
        message += f" hidden_size={shape.hidden_size}; use {valid}"
        return [("num_attention_heads", message)]
    if rotary and (size := shape.query_width // shape.num_attention_heads) % 2:
        message = f"is {shape.num_attention_heads}, of {size} coordinates each; where positions"
        message += f" are rotary a head needs an even number (hidden_size={shape.hidden_size})"
        return [("num_attention_heads", message)]
    return []


def _group_problems(shape: Shape, config: Any) -> list[tuple[str, str]]:
    """Numbers of key and value heads that the query heads or the family do not allow."""
    groups = shape.num_key_value_heads
    if groups and shape.num_attention_heads % groups:
        message = f"is {groups}, which does not divide"
        message += f" num_attention_heads={shape.num_attention_heads}"
        return [("num_key_value_heads", message)]
    if getattr(config, "multi_query", None) is None or getattr(
        config, "new_decoder_architecture", False
    ):
        return []
    # Falcon's older layouts: one head of keys and values for all, or one for each query head.
    only = 1 if config.multi_query else shape.num_attention_heads
    if groups in (None, only):
        return []
    message = f"is {groups}, but with `multi_query: {str(config.multi_query).lower()}` this family"
    return [("num_key_value_heads", f"{message} has {only}; give {only}, or leave it out")]


def _factor_problems(shape: Shape, config: Any) -> list[tuple[str, str]]:
    """Heads of another width than that for which the configuration has a factor for each pair."""
    rope = getattr(config, "rope_parameters", None) or {}
    counts = {len(rope[name]) for name in ("short_factor", "long_factor") if rope.get(name)}
    share, size = rope.get("partial_rotary_factor") or 1.0, shape.query_width
    size //= shape.num_attention_heads
    if not counts or counts == {int(size * share) // 2}:
        return []
    wanted = " or ".join(str(round(2 * count / share)) for count in sorted(counts))
    message = f"is {shape.num_attention_heads}, of {size} coordinates each, but the model's rotary"
    message += f" positions have factors for heads of {wanted} (rope_parameters, longrope);"
    message += f" give hidden_size / num_attention_heads = {wanted}"
    return [("num_attention_heads", message)]


def shape_warnings(shape: Shape, teacher: Shape) -> list[str]:
    """Warnings for what is possible but rarely meant: a student larger than its teacher."""
    return [
        f"the student's {name} ({getattr(shape, name)}) is larger than the teacher's"
        f" ({getattr(teacher, name)}): it will cost more than the teacher there"
        for name in ("num_hidden_layers", "hidden_size", "intermediate_size")
        if getattr(shape, name) > getattr(teacher, name)
    ]


def student_config(
    like: Any,
    architecture: Architecture,
    shape: Shape,
    *,
    copied_layers: Sequence[Sequence[int]] | None = None,
) -> Any:
    """A configuration with the student's sizes, otherwise equal to the given one.

    Args:
        like: The teacher's configuration, or a family's default.
        architecture: The family's row of the table.
        shape: The student's sizes.
        copied_layers: Teacher layers that each student layer is copied from. Where a model
            has several kinds of layers (local and global attention), the student layer is
            of the kind of the last of them.
    """
    config = copy.deepcopy(like)
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config  # the student's layers are neither quantized nor low-rank
    fields = config.to_dict()
    config.num_hidden_layers = shape.num_hidden_layers
    _set_heads(config, like, fields, architecture, shape)
    for name in _WIDTHS:
        if fields.get(name) == like.hidden_size:
            setattr(config, name, shape.hidden_size)
    config.hidden_size = shape.hidden_size
    if architecture.intermediate_field:
        setattr(config, architecture.intermediate_field, shape.intermediate_size)
    config.vocab_size = shape.vocab_size
    # Not every family has this field.
    if shape.max_position_embeddings != shape_of(like, architecture).max_position_embeddings:
        config.max_position_embeddings = shape.max_position_embeddings + unused_positions(
            like, architecture
        )
    if fields.get("max_relative_positions", 1) < 1:
        # DeBERTa: otherwise distances would mean others in a student of shorter texts.
        config.max_relative_positions = like.max_position_embeddings
    config.dtype = "float32"
    if architecture.shared_layers:
        config.num_hidden_groups = min(like.num_hidden_groups, shape.num_hidden_layers)
    runs = copied_layers or [[layer] for layer in range(shape.num_hidden_layers)]
    _set_kinds_of_layers(config, fields, [run[-1] for run in runs], like.num_hidden_layers)
    return config


def _set_kinds_of_layers(
    config: Any, fields: dict[str, Any], copied: Sequence[int], layers: int
) -> None:
    """Set what each layer is, which is what the layer is that it is copied from."""
    for name, kinds in fields.items():
        if name in _NUMBERS_OF_LAYERS and isinstance(kinds, list):
            setattr(config, name, [number for number, of in enumerate(copied) if of in kinds])
        elif name in _FIRST_LAYERS and isinstance(kinds, int):
            others = (number for number, of in enumerate(copied) if of >= kinds)
            setattr(config, name, next(others, len(copied)))
        # As `layer_types` or `no_rope_layers`.
        elif "layer" in name and isinstance(kinds, list) and len(kinds) >= layers:
            setattr(config, name, [kinds[of % len(kinds)] for of in copied])


def _set_heads(
    config: Any, like: Any, fields: dict[str, Any], architecture: Architecture, shape: Shape
) -> None:
    """Set the numbers of heads, their width, and what is as large as it."""
    wide = getattr(like, architecture.head_dim_field, None)
    wide = wide or like.hidden_size // like.num_attention_heads
    narrow = shape.head_dim or shape.hidden_size // shape.num_attention_heads
    config.num_attention_heads = shape.num_attention_heads
    if shape.num_key_value_heads and architecture.key_value_heads_field in fields:
        setattr(config, architecture.key_value_heads_field, shape.num_key_value_heads)
    if architecture.head_dim_field in fields:
        setattr(config, architecture.head_dim_field, narrow)
    if fields.get("query_pre_attn_scalar") == wide:
        config.query_pre_attn_scalar = narrow


def default_config(model_type: str, *, tokenizer_ids: dict[str, int | None]) -> Any:
    """A family's own configuration, with the special tokens of a tokenizer."""
    config = AutoConfig.for_model(model_type)
    for name, value in tokenizer_ids.items():
        setattr(config, name, value)
    return config


def build_student(
    config: Any, *, seed: int, architecture: Architecture, head: TaskHead | None = None
) -> PreTrainedModel:
    """A randomly initialized student in evaluation mode.

    It has the head of a task where one is given, and otherwise a vocabulary head if the family has
    one.

    Args:
        config: As `student_config` returns it.
        seed: Decides the weights.
        architecture: The family's row of the table.
        head: Of a classifier, tagger or scoring model; the configuration describes it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _from_config(config, architecture, head)
    model.train(False)
    return model


def parameters_of_shape(
    config: Any, *, with_head: bool, architecture: Architecture
) -> tuple[int, int]:
    """All parameters, and those of the input embeddings, without building the model in memory.

    Low-rank layers that the configuration names are counted as what they are.
    """
    model = empty_model(whole_class(architecture), config)
    add_low_rank_layers(model, low_rank_ranks(config))
    measured = model if with_head else model.base_model
    return parameter_counts(measured)


def _from_config(
    config: Any, architecture: Architecture, head: TaskHead | None = None
) -> PreTrainedModel:
    kind = task_class(head) if head else whole_class(architecture)
    model: PreTrainedModel = kind.from_config(config)
    return model

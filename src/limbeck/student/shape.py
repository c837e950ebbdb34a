"""A student's sizes become a transformers configuration, and an initialized model."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from ..models.architecture import Architecture
from ..models.load import language_model_class
from ..models.low_rank_layers import low_rank_ranks
from ..models.modules import parameter_counts
from ..models.shapes import Shape, unused_positions


def shape_problems(shape: Shape, *, rotary: bool = False) -> list[tuple[str, str]]:
    """Every problem of a student's shape, as (field, message).

    Args:
        shape: The student's.
        rotary: Whether positions are rotary, which turn the coordinates of a head in pairs.
    """
    problems = [
        (name, f"is {value}, must be at least 1")
        for name, value in vars(shape).items()
        if isinstance(value, int) and not isinstance(value, bool) and value < 1
    ]
    if not problems and shape.head_dim is None and shape.hidden_size % shape.num_attention_heads:
        valid = [
            n for n in range(1, shape.hidden_size + 1) if shape.hidden_size % n == 0 and n <= 64
        ]
        message = f"is {shape.num_attention_heads}, which does not divide"
        message += f" hidden_size={shape.hidden_size}; use {valid}"
        problems.append(("num_attention_heads", message))
    if not problems and rotary and (size := shape.query_width // shape.num_attention_heads) % 2:
        message = f"is {shape.num_attention_heads}, of {size} coordinates each; where positions"
        message += f" are rotary a head needs an even number (hidden_size={shape.hidden_size})"
        problems.append(("num_attention_heads", message))
    groups = shape.num_key_value_heads
    if not problems and groups and shape.num_attention_heads % groups:
        message = f"is {groups}, which does not divide"
        message += f" num_attention_heads={shape.num_attention_heads}"
        problems.append(("num_key_value_heads", message))
    if (ids := shape.token_ids).end > shape.vocab_size:
        message = f"is {shape.vocab_size}, but the tokenizer has {len(ids)} tokens"
        if ids.absent:
            message += f" with ids up to {ids.end - 1}"
        problems.append(("vocab_size", f"{message}; give {ids.end} or more"))
    return problems


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
    if low_rank_ranks(config):
        del config.quantization_config  # the student's layers are not low-rank
    kinds = config.to_dict().get("layer_types")
    config.num_hidden_layers = shape.num_hidden_layers
    config.num_attention_heads = shape.num_attention_heads
    fields = config.to_dict()
    if shape.num_key_value_heads and "num_key_value_heads" in fields:
        config.num_key_value_heads = shape.num_key_value_heads
    if "head_dim" in fields:
        config.head_dim = shape.head_dim or shape.hidden_size // shape.num_attention_heads
    if config.to_dict().get("embedding_size") == config.hidden_size:
        config.embedding_size = shape.hidden_size
    config.hidden_size = shape.hidden_size
    setattr(config, architecture.intermediate_field, shape.intermediate_size)
    config.vocab_size = shape.vocab_size
    config.max_position_embeddings = shape.max_position_embeddings + unused_positions(
        like, architecture
    )
    config.dtype = "float32"
    if kinds is not None:
        chosen = (
            range(shape.num_hidden_layers)
            if copied_layers is None
            else [run[-1] for run in copied_layers]
        )
        config.layer_types = [kinds[layer % len(kinds)] for layer in chosen]
    return config


def default_config(model_type: str, *, tokenizer_ids: dict[str, int | None]) -> Any:
    """A family's own configuration, with the special tokens of a tokenizer."""
    config = AutoConfig.for_model(model_type)
    for name, value in tokenizer_ids.items():
        setattr(config, name, value)
    return config


def build_student(config: Any, *, seed: int, causal: bool) -> PreTrainedModel:
    """A randomly initialized student with a vocabulary head, in evaluation mode.

    Args:
        config: As `student_config` returns it.
        seed: Decides the weights.
        causal: Whether the student is a decoder.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _from_config(config, causal)
    model.train(False)
    return model


def parameters_of_shape(config: Any, *, with_head: bool, causal: bool) -> tuple[int, int]:
    """All parameters, and those of the input embeddings, without building the model in memory."""
    with torch.device("meta"):
        model = _from_config(config, causal)
    measured = model if with_head else model.base_model
    return parameter_counts(measured)


def _from_config(config: Any, causal: bool) -> PreTrainedModel:
    model: PreTrainedModel = language_model_class(causal=causal).from_config(config)
    return model

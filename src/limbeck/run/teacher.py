"""The teacher of a recipe with its weights: from its files, or as a mixed stage left it."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from ..export.both import load_both
from ..models.attention import use_float32_attention
from ..models.biased_attention import use_fused_attention
from ..models.load import load_model, load_task_model, load_with_head
from ..models.modules import submodule
from ..models.openvino_forward import OpenVinoForward
from ..models.quantized import quantize_layers
from ..recipe.ensemble import columns_of_ensemble
from ..recipe.setup import Setup
from ..recipe.sides import ModelSide
from ..student.mixed_vocabulary import reader_of_student_tokens, with_tokens
from ..teacher.ensemble import EnsembleTeacher
from ..teacher.live import LiveTeacher, halve_weights
from ..teacher.openvino import OpenVinoTeacher
from ..teacher.placement import place_teacher
from ..training.processes import keeps_shards, shard_layers
from .launched import check_teacher_processes
from .teacher_text import teacher_tokens
from .vectors import attach_teacher_vectors

_CALIBRATION_ROWS = 4  # at once


def load_teacher(
    teacher: ModelSide, accelerator: Accelerator, *, with_head: bool | None
) -> PreTrainedModel:
    """The teacher in the precision of its file, with its head where a task is learned.

    Args:
        teacher: Of the recipe.
        accelerator: What keeps shares needs all weights of a layer in one precision.
        with_head: As for `load_model`.
    """
    stored = not keeps_shards(accelerator)
    if teacher.head:
        return load_task_model(teacher.name, teacher.head, stored=stored)
    return load_model(
        teacher.name,
        architecture=teacher.architecture,
        with_head=with_head,
        stored=stored,
    )


def teacher_after_mixed(teacher: ModelSide, folder: Path) -> PreTrainedModel:
    """The teacher that a mixed stage has left in a run's folder, as a reader of student tokens."""
    both, first = load_both(folder, architecture=teacher.architecture)
    return reader_of_student_tokens(both, teacher.architecture, student_from=first)


def untrained_after_mixed(setup: Setup) -> PreTrainedModel:
    """A model of the size that a mixed stage leaves, for a probe: it reads student tokens."""
    teacher = setup.models.required_teacher()
    model = load_with_head(teacher.name, architecture=teacher.architecture, seed=setup.recipe.seed)
    table: Any = model.get_input_embeddings()
    rows = table.weight.new_zeros(setup.models.student.shape.vocab_size, table.weight.shape[1])
    return with_tokens(model, teacher.architecture, rows)


def live_teachers(setup: Setup, model: PreTrainedModel, accelerator: Accelerator) -> LiveTeacher:
    """The teacher of a recipe beside the student, with all whose answers are averaged with its own.

    Args:
        setup: A checked recipe.
        model: The first teacher as it was loaded; it is changed in place.
        accelerator: Tells the device.

    Raises:
        TrainingError: As of `check_teacher_processes`.
    """
    first = live_teacher(setup, model, accelerator)
    if not setup.models.ensemble:
        return first
    others = tuple(
        live_teacher(setup, load_teacher(side, accelerator, with_head=None), accelerator, side=side)
        for side in setup.models.ensemble
    )
    head = setup.models.required_teacher().head
    return EnsembleTeacher(
        first.model,
        first.architecture,
        others,
        columns=columns_of_ensemble(setup.models),
        multi_label=bool(head and head.multi_label),
    )


def live_teacher(
    setup: Setup,
    model: PreTrainedModel,
    accelerator: Accelerator,
    *,
    side: ModelSide | None = None,
    quantized: bool = True,
) -> LiveTeacher:
    """A teacher that runs beside the student, on its device.

    Args:
        setup: A checked recipe.
        model: The teacher as it was loaded; it is changed in place.
        accelerator: Tells the device.
        side: Which of several teachers; the first by default.
        quantized: False leaves a teacher in full precision, in torch, that the recipe quantizes
            or runs on another engine.

    Raises:
        TrainingError: As of `check_teacher_processes`.
        DeviceError: Its layers do not fit where the recipe wants them.
    """
    attend(setup, model)
    architecture = (side or setup.models.required_teacher()).architecture
    part = setup.recipe.teacher
    if part:
        check_teacher_processes(part, accelerator)
    engine = part.engine if part and quantized else "torch"
    if quantized and part and part.quantize:
        quantize_layers(model, architecture, part.quantize)
    # What keeps shares needs the weights of a layer alike.
    elif (
        quantized
        and _reads_in_bfloat16(setup)
        and not keeps_shards(accelerator)
        and engine == "torch"
    ):
        halve_weights(model)
    attach_teacher_vectors(setup, model)
    model.requires_grad_(False)
    if part and part.device_map is not None:
        place_teacher(
            model,
            architecture,
            accelerator.device,
            device_map=part.device_map,
            max_memory=part.max_memory,
        )
        return LiveTeacher(model, architecture)
    if engine != "torch":
        return _on_openvino(setup, model, side or setup.models.required_teacher())
    model.to(accelerator.device)
    shard_layers(submodule(model.base_model, architecture.layers), accelerator)
    return LiveTeacher(model, architecture)


def _on_openvino(setup: Setup, model: PreTrainedModel, side: ModelSide) -> OpenVinoTeacher:
    """A teacher on OpenVINO; in 8 bits with the ranges of the recipe's own text."""
    part, text = setup.recipe.teacher, []
    if part and part.engine == "openvino-int8":
        tokens = teacher_tokens(setup, side)
        rows = range(0, len(tokens.mask), _CALIBRATION_ROWS)
        text = [tokens.rows(row, row + _CALIBRATION_ROWS) for row in rows]
    nn.Module.float(model)
    half = setup.precision.half
    forward = OpenVinoForward(model, side.architecture, half=half, calibration=text)
    return OpenVinoTeacher(model, side.architecture, forward)


def attend(setup: Setup, model: PreTrainedModel) -> None:
    """Let a model's attention be computed in the way that is fastest on the device."""
    if setup.device.type == "cuda":
        use_fused_attention(model)
    elif setup.precision.half and setup.device.type == "cpu":
        use_float32_attention(model)


def _reads_in_bfloat16(setup: Setup) -> bool:
    """Whether the teacher always does, also where it writes."""
    asking = [s.policy for s in setup.stages if s.policy and s.generates_with_teacher]
    coarse = all(policy.options.precision == "bfloat16" for policy in asking)
    return coarse and setup.precision.half

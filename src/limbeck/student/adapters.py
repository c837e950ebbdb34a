"""Low-rank additions to frozen layers (LoRA), by peft, and their merging at the end.

Source: Hu et al. 2022, LoRA, arXiv:2106.09685.
"""

import copy
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..errors import MissingExtraError
from ..models.low_rank_layers import set_submodule
from ..models.task_heads import TaskHead
from ..system.files import whole_folder

_ADAPTER = "default"  # the name that peft gives to a model's only adapter
_TASK_TYPES = {"sequence": "SEQ_CLS", "token": "TOKEN_CLS"}  # peft's names
_NEEDS_PEFT = "LoRA needs peft; run: pip install 'limbeck[lora]'"


def adapters_missing() -> str | None:
    """Why no adapter can be made here; None where it can."""
    return None if find_spec("peft") else _NEEDS_PEFT


def add_adapters(
    model: PreTrainedModel, paths: Sequence[str], *, rank: int, alpha: int, seed: int
) -> None:
    """Freeze a model and give layers trainable additions; its outputs do not change at first.

    Args:
        model: Changed in place.
        paths: Paths of linear layers, from the model's body.
        rank: Rank of the additions.
        alpha: The additions are multiplied by alpha / rank.
        seed: Decides the initialization of the additions.

    Raises:
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError(_NEEDS_PEFT) from error
    model.requires_grad_(False)
    turned = any(isinstance(model.base_model.get_submodule(path), Conv1D) for path in paths)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(paths),
        lora_dropout=0.0,
        fan_in_fan_out=turned,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model.base_model)


def save_adapters(
    model: PreTrainedModel,
    folder: Path,
    *,
    base: str,
    with_head: bool,
    beside: Mapping[str, nn.Module] | None = None,
    task: TaskHead | None = None,
) -> None:
    """Write only what was trained, as a folder that peft can add to the frozen model.

    Args:
        model: With its additions not yet merged.
        folder: Replaced if it exists.
        base: Name of the frozen model.
        with_head: Whether the frozen model is loaded with a head.
        beside: Modules that were trained whole, by their paths; they are saved with the additions.
        task: The head of a task among them.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    body: Any = model.base_model
    inside = f"{model.base_model_prefix}." if with_head else ""
    found = get_peft_model_state_dict(body, adapter_name=_ADAPTER)
    weights = {f"base_model.model.{inside}{name}": w.contiguous() for name, w in found.items()}
    for path, module in (beside or {}).items():
        for name, weight in module.state_dict().items():
            weights[f"base_model.model.{path}.{name}"] = weight.clone()  # a tied table twice
    with whole_folder(folder) as part:
        config = copy.deepcopy(body.peft_config[_ADAPTER])
        config.modules_to_save = list(beside) if beside else None
        config.task_type = _TASK_TYPES[task.kind] if beside and task else None
        config.base_model_name_or_path, config.inference_mode = base, True
        # Whole paths, because peft has shortened the paths that it was given.
        config.target_modules = [f"{inside}{path}" for path in _adapted(body)]
        config.save_pretrained(str(part))
        save_file(weights, part / "adapter_model.safetensors", metadata={"format": "pt"})


def train_only_adapters(model: PreTrainedModel) -> None:
    """Freeze everything but the additions."""
    model.requires_grad_(False)
    for path in _adapted(model):
        layer: Any = model.get_submodule(path)
        layer.set_adapter(_ADAPTER)  # an active adapter is trainable


def _adapted(model: nn.Module) -> list[str]:
    """Paths of the layers that have additions."""
    from peft.tuners.lora import LoraLayer

    return [path for path, module in model.named_modules() if isinstance(module, LoraLayer)]


def adapted_weights(model: PreTrainedModel) -> dict[str, tuple[Tensor, Tensor | None]]:
    """The weight and bias of every layer that has an addition, with it, by path; no copy without.

    Weights are in the layout of their layers.
    """
    if not getattr(model.base_model, "peft_config", None):
        return {}
    found = {}
    for path in _adapted(model):
        layer: Any = model.get_submodule(path)
        base = layer.get_base_layer()
        with torch.no_grad():
            found[path] = base.weight + layer.get_delta_weight(_ADAPTER), base.bias
    return found


def merge_adapters(model: PreTrainedModel) -> None:
    """Add the additions to the frozen weights and remove them as layers, in place."""
    for path in _adapted(model):
        layer: Any = model.get_submodule(path)
        layer.merge()
        set_submodule(model, path, layer.get_base_layer())
    model.requires_grad_(True)

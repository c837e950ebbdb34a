"""Layers of a teacher beside the student's device: on other devices, or in the processor's memory.

The embeddings and the head stay with the student, and states come back to its device after each
layer, so that what is compared lies in one place. A layer in the processor's memory is brought to
the device while it computes. accelerate moves both.
"""

from collections.abc import Mapping, Sequence

import torch
from accelerate import cpu_offload, infer_auto_device_map
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from accelerate.utils import convert_file_size_to_int, get_balanced_memory, get_max_memory
from torch import nn
from transformers import PreTrainedModel

from ..errors import DeviceError
from ..models.architecture import Architecture
from ..models.modules import submodule

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


def place_teacher(
    model: PreTrainedModel,
    architecture: Architecture,
    device: torch.device,
    *,
    device_map: str | int,
    max_memory: Mapping[str | int, str | int],
) -> None:
    """Give each layer of a teacher its device, and all else the student's, in place.

    Args:
        model: The teacher, not trained.
        architecture: Of its family.
        device: Where the student is.
        device_map: One of `STRATEGIES`, as transformers has them; or the one device of all layers,
            as ``cpu``, ``cuda:1`` or 1.
        max_memory: The most bytes that layers may take, by the number of a GPU or ``cpu``; what is
            free by default.

    Raises:
        DeviceError: The layers do not fit into the devices and the processor's memory.
    """
    layers = submodule(model.base_model, architecture.layers)
    if device_map in STRATEGIES:
        places = _distributed(layers, str(device_map), max_memory)
    else:
        places = [_device(device_map)] * len(list(layers.children()))
    move_all_but(layers, model, device)
    for layer, place in zip(layers.children(), places, strict=True):
        if _is_same(place, device):
            layer.to(device)
        elif place.type == "cpu":
            bring_when_asked(layer, device)
        else:
            keep_on(layer, place)


def device_map_problem(device_map: str | int) -> str | None:
    """Why layers cannot be where a recipe wants them; None where they can."""
    if device_map in STRATEGIES:
        return None
    here = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    try:
        known = str(_device(device_map)) in here
    except RuntimeError:
        known = False
    if known:
        return None
    named = f"{', '.join(STRATEGIES)}, or a device that is here ({', '.join(here)})"
    return f"is {device_map!r}; give {named}"


def max_memory_problems(max_memory: Mapping[str | int, str | int]) -> list[str]:
    """What is wrong with the most bytes that layers may take."""
    there = get_max_memory()
    problems = [
        f"names {name!r}, which is not here: give {', '.join(map(str, there))}"
        for name in max_memory
        if name not in there
    ]
    for size in max_memory.values():
        try:
            convert_file_size_to_int(size)
        except ValueError:
            problems.append(f"has {size!r}, which is no size; give one as 20GiB or 500MB")
    return problems


def bring_when_asked(layer: nn.Module, device: torch.device) -> None:
    """Keep a layer in the processor's memory, and on the device while it computes."""
    cpu_offload(layer, execution_device=device)


def keep_on(layer: nn.Module, place: torch.device) -> None:
    """Move a layer to a device; its inputs follow it, and its output goes where they came from."""
    hook = AlignDevicesHook(place, io_same_device=True, place_submodules=True)
    add_hook_to_module(layer, hook)


def move_all_but(layers: nn.Module, model: nn.Module, device: torch.device) -> None:
    """Move a model to a device, except its layers."""
    inside = set(layers.modules())
    for module in model.modules():
        if module in inside:
            continue
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(device)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def _distributed(
    layers: nn.Module, strategy: str, max_memory: Mapping[str | int, str | int]
) -> Sequence[torch.device]:
    """The device of each layer by a strategy of transformers."""
    whole = sorted({type(layer).__name__ for layer in layers.children()})
    memory = get_max_memory({**get_max_memory(), **max_memory})
    if strategy != "sequential":
        low = strategy == "balanced_low_0"
        memory = get_balanced_memory(layers, memory, no_split_module_classes=whole, low_zero=low)
    found = infer_auto_device_map(layers, memory, no_split_module_classes=whole)
    names = [name for name, _ in layers.named_children()]
    places = [found.get(name, found.get("", "disk")) for name in names]
    if lacking := places.count("disk"):
        needed = sum(p.numel() * p.element_size() for p in layers.parameters()) / 1e6
        held = ", ".join(f"{name}: {size / 1e6:,.1f} MB" for name, size in memory.items())
        raise DeviceError(
            f"{lacking} of the teacher's {len(names)} layers ({needed:,.1f} MB in all) fit neither"
            f" into the GPUs nor into the processor's memory, as far as they may be used ({held});"
            " raise teacher.max_memory, take a smaller teacher, or ask a server (teacher.server)"
        )
    return [_device(place) for place in places]


def _device(place: str | int) -> torch.device:
    """A device of that name; a number is that of a GPU."""
    return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)


def _is_same(one: torch.device, other: torch.device) -> bool:
    return one.type == other.type and (one.type != "cuda" or _number(one) == _number(other))


def _number(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index

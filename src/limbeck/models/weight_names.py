"""The names of a model's weights: marks of wrappers and adapters in them, layers, prefixes."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..errors import ModelError

# Parts of names that torch's wrappers of a model add to the names of its weights.
_WRAPPERS = re.compile(
    r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
# peft's names for the weights of adapters, and of a model that still has unmerged ones.
_ADAPTERS = re.compile(
    r"^base_model\.model\.|(?<![^.])"
    r"(base_layer|modules_to_save|original_module|(lora|ia3|vera|hada|oft|boft)_\w+)(?![^.])"
)


def unwrapped(
    name: str, weights: Iterable[str], *, base: str = "", described: Iterable[str] = ()
) -> dict[str, str]:
    """The names of weights without the parts that wrappers added, each with its original name.

    Args:
        name: The name that the user gave to the model.
        weights: Names of the weights in its files.
        base: transformers' name of the body within a model; it is kept once where a name has it
            several times.
        described: Names according to the configuration; a double ``base`` in them is kept.

    Raises:
        ModelError: Two weights would get the same name.
    """
    plain_names = {weight: _WRAPPERS.sub("", weight) for weight in weights}
    twice = f"{base}.{base}."
    if base and not any(wanted.startswith(twice) for wanted in described):
        while any(plain.startswith(twice) for plain in plain_names.values()):
            of_all = all(plain.startswith(f"{base}.") for plain in plain_names.values())
            plain_names = {
                weight: plain.removeprefix(f"{base}.")
                if of_all or plain.startswith(twice)
                else plain
                for weight, plain in plain_names.items()
            }
    found: dict[str, str] = {}
    for weight, plain in plain_names.items():
        if plain in found:
            raise ModelError(
                f"{name!r} holds both {found[plain]} and {weight}, which are the same weight from"
                " two wrappers; save the model again"
            )
        found[plain] = weight
    return found


def wrapping_note(name: str, renamed: Mapping[str, str]) -> str | None:
    """A note that parts of wrappers were removed from names; None where none were."""
    wrapped = {plain: weight for plain, weight in renamed.items() if plain != weight}
    if not wrapped:
        return None
    words = {found.group() for weight in wrapped.values() for found in _WRAPPERS.finditer(weight)}
    words |= {_WRAPPERS.sub("", weight).removesuffix(plain) for plain, weight in wrapped.items()}
    return (
        f"{len(wrapped)} of the {len(renamed)} weights of {name!r} were saved from within a"
        f" wrapper ({', '.join(sorted(words - {''}))} in their names); it is left out"
    )


def of_adapters(names: Iterable[str]) -> list[str]:
    """The names that only occur in adapters, or in a model with unmerged adapters."""
    return [name for name in names if _ADAPTERS.search(name)]


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names in natural order: layer 2 stands before layer 10."""
    return tuple(
        sorted(
            names,
            key=lambda name: [
                (0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split(".")
            ],
        )
    )


def layer_numbers(names: Iterable[str]) -> set[int]:
    """The numbers of the layers that occur in the names."""
    found = (re.search(r"(?<![^.])\d+(?![^.])", name) for name in names)
    return {int(match.group()) for match in found if match}


def listed_layers(layers: Collection[int]) -> str:
    """Layers as text, for a sentence.

    >>> listed_layers({9}), listed_layers({0, 1, 2, 5, 7, 8})
    ('layer 9', 'layers 0 to 2, 5, 7 and 8')
    """
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    said = [
        part
        for run in runs
        for part in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))
    ]
    word = "layer" if len(layers) == 1 else "layers"
    return f"{word} {' and '.join([', '.join(said[:-1]), said[-1]] if said[1:] else said)}"


def with_and_without(names: set[str], prefix: str) -> set[str]:
    """The names in both forms: in a model with a head, and in its body alone."""
    plain = {name.removeprefix(f"{prefix}.") for name in names}
    return names | plain | {f"{prefix}.{name}" for name in plain}


def prefix_of(names: Sequence[str], wanted: set[str]) -> str:
    """The common beginning of all names, where some wanted name is one of them without it."""
    parts = [name.split(".") for name in names]
    prefix = ""
    for number, here in enumerate(zip(*parts, strict=False)):
        if len(set(here)) > 1:
            break
        prefix += f"{here[0]}."
        if any(".".join(name[number + 1 :]) in wanted for name in parts):
            return prefix
    return ""

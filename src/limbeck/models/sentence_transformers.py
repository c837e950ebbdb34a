"""Folders of sentence-transformers: the transformer inside, and what stands around it.

A model of sentence-transformers is a chain of modules. Its transformer is what limbeck loads; how
the states of its tokens become one vector of a text is read here and computed by `sentences/`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ModelError
from ..system.files import expanded

MODULES = "modules.json"
OF_THE_MODEL = "config_sentence_transformers.json"
OF_THE_TRANSFORMER = "sentence_bert_config.json"
# Versions before 2.0 named that file by the kind of the transformer.
_OLDER = ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
READING = (OF_THE_TRANSFORMER, *(f"sentence_{kind}_config.json" for kind in _OLDER))
_LIBRARY = "sentence_transformers."
_NO_LIMIT = 10**9  # tokens
_OF_STATES = "feature-extraction"  # what the library has a transformer for that makes vectors
_OF_TEXTS = "sentence_embedding"  # what the library calls the vector of a text within the chain
# Switches of the form that versions before 6 wrote, with the name that the newer form has. Several
# are concatenated in this order, whatever the order in the file.
POOLING_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Pooling:
    """How token vectors become one vector.

    Attributes:
        modes: Names of the library; several are concatenated in this order.
        include_prompt: Whether the tokens of a prompt count.
    """

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True


@dataclass(frozen=True)
class DenseLayer:
    """A linear layer after pooling; its weights lie in ``folder``.

    Attributes:
        activation: The name of a class in `torch.nn`; the whole path of any other.
        residual: Whether its input is added to its output, through a second linear map where
            they differ in width.
    """

    folder: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str
    residual: bool


@dataclass(frozen=True)
class SentenceModel:
    """A folder of sentence-transformers.

    Attributes:
        transformer: The transformers folder inside.
        pooling: None where there is none.
        dense: In their order.
        normalize: Whether vectors are scaled to length 1.
        prompts: Texts that are put before an input, by their names.
        default_prompt: The name of the one that is used where none is given.
        similarity: How vectors are compared, where the folder says so.
        max_length: Tokens of a text that are read, where the folder says so.
        lowercase: Whether a text is lower-cased before it is tokenized.
        truncate_dim: Coordinates that are kept of a vector, the first ones; None for all.
        others: Types of modules that limbeck does not read.
    """

    transformer: Path
    pooling: Pooling | None = None
    dense: tuple[DenseLayer, ...] = ()
    normalize: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str | None = None
    max_length: int | None = None
    lowercase: bool = False
    truncate_dim: int | None = None
    others: tuple[str, ...] = ()

    def note(self, name: str) -> str | None:
        """A note that sentence-transformers changes texts before the transformer reads them."""
        if not self.lowercase:
            return None
        return (
            f"sentence-transformers lower-cases texts before {name!r} reads them (do_lower_case),"
            " and limbeck does not; where its tokenizer distinguishes capitals, give lower-cased"
            " text"
        )

    def lines(self) -> list[tuple[str, str]]:
        """What the folder says of sentence vectors, as pairs of a name and its value."""
        found = []
        if self.pooling:
            whole = "" if self.pooling.include_prompt else ", without the prompt"
            found.append(("pooling", " + ".join(self.pooling.modes) + whole))
        for layer in self.dense:
            size = f"{layer.in_features} to {layer.out_features}, {layer.activation}"
            found.append(("dense", f"{size} ({layer.folder.name})"))
        found.append(("vectors of length 1", "yes" if self.normalize else "no"))
        for name, text in self.prompts.items():
            default = ", by default" if name == self.default_prompt else ""
            found.append((f"prompt {name}", f"{text!r}{default}"))
        if self.truncate_dim:
            found.append(("coordinates kept", f"the first {self.truncate_dim:,}"))
        if self.similarity:
            found.append(("similarity", self.similarity))
        if self.max_length:
            found.append(("longest text", f"{self.max_length:,} tokens"))
        if self.lowercase:
            found.append(("lower case", "texts are lower-cased before they are tokenized"))
        if self.others:
            found.append(("not read", ", ".join(self.others)))
        return found


def transformer_in(folder: Path) -> Path:
    """The transformers folder that a folder stands for; the folder itself is one in most cases.

    Raises:
        ModelError: It is a folder of sentence-transformers that does not begin with a transformer.
    """
    return _first(folder, modules_in(folder)) if (folder / MODULES).is_file() else folder


def sentence_model(name: str) -> SentenceModel | None:
    """What a folder of sentence-transformers holds; None where a name stands for no such folder.

    A CrossEncoder is none: version 6 lists its transformer as a module, whose head gives scores.

    Raises:
        ModelError: Its files are damaged, or it does not begin with a transformer.
    """
    folder = expanded(name)
    if not (folder / MODULES).is_file():
        return None
    modules = modules_in(folder)
    transformer = _first(folder, modules)
    whole, reading = _read(folder / OF_THE_MODEL), _reading(transformer)
    if len(modules) == 1 and reading.get("transformer_task", _OF_STATES) != _OF_STATES:
        return None
    parts: dict[str, Any] = {"dense": (), "others": ()}
    for path, kind in modules[1:]:
        place, name = folder / path, kind.rsplit(".", 1)[-1]
        settings = _read(place / "config.json")
        # Length is normalized last; where it is not, the chain is another one.
        of_library = kind.startswith(_LIBRARY) and "normalize" not in parts
        # Some chains map or scale the states of tokens, before pooling or without any.
        of_library &= {settings.get(f"module_{end}_name") for end in ("input", "output")} <= {
            None,
            _OF_TEXTS,
        }
        if of_library and name == "Pooling" and "pooling" not in parts:
            parts["pooling"] = _pooling(place, settings)
        elif of_library and name == "Normalize":
            parts["normalize"] = True
        elif of_library and name == "Dense" and "pooling" in parts:
            parts["dense"] += (_dense(place, settings),)
        else:
            parts["others"] += (kind,)
    length, width = _longest(transformer, reading), whole.get("truncate_dim")
    return SentenceModel(
        transformer,
        **parts,
        prompts=_prompts(whole.get("prompts")),
        default_prompt=whole.get("default_prompt_name"),
        similarity=whole.get("similarity_fn_name"),
        max_length=length,
        lowercase=bool(reading.get("do_lower_case")),
        truncate_dim=width if isinstance(width, int) else None,
    )


def _reading(transformer: Path) -> dict[str, Any]:
    """What the library says of how the transformer reads a text, by whatever name of its file."""
    return next((found for name in READING if (found := _read(transformer / name))), {})


def _prompts(given: Any) -> dict[str, str]:
    """Prompts by their names; null is that of a name without a text."""
    listed = given.items() if isinstance(given, dict) else ()
    return {name: "" if text is None else str(text) for name, text in listed}


def _longest(transformer: Path, reading: Mapping[str, Any]) -> int | None:
    """Tokens of a text that are read; None where only the model's positions limit them.

    Newer versions of the library name no length of their own and take the tokenizer's.
    """
    named = reading.get("max_seq_length")
    if not isinstance(named, int):
        named = _read(transformer / "tokenizer_config.json").get("model_max_length")
    # transformers writes 10^30 where a tokenizer has no limit.
    return named if isinstance(named, int) and named < _NO_LIMIT else None


def modules_in(folder: Path) -> list[tuple[str, str]]:
    """The path and type of every module, in their order.

    Raises:
        ModelError: The list is damaged, or names folders outside.
    """
    file = folder / MODULES
    try:
        listed = sorted(json.loads(file.read_text("utf-8")), key=lambda module: module["idx"])
        found = [(str(module["path"]), str(module["type"])) for module in listed]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{file} is no list of modules ({error!r:.80}); copy the model again"
        ) from error
    outside = [path for path, _ in found if ".." in PurePosixPath(path).parts or path[:1] == "/"]
    if outside or not found:
        named = repr(outside[0]) if outside else "no modules"
        raise ModelError(f"{file} names {named}; only folders inside it are read: copy it again")
    return found


def _first(folder: Path, modules: list[tuple[str, str]]) -> Path:
    path, kind = modules[0]
    if kind.startswith(_LIBRARY) and kind.rsplit(".", 1)[-1] == "Transformer":
        return folder / path
    if not kind.startswith(_LIBRARY):
        raise ModelError(
            f"{str(folder)!r} begins with a module of its own code ({kind}), which limbeck never"
            " runs; convert it to an architecture that transformers has itself"
        )
    raise ModelError(
        f"{str(folder)!r} is a folder of sentence-transformers that begins with {kind}, and not"
        " with a transformer, so there are no layers to learn from; give a model whose modules.json"
        " begins with a Transformer"
    )


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not JSON ({error}); copy the model again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} is no JSON object; copy the model again")
    return found


def _pooling(place: Path, settings: Mapping[str, Any]) -> Pooling:
    if not settings:
        raise ModelError(f"{place / 'config.json'} is missing or empty; copy the model again")
    mode = settings.get("pooling_mode")
    listed = [mode] if isinstance(mode, str) else list(mode or ())
    switched = [name for key, name in POOLING_SWITCHES.items() if settings.get(key)]
    modes = tuple(map(str, listed or switched or Pooling.modes))  # the mean where none is named
    return Pooling(modes, bool(settings.get("include_prompt", True)))


def _dense(place: Path, settings: Mapping[str, Any]) -> DenseLayer:
    try:
        sizes = int(settings["in_features"]), int(settings["out_features"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{place / 'config.json'} names no in_features and out_features; copy the model again"
        ) from error
    activation = str(settings.get("activation_function", "torch.nn.Tanh"))
    if activation.startswith("torch.nn."):
        activation = activation.rsplit(".", 1)[-1]
    bias, residual = bool(settings.get("bias", True)), bool(settings.get("use_residual"))
    return DenseLayer(place, *sizes, bias, activation, residual)

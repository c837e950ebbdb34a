"""A student or any model folder is sent to a hub, after its card has been checked."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, get_token, metadata_load
from huggingface_hub.errors import HfHubHTTPError

from ..errors import ExportError, ServerError, first_line
from ..export.origin import licence_warnings
from ..models.locate import lacks_weights, model_of_run
from .card_facts import origins_of_model

_CARD = "README.md"
_EXPORTED = "export.json"
_MODELS = ("config.json", "modules.json", _EXPORTED)  # one of them is in every model folder
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Pushed:
    """What is sent.

    Attributes:
        folder: That holds it.
        repository: OWNER/NAME on the hub.
        private: Whether others cannot see it.
        files: Paths within the folder, and the size of each in bytes.
        warnings: Licences that restrict use, and what the card does not say.
        url: Of the repository; empty where nothing was sent.
    """

    folder: Path
    repository: str
    private: bool
    files: dict[str, int]
    warnings: list[str]
    url: str = ""


def checked_push(model: str, repository: str, *, private: bool) -> Pushed:
    """What would be sent, without asking the hub.

    Args:
        model: A run folder, whose student is meant, or a folder of a model or of exported files.
        repository: OWNER/NAME.
        private: Whether others shall not see it.

    Raises:
        ExportError: The folder is no model, or of an export that kept no file; it has no card or
            a card without metadata, or holds pickles; or the name is none of a repository.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise ExportError(f"the repository {repository!r} is none; give OWNER/NAME")
    folder = Path(model_of_run(model))
    if not any((folder / name).is_file() for name in _MODELS):
        raise ExportError(
            f"{model!r} is no run folder and no folder of a model (config.json) or of `limbeck"
            " export` (export.json); name one"
        )
    files = {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not _hidden(file.relative_to(folder))
    }
    _check_exported(folder, files)
    if pickles := [name for name in files if _may_be_pickle(name, files)]:
        raise ExportError(
            f"{', '.join(pickles)}: pickles can run code where they are loaded, and are not sent;"
            " save the model as safetensors, or remove them"
        )
    warnings = _card_warnings(folder)
    warnings += licence_warnings(origins_of_model(model))
    return Pushed(folder, repository, private, files, list(dict.fromkeys(warnings)))


def push(found: Pushed) -> Pushed:
    """Create the repository where it is not there, send the files in one commit; with its address.

    Args:
        found: As `checked_push` gives it.

    Raises:
        ServerError: There is no token, the hub may not be asked, or it refuses.
    """
    if constants.HF_HUB_OFFLINE:
        raise ServerError("HF_HUB_OFFLINE is set, so nothing can be sent; unset it")
    token = get_token()
    if token is None:
        raise ServerError(
            "there is no token of the hub; run `hf auth login`, or set HF_TOKEN to one that may"
            " write (huggingface.co/settings/tokens)"
        )
    api = HfApi(token=token)
    try:
        made = api.create_repo(
            found.repository, private=found.private, repo_type="model", exist_ok=True
        )
        api.upload_folder(
            repo_id=found.repository,
            folder_path=found.folder,
            repo_type="model",
            commit_message="A model of limbeck",
            allow_patterns=[escape(name) for name in found.files],  # a name may have brackets
        )
    except HfHubHTTPError as error:
        raise ServerError(_refused(found.repository, error)) from error
    except (OSError, httpx2.TransportError) as error:
        raise ServerError(f"the hub cannot be reached: {first_line(error)}; try again") from error
    return replace(found, url=str(made))


def _check_exported(folder: Path, files: Collection[str]) -> None:
    """Refuse a folder of `limbeck export` without any file that runs.

    Raises:
        ExportError: It is one.
    """
    if _EXPORTED not in files or not lacks_weights(str(folder)):
        return
    try:
        told = json.loads((folder / _EXPORTED).read_text(encoding="utf-8"))
        named = {one["file"] for one in told["candidates"] if one["file"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{folder / _EXPORTED} is not what `limbeck export` writes; export the model again"
        ) from error
    if not any((folder / file).exists() for file in named):
        why = f"{', '.join(sorted(named))}, not there" if named else "none, as export.md says"
        raise ExportError(
            f"{folder} holds no model file ({_EXPORTED} names {why}); export the model again, with"
            " other formats, a smaller --keep, or --force"
        )


def _may_be_pickle(name: str, files: Collection[str]) -> bool:
    """Whether a file may be a pickle; the weights of OpenVINO, beside their graph, are none."""
    file = Path(name)
    weights = file.suffix == ".bin" and file.with_suffix(".xml").as_posix() in files
    return file.suffix in _PICKLES and not weights


def _card_warnings(folder: Path) -> list[str]:
    """What a card does not say.

    Raises:
        ExportError: There is none, or it has no metadata.
    """
    card = folder / _CARD
    if not card.is_file():
        raise ExportError(
            f"{folder} has no card (README.md), which says what the model is made of and under"
            " which licence; write one, or send a run, which has one"
        )
    try:
        metadata = metadata_load(card)
    except Exception as error:  # of YAML, of many types
        raise ExportError(f"the metadata of {card} cannot be read: {first_line(error)}") from error
    if not metadata:
        raise ExportError(f"{card} has no metadata between two lines of ---; add the licence there")
    if not metadata.get("license"):
        return ["the card names no licence, so nobody may use the model: add `license: ...`"]
    return []


def _refused(repository: str, error: HfHubHTTPError) -> str:
    status = error.response.status_code if error.response is not None else None
    if status in (401, 403):
        owner = repository.partition("/")[0]
        return f"the hub refuses ({status}): the token may not write as {owner}; give one that may"
    return f"the hub refuses {repository} ({status}): {first_line(error)}"


def _hidden(path: Path) -> bool:
    return path.suffix in (".part", ".lock") or any(part.startswith(".") for part in path.parts)

"""What the hub has of a model of sentence-transformers beside the weights of its transformer.

transformers downloads the transformer alone; how texts become vectors is said in files beside it.
"""

from functools import lru_cache
from pathlib import Path, PurePosixPath

from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError

from ...errors import ModelError, first_line
from ..sentence_transformers import (
    MODULES,
    OF_THE_MODEL,
    READING,
    SentenceModel,
    modules_in,
    sentence_model,
)

_OF_MODULES = ("config.json", "model.safetensors")


def sentence_model_on_hub(name: str) -> SentenceModel | None:
    """What such a model holds; None where the hub, or the cache without it, has no such model.

    Raises:
        ModelError: As for `sentence_model`, or its files cannot be downloaded.
    """
    folder = _folder(name)
    return None if folder is None else sentence_model(str(folder))


# Looked for once: without a network the hub's library tries for half a minute.
@lru_cache
def _folder(name: str) -> Path | None:
    """The folder in the cache in which all is that is read of the modules."""
    try:
        cached = try_to_load_from_cache(name, MODULES)
        listed = cached if isinstance(cached, str) else hf_hub_download(name, MODULES)
    except (EntryNotFoundError, OSError, ValueError):  # it has none, or cannot be asked
        return None
    (first, _), *others = modules_in(Path(listed).parent)
    files = [MODULES, OF_THE_MODEL]
    files += [str(PurePosixPath(first, file)) for file in (*READING, "tokenizer_config.json")]
    files += [str(PurePosixPath(path, file)) for path, _ in others for file in _OF_MODULES]
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except (EntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"cannot download the modules of {name!r}: {first_line(error)}. Give a folder of"
            " sentence-transformers, or a hub name where the hub can be reached"
        ) from error

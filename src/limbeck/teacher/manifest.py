"""What a folder of kept signals is of: every fact that they hang on, and no path inside it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from ..errors import CacheError
from ..files import write_text

_FILE = "manifest.json"
FORMAT = 2  # raised whenever the same seed comes to make other batches


@dataclass(frozen=True)
class Kind:
    """How the teacher's predictions are kept.

    Attributes:
        logits: ``exact`` keeps what enters the output map, from which every logit is made
            again; ``top_k`` the likeliest pieces and what all others have together;
            ``sampled`` pieces drawn from the distribution.
        pieces: How many are taken or drawn where they are not exact.
    """

    logits: Literal["exact", "top_k", "sampled"] = "exact"
    pieces: int = 64


@dataclass(frozen=True)
class Manifest:
    """What signals are of.

    Attributes:
        format: Of the folder.
        model: The teacher, as the recipe named it.
        kind: How predictions are kept.
        identity: Hashes and settings by name: of the teacher, the tokenizers, the text, and
            all that decides which batches it becomes.
        steps: Of each stage, how many batches are here.
        complete: Whether all of them are.
    """

    format: int
    model: str
    kind: Kind
    identity: dict[str, str]
    steps: list[int]
    complete: bool = False

    def write(self, folder: Path) -> None:
        """Put it into the folder."""
        write_text(folder / _FILE, json.dumps(asdict(self), indent=1, ensure_ascii=False))

    def differing(self, other: "Manifest") -> list[str]:
        """The names of what is not the same, with both values."""
        names = sorted({*self.identity, *other.identity})
        return [
            f"{name} is {other.identity.get(name, 'not there')} and was"
            f" {self.identity.get(name, 'not there')}"
            for name in names
            if self.identity.get(name) != other.identity.get(name)
        ]

    def too_short_for(self, other: "Manifest") -> list[str]:
        """The stages of which the other has more steps."""
        pairs = enumerate(zip(self.steps, other.steps, strict=False))
        return [
            f"stages.{n} has {theirs} steps and had {mine}"
            for n, (mine, theirs) in pairs
            if mine < theirs
        ]


def read_manifest(folder: Path | str) -> Manifest:
    """What the signals of a folder are of.

    Raises:
        CacheError: There is none, or it is not one.
    """
    file = Path(folder) / _FILE
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        manifest = TypeAdapter(Manifest).validate_python(raw)
    except OSError as error:
        raise CacheError(
            f"{folder} holds no kept signals ({file.name} cannot be read: {error.strerror}); make"
            " them with: limbeck cache RECIPE -o DIR"
        ) from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "the whole"
        raise CacheError(f"{file} is not a manifest ({place}: {fault['msg']})") from error
    except (ValueError, RecursionError) as error:
        raise CacheError(f"{file} is not JSON ({error})") from error
    if manifest.format != FORMAT:
        raise CacheError(
            f"{file} is of format {manifest.format}, this version reads {FORMAT}; run `limbeck"
            " cache` into a new folder"
        )
    return manifest


def with_cached_teacher(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """A recipe whose teacher is named by its kept signals alone, with its model written out."""
    teacher = raw.get("teacher")
    if not isinstance(teacher, Mapping) or "model" in teacher or "cache" not in teacher:
        return dict(raw), []
    try:
        model = read_manifest(str(teacher["cache"])).model
    except CacheError as error:
        return dict(raw), [("teacher.cache", str(error))]
    return {**raw, "teacher": {**teacher, "model": model}}, []

"""What a folder of kept signals is of: every fact that they hang on, and no path inside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from ..activations import Name
from ..errors import CacheError
from ..system.files import write_text
from .store import label_of

_FILE = "manifest.json"
FORMAT = 4  # raised when the folder is laid out anew, or the same seed makes other batches


@dataclass(frozen=True)
class Kind:
    """How the teacher's predictions are kept.

    Attributes:
        logits: ``exact`` keeps what enters the output map, from which every logit is made
            again; ``top_k`` the likeliest tokens and what all others have together;
            ``sampled`` tokens drawn from the distribution.
        tokens: How many are taken or drawn where they are not exact.
    """

    logits: Literal["exact", "top_k", "sampled"] = "exact"
    tokens: int = 64


@dataclass(frozen=True)
class Manifest:
    """What signals are of.

    Attributes:
        format: Of the folder.
        model: The teacher, as the recipe named it.
        kind: How predictions are kept.
        identity: Hashes and settings by name: of the teacher, the tokenizers, the text, and
            all that decides which batches it becomes.
        steps: For each signal, of how many batches of every stage it is here.
    """

    format: int
    model: str
    kind: Kind
    identity: dict[str, str]
    steps: dict[str, list[int]]

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

    def steps_of(self, name: Name, stage: int) -> int:
        """Of how many batches of a stage a signal is here."""
        here = self.steps.get(label_of(name), [])
        return here[stage] if stage < len(here) else 0

    def holds(self, name: Name) -> bool:
        """Whether a signal is here of any batch."""
        return any(self.steps.get(label_of(name), []))

    def with_steps(self, names: Sequence[set[Name]], steps: Sequence[int]) -> "Manifest":
        """The same where, stage by stage, those signals are here of at least so many batches."""
        every = {name for some in names for name in some}
        found = {
            label_of(name): [
                max(self.steps_of(name, stage), count if name in some else 0)
                for stage, (some, count) in enumerate(zip(names, steps, strict=True))
            ]
            for name in sorted(every)
        }
        return replace(self, steps={**self.steps, **found})

    def without(self, labels: set[str]) -> "Manifest":
        """The same without signals of which something was lost."""
        kept = {label: steps for label, steps in self.steps.items() if label not in labels}
        return replace(self, steps=kept)


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
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "the whole"
        raise CacheError(f"{file} is not a manifest ({place}: {problem['msg']})") from error
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

"""The manifest of cached signals: every fact on which they depend; it names no path."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from ..activations import Name
from ..errors import CacheError
from ..system.files import write_text
from .store import label_of

_FILE = "manifest.json"
FORMAT = 5  # raised when the layout of the folder changes, or the batches of a seed do


@dataclass(frozen=True)
class Kind:
    """How the teacher's predictions are stored.

    Attributes:
        logits: ``exact`` stores the input of the output map, from which every logit is
            computed; ``top_k`` the most likely tokens and the probability of all others
            together; ``sampled`` tokens drawn from the distribution.
        tokens: How many tokens ``top_k`` and ``sampled`` store at each position.
    """

    logits: Literal["exact", "top_k", "sampled"] = "exact"
    tokens: int = 64


@dataclass(frozen=True)
class Manifest:
    """What the signals in a folder were made from.

    Attributes:
        format: The format of the folder.
        model: The teacher, as the recipe named it.
        kind: How predictions are stored.
        identity: Hashes and settings by name: of the teacher, the tokenizers, the text, and
            everything that determines its batches.
        steps: For each signal, the number of batches of every stage for which it is stored.
        ensemble: Further teachers whose answers are averaged with its own, as the recipe named
            them.
        server: The URL of the server that gave the signals, the name of the model on it, and how
            many log-probabilities it gave at each place; None where the teacher ran here.
    """

    format: int
    model: str
    kind: Kind
    identity: dict[str, str]
    steps: dict[str, list[int]]
    ensemble: list[str] = field(default_factory=list)
    server: dict[str, str | int | None] | None = None

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder."""
        write_text(folder / _FILE, json.dumps(asdict(self), indent=1, ensure_ascii=False))

    def differing(self, other: "Manifest") -> list[str]:
        """The facts that differ, with both values."""
        names = sorted({*self.identity, *other.identity})
        return [
            f"{name} is {other.identity.get(name, 'not there')} and was"
            f" {self.identity.get(name, 'not there')}"
            for name in names
            if self.identity.get(name) != other.identity.get(name)
        ]

    def steps_of(self, name: Name, stage: int) -> int:
        """For how many batches of a stage a signal is stored."""
        here = self.steps.get(label_of(name), [])
        return here[stage] if stage < len(here) else 0

    def holds(self, name: Name) -> bool:
        """Whether a signal is stored for any batch."""
        return any(self.steps.get(label_of(name), []))

    def with_steps(self, names: Sequence[set[Name]], steps: Sequence[int]) -> "Manifest":
        """This manifest with those signals, by stage, stored for at least so many batches."""
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
        """This manifest without signals of which a shard was lost."""
        kept = {label: steps for label, steps in self.steps.items() if label not in labels}
        return replace(self, steps=kept)


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest of a folder of signals.

    Raises:
        CacheError: There is none, or the file is not a manifest.
    """
    file = Path(folder) / _FILE
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        manifest = TypeAdapter(Manifest).validate_python(raw)
    except OSError as error:
        raise CacheError(
            f"{folder} holds no cached signals ({file.name} cannot be read: {error.strerror}); make"
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
    """The recipe, with the teacher's model and server filled in where its signals are cached."""
    teacher = raw.get("teacher")
    if not isinstance(teacher, Mapping) or teacher.get("cache") is None:
        return dict(raw), []
    try:
        manifest = read_manifest(str(teacher["cache"]))
    except CacheError as error:
        # With a model the form is right, and the folder is looked at when it is opened.
        return dict(raw), [] if "model" in teacher else [("teacher.cache", str(error))]
    known: dict[str, Any] = {"server": manifest.server} if manifest.server else {}
    if "model" not in teacher:
        known |= {"model": manifest.model}
        known |= {"ensemble": manifest.ensemble} if manifest.ensemble else {}
    return {**raw, "teacher": {**known, **teacher}}, []

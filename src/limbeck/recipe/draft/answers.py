"""What a user has and wants, checked before a model is opened; torch is not imported."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import yaml

from ...errors import RecipeError
from ...evaluation.tasks import METRICS, TASKS, TaskKind

Kind = Literal["student", "classifier", "tagger", "embeddings", "decoder"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# What each kind learns from, by the flags that give it; one of them is needed.
LEARNS_FROM: dict[Kind, tuple[str, ...]] = {
    "student": ("text",),
    "classifier": ("task", "rows"),
    "tagger": ("task", "rows"),
    "embeddings": ("rows",),
    "decoder": ("prompts", "text"),
}
_TAKES: dict[Kind, tuple[str, ...]] = {
    **LEARNS_FROM,
    "student": ("text", "task"),
    "decoder": ("prompts", "text", "task"),
}
Unit = Literal["MB", "parameters", "ms"]
_SIZE = re.compile(r"([0-9]+(?:[._][0-9]+)*)\s*(MB|M|K|ms|)", re.IGNORECASE)


class Size(NamedTuple):
    """How large or fast a student shall be at most.

    Attributes:
        amount: In the unit.
        unit: Megabytes of its weights in float32 (1e6 bytes), parameters, or milliseconds for one
            text of 64 tokens on this machine.
    """

    amount: float
    unit: Unit

    @property
    def parameters(self) -> float | None:
        """The largest number of parameters; None where milliseconds are wanted."""
        if self.unit == "ms":
            return None
        return self.amount * 1e6 / 4 if self.unit == "MB" else self.amount

    def __str__(self) -> str:
        if self.unit == "parameters":
            millions = f"{self.amount / 1e6:g}M"
            return f"{millions if self.amount >= 1e4 else f'{self.amount:g}'} parameters"
        return f"{self.amount:g} {self.unit}"


def parse_size(text: str) -> Size:
    """A size as a user writes it.

    Raises:
        RecipeError: It is none.

    >>> parse_size("20 MB"), parse_size("2.5M").parameters, str(parse_size("3ms"))
    (Size(amount=20.0, unit='MB'), 2500000.0, '3 ms')
    >>> str(parse_size("2.5M")), str(parse_size("30"))
    ('2.5M parameters', '30 parameters')
    """
    found = _SIZE.fullmatch(text.strip())
    amount = float(found[1].replace("_", "")) if found else 0.0
    if found is None or not amount:
        raise RecipeError(
            f"the size {text!r} is none; give megabytes (20MB), parameters (5M) or milliseconds"
            " for a text of 64 tokens (3ms)"
        )
    unit = found[2].lower()
    if unit in ("mb", "ms"):
        return Size(amount, "MB" if unit == "mb" else "ms")
    return Size(amount * {"m": 1e6, "k": 1e3, "": 1.0}[unit], "parameters")


def parse_location(text: str) -> str | dict[str, Any]:
    """Where rows are: a path or name, or a mapping as `{path: reviews.csv, text: body}`.

    Raises:
        RecipeError: It begins like a mapping, and is none.
    """
    if not text.lstrip().startswith("{"):
        return text
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{text!r} is no mapping: {error}") from error
    if not isinstance(found, Mapping):
        raise RecipeError(f"{text!r} is no mapping; write {{path: FILE, text: COLUMN}}")
    return dict(found)


@dataclass(frozen=True)
class Answers:
    """What a user has and wants.

    Attributes:
        teacher: A model folder, GGUF file or hub name.
        kind: What the student is for.
        size: How large or fast it shall be at most.
        text: Files or hub names.
        prompts: DIR/NAME of prompts, or another place of conversations.
        task: DIR/NAME of task files, or another place of rows with labels.
        rows: Places of rows without labels.
        language: Of the texts, as en; empty where it is not told.
        vocab_size: Tokens that are learned from the text for the student; None decides by the size.
        tokens: Length of the training in tokens of text.
        num_train_epochs: Passes over the rows of a task.
        max_length: Tokens of a sequence; None for 128, or what the teacher reads if that is less.
    """

    teacher: str
    kind: Kind
    size: Size
    text: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    task: str | None = None
    rows: tuple[str, ...] = ()
    language: str = ""
    vocab_size: int | None = None
    tokens: int = 4_000_000
    num_train_epochs: int = 5
    max_length: int | None = None

    def check(self) -> None:
        """Refuse answers that do not go together.

        Raises:
            RecipeError: With every problem, one a line.
        """
        if problems := list(self._problems()):
            raise RecipeError("\n".join(problems))

    @property
    def tasks_of_its_language(self) -> list[str]:
        """Published tasks in that language, for encoders or for decoders as the kind is."""
        generated = METRICS[TaskKind.GENERATION]
        return [
            name
            for name, task in TASKS.items()
            if task.language == self.language
            and (task.headline in generated) == (self.kind == "decoder")
        ]

    def _problems(self) -> Iterator[str]:
        given = [name for name in ("text", "prompts", "task", "rows") if getattr(self, name)]
        needed = LEARNS_FROM[self.kind]
        if not set(needed) & set(given):
            flags = " or ".join(f"--{name}" for name in needed)
            sources = " or ".join(needed)
            yield f"a recipe of the kind {self.kind} learns from {sources}; give {flags}"
        for name in given:
            if name not in _TAKES[self.kind]:
                kinds = " or ".join(kind for kind in KINDS if name in _TAKES[kind])
                yield f"--{name} is for the kind {kinds}, and this is {self.kind}; leave it out"
        if self.kind == "decoder" and self.text and self.prompts:
            yield "a decoder learns from --text or from --prompts; give one of them"
        if self.vocab_size is not None and self.kind != "student":
            yield (
                f"--vocab-size learns tokens from text, and a recipe of the kind {self.kind} keeps"
                " its teacher's; leave it out, or learn a tokenizer (limbeck vocabulary) and name"
                " it in the recipe"
            )
        for name in ("tokens", "num_train_epochs"):
            if getattr(self, name) < 1:
                yield f"--{name.replace('_', '-')} is {getattr(self, name)}; give 1 or more"
        if self.max_length is not None and self.max_length < 8:
            yield f"--max-length is {self.max_length}; give 8 or more"

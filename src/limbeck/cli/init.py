"""The command that writes a recipe for what a user has and wants."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from ..errors import RecipeError
from ..recipe.draft.answers import KINDS, LEARNS_FROM, Answers, parse_size
from .terminal import console, one_of

_File = Annotated[Path, typer.Argument(metavar="RECIPE", help="The file to write, a new one.")]
_Teacher = Annotated[
    str | None, typer.Option(help="The large model: a folder, GGUF file, hub name or minilm-demo.")
]
_Kind = Annotated[str | None, typer.Option(help="What the student is for: " + ", ".join(KINDS))]
_Size = Annotated[
    str | None,
    typer.Option(
        help="The largest size or time allowed: 20MB (float32), 5M (parameters), or 3ms (a text of"
        " 64 tokens, on this machine)."
    ),
]
_Text = Annotated[
    list[str] | None, typer.Option(help="Text files or hub names to learn from. May be repeated.")
]
_Prompts = Annotated[
    list[str] | None,
    typer.Option(help="Prompts with answers, or conversations, for decoders. May be repeated."),
]
_Task = Annotated[
    str | None, typer.Option(help="Rows with labels: DIR/NAME, a file, a hub name or a mapping.")
]
_Rows = Annotated[
    list[str] | None, typer.Option(help="Rows without labels, or texts. May be repeated.")
]
_Language = Annotated[str | None, typer.Option(help="Language of the texts, as en.")]
_VocabSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Learn a vocabulary of this many tokens from the text; by default only where the size"
        " needs one.",
    ),
]
_QUESTIONS = {
    "text": "Text files or hub names to learn from, separated by spaces",
    "prompts": "Prompts with answers or conversations (DIR/NAME, a file or hub name)",
    "task": "Rows with labels (DIR/NAME, a file or hub name)",
    "rows": "Rows without labels, separated by spaces",
}


def init(
    recipe: _File = Path("recipe.yaml"),
    teacher: _Teacher = None,
    kind: _Kind = None,
    max_size: _Size = None,
    text: _Text = None,
    prompts: _Prompts = None,
    task: _Task = None,
    rows: _Rows = None,
    language: _Language = None,
    vocab_size: _VocabSize = None,
    tokens: Annotated[int, typer.Option(help="Tokens of text to learn from.")] = Answers.tokens,
    num_train_epochs: Annotated[
        int, typer.Option(help="Passes over rows.")
    ] = Answers.num_train_epochs,
    max_length: Annotated[
        int | None,
        typer.Option(help="Longest text in tokens; by default 128, or what the teacher reads."),
    ] = None,
) -> None:
    """Write a commented recipe for a teacher, data and a size.

    `limbeck plan` accepts it. On a terminal, without flags, the command asks. Layers, width and
    vocabulary are chosen from the teacher's configuration; the comments say why. No file is
    replaced.
    """
    given: dict[str, Any] = {"teacher": teacher, "kind": kind, "max_size": max_size}
    given |= {"text": text, "prompts": prompts, "task": task, "rows": rows, "language": language}
    if not any(given.values()) and sys.stdin.isatty():
        given |= _asked()
    answers = replace(
        _answers(given),
        vocab_size=vocab_size,
        tokens=tokens,
        num_train_epochs=num_train_epochs,
        max_length=max_length,
    )
    answers.check()

    from ..recipe.draft.draft import write_recipe
    from ..system.progress import warn

    draft = write_recipe(answers, recipe, console=console)
    console.print(draft.text, highlight=False, markup=False, soft_wrap=True)
    for warning in draft.warnings:
        warn(console, warning)
    following = f"limbeck plan {quote(str(recipe))}"
    console.print(f"recipe: {recipe} (next: {following})", highlight=False, soft_wrap=True)


def _answers(given: Mapping[str, Any]) -> Answers:
    """What was given or asked.

    Raises:
        RecipeError: An answer is missing or is none.
    """
    if missing := [name for name in ("teacher", "kind", "max_size") if not given[name]]:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise RecipeError(f"{flags} {'is' if len(missing) == 1 else 'are'} missing; give {flags}")
    return Answers(
        teacher=given["teacher"],
        kind=one_of("kind", given["kind"], KINDS),
        size=parse_size(given["max_size"]),
        text=tuple(given["text"] or ()),
        prompts=tuple(given["prompts"] or ()),
        task=given["task"],
        rows=tuple(given["rows"] or ()),
        language=given["language"] or "",
    )


def _asked() -> dict[str, Any]:
    """The answers of a user at a terminal."""
    found: dict[str, Any] = {"teacher": _ask("The large model (folder, GGUF file or hub name)")}
    console.print(
        "student: a general encoder; classifier, tagger: of a fine-tuned teacher; embeddings:"
        " vectors of texts; decoder: generates text",
        highlight=False,
    )
    found["kind"] = one_of("kind", _ask("What the student is for", "student"), KINDS)
    for name in LEARNS_FROM[found["kind"]]:
        answer = _ask(_QUESTIONS[name], "")
        several = name in ("text", "rows")
        found[name] = _listed(answer, several=several) if name != "task" else answer or None
    found["max_size"] = _ask("At most so large or slow (20MB, 5M parameters, 3ms)")
    found["language"] = _ask("Language of the texts, as en", "")
    return found


def _ask(question: str, default: str | None = None) -> str:
    answer: str = typer.prompt(question, default=default, show_default=bool(default))
    return answer.strip()


def _listed(answer: str, *, several: bool) -> Sequence[str]:
    if several and not answer.startswith("{"):
        return answer.split()
    return [answer] if answer else []

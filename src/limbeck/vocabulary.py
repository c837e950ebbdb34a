"""Vocabularies from text: a tokenizer folder that recipes name as `student.tokenizer`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from .data.text import TextSource, check_source, read_documents
from .errors import DataError, RecipeError
from .files import whole_folder
from .pretrained import load_tokenizer
from .tokenization.learn import KINDS, blank_tokenizer, learn_tokenizer


def learn_vocabulary(
    texts: Sequence[str],
    output: Path | str,
    *,
    size: int,
    like: str | None = None,
    kind: str = "wordpiece",
    lowercase: bool = False,
    characters: int | None = None,
    console: Console | None = None,
) -> None:
    """Learn a tokenizer and leave it as a folder.

    Args:
        texts: Files or hub names, as a recipe's ``data.text``.
        output: The folder; what is in it is replaced.
        size: Pieces, special tokens included.
        like: A model whose tokenizer's kind, normalisation and special tokens are kept.
        kind: Without ``like``: a name in ``KINDS``.
        lowercase: Without ``like``: letters become small.
        characters: Of each text at most so many are read, so that a large one
            does not decide the pieces of all languages.
        console: For progress; None is silent.

    Raises:
        RecipeError: The kind is not known.
        DataError: A text cannot be read, or does not give so many pieces.
        ModelError: ``like`` has no fast tokenizer.
    """
    console = console or Console(quiet=True)
    if kind not in KINDS:
        raise RecipeError(f"kind is {kind!r}; use one of {', '.join(KINDS)}")
    given = [("size", size), *([("characters", characters)] if characters is not None else [])]
    for name, value in given:
        if value < 1:
            raise DataError(f"{name} is {value}; give 1 or more")
    pattern = load_tokenizer(like) if like else blank_tokenizer(kind, lowercase=lowercase)
    sources = [TextSource(path) for path in texts]
    for source in sources:
        check_source(source)
    learned = learn_tokenizer(_documents(sources, characters, console), pattern, size=size)
    with whole_folder(Path(output)) as folder:
        learned.save_pretrained(folder)


def _documents(
    sources: Sequence[TextSource], characters: int | None, console: Console
) -> Iterator[str]:
    for source in sources:
        read = 0
        for document in read_documents(source):
            if characters is not None and read >= characters:
                break
            read += len(document)
            yield document
        console.print(f"{source.path}: {read:,} characters read", highlight=False)

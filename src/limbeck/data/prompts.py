"""Prompts with the texts that answer them: what decoders learn to write."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from .json_lines import file_of_split, read_rows


@dataclass(frozen=True)
class Prompt:
    """A row of a file of prompts.

    Attributes:
        text: What is asked, behind the document that it is asked of, if there is one;
            empty where a text begins with nothing.
        references: Answers, each as good as the others.
    """

    text: str
    references: tuple[str, ...]


def read_prompts(location: str, split: str = "train") -> Iterator[Prompt]:
    """The rows of DIR/NAME.SPLIT.jsonl, gzipped or not.

    Raises:
        DataError: The file is missing or broken, or a row is no prompt.
    """
    for row, place in read_rows(file_of_split(Path(location), split)):
        yield as_prompt(row, place)


def as_prompt(row: dict[str, Any], place: str) -> Prompt:
    """A row with ``prompt``, ``references`` and perhaps the ``document`` that is asked of.

    Raises:
        DataError: Fields are missing or of another kind.
    """
    text, references, document = row.get("prompt"), row.get("references"), row.get("document")
    if not isinstance(text, str) or not isinstance(document, (str, type(None))):
        raise DataError(f"{place}: `prompt` and `document` must be strings")
    if (
        not isinstance(references, list)
        or not references
        or not all(isinstance(answer, str) and answer.strip() for answer in references)
    ):
        raise DataError(
            f"{place}: `references` is {references!r:.60}; give a list of one string or more, none"
            " of them empty"
        )
    return Prompt(f"{document}\n{text}" if document else text, tuple(references))

"""Prompts with reference answers, from which decoders learn to generate."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from .json_lines import file_of_split, has_split, read_rows

_DOCUMENTS = "_meetings"  # end of the name of the file with the documents of prompts
_NOTHING = "-"  # placeholder where an answer is still to be generated


@dataclass(frozen=True)
class Prompt:
    """A row of a file of prompts.

    Attributes:
        text: The prompt, after the document that it refers to, if there is one; empty where text
            is generated without a prompt.
        references: Equally good answers.
    """

    text: str
    references: tuple[str, ...]

    @property
    def identity(self) -> str:
        """The text that decides whether it is held out: the prompt, or the answer without one."""
        return self.text or self.references[0]


def read_prompts(location: str, split: str = "train", *, answered: bool = True) -> Iterator[Prompt]:
    """The rows of DIR/NAME.SPLIT.jsonl, gzipped or not.

    Args:
        location: DIR/NAME.
        split: The split in the name of the files.
        answered: False also accepts prompts without references, and ignores all references.

    Raises:
        DataError: The file is missing or broken, or a row is not a prompt.
    """
    for row, place in read_with_documents(Path(location), split):
        yield as_prompt(row if answered else {**row, "references": [_NOTHING]}, place)


def read_with_documents(location: Path, split: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of DIR/NAME.SPLIT.jsonl with their documents and places.

    A row with a ``meeting`` refers to a document: the ``document`` in the row of the same
    ``meeting`` in DIR/NAME_meetings.SPLIT.jsonl. Several prompts can share a document.

    Raises:
        DataError: A file is missing or broken, or a document is missing.
    """
    documents: dict[Any, Any] | None = None
    for row, place in read_rows(file_of_split(location, split)):
        if "meeting" not in row:
            yield row, place
            continue
        if documents is None:
            beside = file_of_split(location.with_name(f"{location.name}{_DOCUMENTS}"), split)
            named = (found for found, _ in read_rows(beside))
            documents = {str(found.get("meeting")): found.get("document") for found in named}
        if (document := documents.get(str(row["meeting"]))) is None:
            raise DataError(
                f"{place} refers to the meeting {row['meeting']!r}, which is not among the"
                f" {len(documents)} of {location.name}_meetings.{split}; add its row there"
            )
        yield {**row, "document": document}, place


def files_of_prompts(location: str, split: str = "train") -> list[Path]:
    """The file of prompts, and the file of their documents, if there is one.

    Raises:
        DataError: The file of prompts is missing.
    """
    place = Path(location)
    documents = place.with_name(f"{place.name}{_DOCUMENTS}")
    beside = [documents] if has_split(documents, split) else []
    return [file_of_split(some, split) for some in (place, *beside)]


def as_prompt(row: dict[str, Any], place: str) -> Prompt:
    """A row with ``prompt``, ``references`` and, optionally, a ``document``, as a prompt.

    Raises:
        DataError: Fields are missing or have a wrong type.
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

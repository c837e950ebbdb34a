"""Prompts with the texts that answer them: what decoders learn to write."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from .json_lines import file_of_split, has_split, read_rows

_DOCUMENTS = "_meetings"  # behind the name of the prompts that are asked of them
_NOTHING = "-"  # stands where an answer is still to be written


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

    @property
    def identity(self) -> str:
        """What decides whether it is held out: what it asks, or says where it asks for nothing."""
        return self.text or self.references[0]


def read_prompts(location: str, split: str = "train", *, answered: bool = True) -> Iterator[Prompt]:
    """The rows of DIR/NAME.SPLIT.jsonl, gzipped or not.

    Args:
        location: DIR/NAME.
        split: Of the files.
        answered: False takes prompts without references too, and leaves all references out.

    Raises:
        DataError: The file is missing or broken, or a row is no prompt.
    """
    for row, place in read_with_documents(Path(location), split):
        yield as_prompt(row if answered else {**row, "references": [_NOTHING]}, place)


def read_with_documents(location: Path, split: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of DIR/NAME.SPLIT.jsonl with their places, and the documents that they name.

    A row with a ``meeting`` asks of the ``document`` that the row of the same ``meeting`` in
    DIR/NAME_meetings.SPLIT.jsonl has: many are asked of one.

    Raises:
        DataError: A file is missing or broken, or a document is not there.
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
                f"{place} asks of the meeting {row['meeting']!r}, which is not among the"
                f" {len(documents)} of {location.name}_meetings.{split}; add its row there"
            )
        yield {**row, "document": document}, place


def files_of_prompts(location: str, split: str = "train") -> list[Path]:
    """The file of prompts, and that of the documents that they are asked of, if there is one.

    Raises:
        DataError: There are no prompts.
    """
    place = Path(location)
    documents = place.with_name(f"{place.name}{_DOCUMENTS}")
    beside = [documents] if has_split(documents, split) else []
    return [file_of_split(some, split) for some in (place, *beside)]


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

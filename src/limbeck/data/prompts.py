"""Prompts with reference answers, from which decoders learn to generate."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..system.fingerprints import content_of
from .chats import Conversation
from .json_lines import file_of_split, has_split, read_rows
from .prompt_kinds import PlainPrompt, read_row
from .prompt_sources import FIELDS, PromptColumns, PromptLocation, PromptSource, parse_prompts
from .row_files import are_rows, content_of_rows, files_of_rows, name_of_rows, stored_rows

_DOCUMENTS = "_meetings"  # end of the name of the file with the documents of prompts


@dataclass(frozen=True)
class Prompt:
    """A row of prompts.

    Attributes:
        text: The prompt, after the document that it refers to, if there is one; empty where text
            is generated without a prompt. Of a conversation, all that is said before its last
            answer.
        references: Equally good answers.
        conversation: Which is learned, where the row is one; it needs a chat template.
    """

    text: str
    references: tuple[str, ...]
    conversation: Conversation | None = None

    @property
    def identity(self) -> str:
        """The text that decides whether it is held out: the prompt, or the answer without one."""
        return self.text or self.references[0]


def read_prompts(
    location: PromptLocation, split: str = "train", *, answered: bool = True
) -> Iterator[Prompt]:
    """The prompts of a location.

    Args:
        location: DIR/NAME of files of JSON lines, gzipped or not; a file or folder of rows, or
            their description.
        split: Of the rows, which stands in the name of files DIR/NAME.
        answered: False also accepts prompts without an answer.

    Raises:
        DataError: A file is missing or broken, or a row is not a prompt.
    """
    return (prompt for prompt, _ in prompts_and_places(location, split, answered=answered))


def are_conversations(location: Any) -> bool:
    """Whether the first row of a location is a conversation.

    Raises:
        DataError: It is broken, or there is no file.
    """
    first = next(read_prompts(parse_prompts(location)), None)
    return first is not None and first.conversation is not None


def unread_columns(location: PromptLocation) -> list[str]:
    """The columns of the first row that are of no field, so that nothing of them is learned.

    Raises:
        DataError: A file is missing or broken.
    """
    if (source := source_of_prompts(location)) is None:
        row, _ = next(read_with_documents(Path(str(location)), "train"), ({}, ""))
        return [name for name in row if name not in (*FIELDS, "meeting")]
    found = next(stored_rows(source).read("train"), None)
    named = {column for column in source.columns.values() if column}
    columns = found.columns if found else ()
    return [str(column) for column in columns if column not in (*FIELDS, *named)]


def prompts_and_places(
    location: PromptLocation, split: str, *, answered: bool = True
) -> Iterator[tuple[Prompt, str]]:
    """The prompts of a location as `read_prompts` gives them, and the place of each.

    Raises:
        DataError: As `read_prompts`.
    """
    if (source := source_of_prompts(location)) is None:
        for row, place in read_with_documents(Path(str(location)), split):
            yield prompt_of(row, place, answered=answered), place
        return
    named = [field for field, column in source.columns.items() if column]
    for found in stored_rows(source).read(split):
        said = read_row(
            found.values, found.place, named=named, columns=found.columns, answered=answered
        )
        yield _prompt_of(said, found.place), found.place


def prompt_of(row: Mapping[str, Any], place: str, *, answered: bool = True) -> Prompt:
    """A row by the names of the fields as a prompt.

    Raises:
        DataError: It is of no known kind, of several, or not as its kind should be.
    """
    return _prompt_of(read_row(row, place, answered=answered), place)


def source_of_prompts(location: PromptLocation) -> PromptColumns | None:
    """The description of a location; None where it is DIR/NAME of files of JSON lines."""
    if isinstance(location, PromptColumns):
        return location
    return PromptSource(location) if are_rows(location) else None


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


def files_of_prompts(location: PromptLocation, split: str = "train") -> list[Path]:
    """All files of prompts, and of their documents; none of a dataset on the hub.

    Raises:
        DataError: The file of prompts is missing.
    """
    if (source := source_of_prompts(location)) is not None:
        return files_of_rows(source)
    place = Path(str(location))
    documents = place.with_name(f"{place.name}{_DOCUMENTS}")
    beside = [documents] if has_split(documents, split) else []
    return [file_of_split(some, split) for some in (place, *beside)]


def content_of_prompts(location: PromptLocation) -> str:
    """A hash of all files of prompts, with what a description says of them; of the hub, a name.

    Raises:
        DataError: As `files_of_prompts`.
    """
    if (source := source_of_prompts(location)) is None:
        return content_of(*files_of_prompts(location))
    said = {field: column for field, column in source.columns.items() if column}
    said |= {split: str(part) for split, part in source.split.items()}
    return " ".join([content_of_rows(source), *(f"{name}={said[name]}" for name in sorted(said))])


def name_of_prompts(location: PromptLocation) -> str:
    """What messages and reports call prompts."""
    source = source_of_prompts(location)
    return Path(str(location)).name if source is None else name_of_rows(source)


def as_prompt(row: Mapping[str, Any], place: str) -> Prompt:
    """A row with ``prompt``, ``references`` and, optionally, a ``document``, as a prompt.

    Raises:
        DataError: Fields are missing or have a wrong type.
    """
    text, references, document = row.get("prompt"), row.get("references"), row.get("document")
    if not isinstance(text, str):
        raise DataError(f"{place}: `prompt` is {text!r:.60}; give a text")
    if not isinstance(document, (str, type(None))):
        raise DataError(f"{place}: `document` is {document!r:.60}; give a text")
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


def _prompt_of(said: Conversation | PlainPrompt, place: str) -> Prompt:
    if isinstance(said, Conversation):
        return Prompt(said.asked, (said.answer, *said.others), said)
    prompt, references, document = said
    return as_prompt({"prompt": prompt, "references": references, "document": document}, place)

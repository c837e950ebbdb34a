"""Where prompts and conversations are stored as people have them, and which column is what."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import DataError
from .label_names import source_error
from .rows import (
    Column,
    RowSource,
    StoredSource,
    TaskName,
    parse_source,
    path_or_mapping,
)

FIELDS = (
    "messages",
    "conversations",
    "prompt",
    "completion",
    "response",
    "references",
    "instruction",
    "input",
    "history",
    "output",
    "system",
    "tools",
    "document",
)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PromptColumns(StoredSource):
    """Where prompts with answers, or conversations, are stored, and which column is what.

    A field whose column is not named is read from the column of its own name, if there is one.
    `prompt_kinds` says which fields make a row.

    Attributes:
        path: As of `StoredSource`.
        name: The configuration of a hub dataset.
        split: As of `StoredSource`.
        messages: The column of lists of messages.
        conversations: The same, as ShareGPT calls it.
        prompt: The column of the prompt: a text, or messages.
        completion: The column of the answer: a text, or messages.
        response: The same, as others call it.
        references: The column of lists of equally good answers.
        instruction: The column of the instruction, as Alpaca has it.
        input: The column of what the instruction is about; may be empty.
        history: The column of earlier turns, pairs of what was asked and answered (LLaMA-Factory).
        output: The column of the answer to the instruction.
        system: The column of what the system says; may be empty.
        tools: The column of descriptions of tools; may be empty.
        document: The column of a text that stands before the prompt.
    """

    messages: Column = Field(default=None, description="column of lists of messages")
    conversations: Column = Field(default=None, description="column of lists of messages")
    prompt: Column = Field(default=None, description="column of the prompt: text, or messages")
    completion: Column = Field(default=None, description="column of the answer: text, or messages")
    response: Column = Field(default=None, description="column of the answer: text, or messages")
    references: Column = Field(default=None, description="column of lists of equally good answers")
    instruction: Column = Field(default=None, description="column of the instruction (Alpaca)")
    input: Column = Field(default=None, description="column of what the instruction is about")
    history: Column = Field(default=None, description="column of pairs of earlier turns")
    output: Column = Field(default=None, description="column of the answer to the instruction")
    system: Column = Field(default=None, description="column of what the system says")
    tools: Column = Field(default=None, description="column of descriptions of tools")
    document: Column = Field(default=None, description="column of a text before the prompt")

    def __hash__(self) -> int:
        return super().__hash__()

    @property
    def columns(self) -> dict[str, str | None]:
        """The column that is named for each field."""
        return {field: getattr(self, field) for field in FIELDS}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PromptSource(PromptColumns):
    """Prompts or conversations to learn from: of its splits only ``train`` may be named."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if others := [name for name in self.split if name != "train"]:
            raise source_error(
                f"split names {', '.join(others)}; prompts are held out by"
                " `data.held_out.fraction`, so name only the split to learn from"
            )

    def __hash__(self) -> int:
        return super().__hash__()


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PromptTaskSource(PromptColumns):
    """Prompts or conversations as a task: their answers are scored, and nothing is learned.

    Attributes:
        task_name: In results; by default as the file, folder or dataset is called.
    """

    task_name: TaskName = Field(
        default=None, description="in results; as the file is called by default"
    )

    def __hash__(self) -> int:
        return super().__hash__()

    @property
    def given_name(self) -> str | None:
        """What the user calls the rows in results, if anything."""
        return self.task_name


# A string is a file, a folder, or DIR/NAME of files of JSON lines.
PromptLocation = str | PromptColumns
TaskLocation = str | RowSource | PromptTaskSource


def parse_prompts(value: Any) -> str | PromptSource:
    """A location of prompts as it was written: a path, or a mapping as YAML or Python has it.

    >>> parse_prompts("{path: rows.csv, prompt: question, response: answer}").response
    'answer'

    Raises:
        DataError: It is neither; or a key or value of the mapping is wrong, with every problem.
    """
    return parse_source(value, PromptSource, "{path: chats.parquet, messages: conversation}")


def _as_location(value: Any) -> str | PromptSource:
    try:
        return parse_prompts(value)
    except DataError as error:
        raise source_error(str(error)) from error


def parse_task(value: Any) -> TaskLocation:
    """The location of a task: a path, or a description of rows or of prompts.

    A mapping that names a field of prompts describes those.

    >>> parse_task("{path: chats.parquet, messages: talk, split: {test: test}}").messages
    'talk'
    >>> parse_task({"path": "reviews.csv", "text": "body"}).text
    'body'

    Raises:
        DataError: It is none of these; or a key or value of the mapping is wrong.
    """
    if isinstance(value, (RowSource, PromptTaskSource)):
        return value
    said = path_or_mapping(value, "{path: reviews.csv, text: body, label: stars}")
    if isinstance(said, Mapping) and not {*said}.isdisjoint(FIELDS):
        return parse_source(said, PromptTaskSource, "{path: chats.parquet, messages: talk}")
    return parse_source(said, RowSource, "{path: reviews.csv, text: body, label: stars}")


def _as_task(value: Any) -> TaskLocation:
    try:
        return parse_task(value)
    except DataError as error:
        raise source_error(str(error)) from error


# Locations as fields of a recipe: a mapping, or a string, which may hold such a mapping.
PromptLocationField = Annotated[str | PromptSource, BeforeValidator(_as_location)]
TaskLocationField = Annotated[TaskLocation, BeforeValidator(_as_task)]

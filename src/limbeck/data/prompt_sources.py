"""Where prompts and conversations are stored as people have them, and which column is what."""

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import DataError
from .rows import Column, StoredSource, parse_source, source_error

FIELDS = (
    "messages",
    "conversations",
    "prompt",
    "completion",
    "response",
    "references",
    "instruction",
    "input",
    "output",
    "system",
    "tools",
    "document",
)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PromptSource(StoredSource):
    """Where prompts with answers, or conversations, are stored.

    A field whose column is not named is read from the column of its own name, if there is one.
    `prompt_kinds` says which fields make a row.

    Attributes:
        path: As of `StoredSource`.
        name: The configuration of a hub dataset.
        split: The file or hub split to learn from.
        messages: The column of lists of messages.
        conversations: The same, as ShareGPT calls it.
        prompt: The column of the prompt: a text, or messages.
        completion: The column of the answer: a text, or messages.
        response: The same, as others call it.
        references: The column of lists of equally good answers.
        instruction: The column of the instruction, as Alpaca has it.
        input: The column of what the instruction is about; may be empty.
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
    output: Column = Field(default=None, description="column of the answer to the instruction")
    system: Column = Field(default=None, description="column of what the system says")
    tools: Column = Field(default=None, description="column of descriptions of tools")
    document: Column = Field(default=None, description="column of a text before the prompt")

    def __post_init__(self) -> None:
        super().__post_init__()
        if others := [name for name in self.split if name != "train"]:
            raise source_error(
                f"split names {', '.join(others)}; prompts are held out by"
                " `data.held_out.fraction`, so name only the split to learn from"
            )

    def __hash__(self) -> int:
        return super().__hash__()

    @property
    def columns(self) -> dict[str, str | None]:
        """The column that is named for each field."""
        return {field: getattr(self, field) for field in FIELDS}


# A string is a file, a folder, or DIR/NAME of files of JSON lines.
PromptLocation = str | PromptSource


def parse_prompts(value: Any) -> PromptLocation:
    """A location of prompts as it was written: a path, or a mapping as YAML or Python has it.

    >>> parse_prompts("{path: rows.csv, prompt: question, response: answer}").response
    'answer'

    Raises:
        DataError: It is neither; or a key or value of the mapping is wrong, with every problem.
    """
    return parse_source(value, PromptSource, "{path: chats.parquet, messages: conversation}")


def _as_location(value: Any) -> PromptLocation:
    try:
        return parse_prompts(value)
    except DataError as error:
        raise source_error(str(error)) from error


# A location as a field of a recipe: a mapping, or a string, which may hold such a mapping.
PromptLocationField = Annotated[PromptLocation, BeforeValidator(_as_location)]

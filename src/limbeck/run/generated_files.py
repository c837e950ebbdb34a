"""Files of prompts with generated texts, and what both kinds of generation share."""

import json
from pathlib import Path

from rich.console import Console

from ..evaluation.text_generator import TextGenerator
from ..generation.ends import ends_notes
from ..system.files import write_texts

Texts = list[tuple[str, bool]]  # texts, and whether each came to its end


def load_generator(model: str, console: Console) -> TextGenerator:
    """A decoder that generates texts; warns of ends that its files name and no token is.

    Raises:
        EvaluationError: The model is no decoder, or has no trained vocabulary head.
    """
    generator = TextGenerator.load(model)
    for note in ends_notes(generator.tokenizer, model):
        console.print(f"warning: {note}", style="yellow", highlight=False)
    return generator


def report_endless(found: Texts, max_new_tokens: int, console: Console) -> None:
    """Say how many texts were stopped before their end."""
    if endless := [ended for _, ended in found].count(False):
        said = f"{endless:,} of {len(found):,} texts did not come to their end"
        console.print(f"{said} in {max_new_tokens} tokens", highlight=False)


def line_of(prompt: str, text: str) -> str:
    """A row of a file of prompts."""
    return json.dumps({"prompt": prompt, "references": [text]}, ensure_ascii=False) + "\n"


def write_prompts(place: Path, lines: dict[str, list[str]]) -> dict[str, int]:
    """Write NAME.SPLIT.jsonl for every split, all of them or none, and count their rows.

    Args:
        place: DIR/NAME of the files.
        lines: The rows of every split.
    """
    files = {f"{place.name}.{split}.jsonl": some for split, some in lines.items()}
    write_texts({name: "".join(some) for name, some in files.items()}, place.parent)
    return {name: len(some) for name, some in files.items()}

"""Texts that a model writes by itself, as a file of prompts: what is learned from without data."""

import json
import math
from pathlib import Path

import numpy as np
from rich.console import Console

from .errors import DataError, EvaluationError
from .evaluation.generation import GenerationSettings, Writer
from .files import write_texts
from .tokenization.frame import frame_of
from .training.records import ProgressBar


def write_samples(
    model: str,
    output: Path | str,
    *,
    rows: int,
    response: int = 256,
    temperature: float = 1.0,
    dev_share: float = 0.05,
    seed: int = 0,
    batch_size: int = 32,
    console: Console | None = None,
) -> dict[str, int]:
    """Let a decoder write texts from nothing; files of prompts, and how many texts each has.

    Prompts are empty, and the texts stand as references: NAME.train.jsonl and NAME.dev.jsonl.

    Args:
        model: Folder or hub name of a decoder.
        output: DIR/NAME of the files.
        rows: Texts in all.
        response: Pieces of a text at most.
        temperature: At which is written.
        dev_share: Of the texts, for the second file.
        seed: Decides the texts.
        batch_size: Texts at once.
        console: For the progress bar.

    Raises:
        DataError: Fewer than two texts are asked for, or all of them alike.
        EvaluationError: The model is no decoder, reads less than a text of that length, or
            writes nothing.
    """
    dev = max(1, round(dev_share * rows))
    if rows < 2 or response < 2:
        raise DataError(f"{rows} texts of {response} pieces are asked for; give 2 or more of both")
    if not 0 < temperature < math.inf:
        raise DataError(
            f"the temperature is {temperature:g}; give more than 0, else all texts are the same"
        )
    console = console or Console(quiet=True)
    writer = Writer.loaded(model)
    settings = GenerationSettings(response=response, temperature=temperature, batch_size=batch_size)
    first = list(frame_of(writer.tokenizer).first)
    if len(first) + response > writer.positions:
        raise EvaluationError(
            f"{model} reads {writer.positions} pieces, which is less than {response} and their"
            " beginning; ask for shorter texts (`response`)"
        )
    texts: list[str] = []
    ends: list[bool] = []
    with ProgressBar("writing", console=console) as bar:
        while len(texts) < rows:
            # Not the chance with which a measure writes, which would give these very texts.
            chance = int(np.random.default_rng((seed, len(texts))).integers(2**31))
            pieces, ended = writer.answers([first] * batch_size, settings, seed=chance)
            written = zip(map(writer.text, pieces), ended, strict=True)
            some = [(text, end) for text, end in written if text.strip()]
            if not some:
                raise EvaluationError(
                    f"{model} wrote {batch_size} texts, and none has a letter; ask for longer ones"
                    " (`response`), or name a model that writes from nothing"
                )
            texts += [text for text, _ in some]
            ends += [end for _, end in some]
            bar.show(min(len(texts), rows), rows, "")
    if cut := ends[:rows].count(False):
        console.print(
            f"{cut:,} of {rows:,} texts did not come to their end in {response} pieces",
            highlight=False,
        )
    place = Path(output)
    lines = [
        json.dumps({"prompt": "", "references": [text]}, ensure_ascii=False) + "\n"
        for text in texts[:rows]
    ]
    files = {f"{place.name}.train.jsonl": lines[dev:], f"{place.name}.dev.jsonl": lines[:dev]}
    write_texts({name: "".join(some) for name, some in files.items()}, place.parent)
    return {name: len(some) for name, some in files.items()}

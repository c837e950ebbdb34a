"""Texts that a model writes, from nothing or from prompts, as files of prompts to learn from.

Source: answers of the teacher in place of references, Kim, Rush 2016, Sequence-Level Knowledge
Distillation, arXiv:1606.07947.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..data.json_lines import file_of_split, has_split
from ..data.prompts import Prompt, read_prompts
from ..errors import DataError, EvaluationError
from ..evaluation.generation import Writer
from ..evaluation.settings import GenerationSettings
from ..generation.ends import ends_notes
from ..generation.options import temperature_problem
from ..models.locate import fingerprint
from ..system.files import checksum, remembered, write_texts
from ..system.progress import ProgressBar
from ..tokenization.frame import frame_of

_SPLITS = ("train", "dev")
_KEPT_AT_ONCE = 512  # answers
_Answers = list[tuple[str, bool]]  # texts, and whether they came to their end


def generate_samples(
    model: str,
    output: Path | str,
    *,
    rows: int,
    max_new_tokens: int = 256,
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
        max_new_tokens: Tokens of a text at most.
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
    if rows < 2 or max_new_tokens < 2:
        raise DataError(
            f"{rows} texts of {max_new_tokens} tokens are asked for; give 2 or more of both"
        )
    if temperature == 0:
        raise DataError("the temperature is 0; give more than 0, else all texts are the same")
    if problem := temperature_problem(temperature):
        raise DataError(f"the temperature {problem}")
    console = console or Console(quiet=True)
    writer = _writer(model, console)
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens, temperature=temperature, batch_size=batch_size
    )
    first = list(frame_of(writer.tokenizer).begin)
    if len(first) + max_new_tokens > writer.positions:
        raise EvaluationError(
            f"{model} reads {writer.positions} tokens, which is less than {max_new_tokens} and their"
            " beginning; ask for shorter texts (`max_new_tokens`)"
        )
    found: _Answers = []
    with ProgressBar("writing", console=console) as bar:
        while len(found) < rows:
            # Not the chance with which a measure writes, which would give these very texts.
            chance = int(np.random.default_rng((seed, len(found))).integers(2**31))
            tokens, ended = writer.answers([first] * batch_size, settings, seed=chance)
            written = zip(map(writer.text, tokens), ended, strict=True)
            some = [(text, end) for text, end in written if text.strip()]
            if not some:
                raise EvaluationError(
                    f"{model} wrote {batch_size} texts, and none has a letter; ask for longer ones"
                    " (`max_new_tokens`), or name a model that writes from nothing"
                )
            found += some
            bar.show(min(len(found), rows), rows, "")
    found = found[:rows]
    _say_what_was_cut(found, max_new_tokens, console)
    lines = [_line("", text) for text, _ in found]
    return _written(Path(output), {"train": lines[dev:], "dev": lines[:dev]})


def generate_answers(
    model: str,
    output: Path | str,
    *,
    prompts: str,
    rows: int | None = None,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    chat_template: bool = False,
    seed: int = 0,
    batch_size: int = 32,
    console: Console | None = None,
) -> dict[str, int]:
    """Let a decoder answer prompts; files of them with its answers, and how many each has.

    Answers are kept as they come, so that the same call goes on where it was stopped. Prompts
    whose answer has no letter are left out.

    Args:
        model: Folder or hub name of a decoder.
        output: DIR/NAME of the files.
        prompts: DIR/NAME of the prompts; their train and dev files are answered, whichever are
            there. References are not read.
        rows: Prompts of each file at most, the first ones.
        max_new_tokens: Tokens of an answer at most.
        temperature: At which is written; 0 takes the likeliest tokens.
        chat_template: Prompts stand in the model's chat template.
        seed: Decides the answers.
        batch_size: Prompts at once.
        console: For the progress bar.

    Raises:
        DataError: There are no prompts, or they are the files that would be written.
        EvaluationError: The model is no decoder, there is no room for a prompt, or it answers
            nothing.
    """
    place, source = Path(output), Path(prompts)
    if place.absolute() == source.absolute():
        raise DataError(f"{output} is where the prompts are; give another place for the answers")
    if problem := temperature_problem(temperature):
        raise DataError(f"the temperature {problem}")
    splits = [split for split in _SPLITS if has_split(source, split)]
    files = [file_of_split(source, split) for split in splits or _SPLITS]
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        chat_template=chat_template,
        batch_size=batch_size,
    )
    console = console or Console(quiet=True)
    writer = _writer(model, console)
    of: dict[str, Any] = {"model": fingerprint(model), "prompts": checksum(*files)}
    of |= {
        "writing": asdict(settings),
        "template": chat_template and writer.tokenizer.chat_template,
    }
    of |= {"ends": list(writer.ends)}
    kept = place.with_name(f"{place.name}.parts")
    lines: dict[str, list[str]] = {}
    for split in splits:
        asked = list(islice(read_prompts(prompts, split, answered=False), rows))
        found: _Answers = []
        too_long = 0
        with ProgressBar(f"answering {split}", console=console) as bar:
            while len(found) < len(asked):
                some = asked[len(found) : len(found) + _KEPT_AT_ONCE]
                part = {**of, "seed": seed, "first": len(found), "rows": len(some)}
                file = kept / f"{split}.{len(found)}.json"
                answers, cut = _answers(writer, some, settings, part, file)
                found, too_long = found + answers, too_long + cut
                bar.show(len(found), len(asked), "")
        if too_long:
            said = f"{too_long:,} of {len(asked):,} prompts were too long and lost their beginning"
            console.print(said, highlight=False)
        _say_what_was_cut(found, max_new_tokens, console)
        pairs = zip(asked, found, strict=True)
        lines[split] = [_line(row.text, text) for row, (text, _) in pairs if text.strip()]
        if not lines[split]:
            raise EvaluationError(
                f"{model} answers none of {len(asked):,} prompts with a letter; ask for longer"
                " answers (`max_new_tokens`), or name a model that answers"
            )
    written = _written(place, lines)
    shutil.rmtree(kept, ignore_errors=True)
    return written


def _writer(model: str, console: Console) -> Writer:
    writer = Writer.loaded(model)
    for note in ends_notes(writer.tokenizer, model):
        console.print(f"warning: {note}", style="yellow", highlight=False)
    return writer


def _answers(
    writer: Writer,
    rows: Sequence[Prompt],
    settings: GenerationSettings,
    part: dict[str, Any],
    file: Path,
) -> tuple[_Answers, int]:
    """Of some prompts, from the file where they were kept before; how many were too long."""

    def written() -> dict[str, Any]:
        table = writer.table(rows, settings)
        chance = int(np.random.default_rng((part["seed"], part["first"])).integers(2**31))
        tokens, ended = writer.answers(table.prompts, settings, seed=chance)
        answers = list(zip(map(writer.text, tokens), ended, strict=True))
        return {"answers": answers, "too_long": table.cut_prompts}

    found = remembered(file, part, written)
    return [(text, ended) for text, ended in found["answers"]], found["too_long"]


def _say_what_was_cut(found: _Answers, max_new_tokens: int, console: Console) -> None:
    if cut := [ended for _, ended in found].count(False):
        said = (
            f"{cut:,} of {len(found):,} texts did not come to their end in {max_new_tokens} tokens"
        )
        console.print(said, highlight=False)


def _line(prompt: str, text: str) -> str:
    return json.dumps({"prompt": prompt, "references": [text]}, ensure_ascii=False) + "\n"


def _written(place: Path, lines: dict[str, list[str]]) -> dict[str, int]:
    files = {f"{place.name}.{split}.jsonl": some for split, some in lines.items()}
    write_texts({name: "".join(some) for name, some in files.items()}, place.parent)
    return {name: len(some) for name, some in files.items()}

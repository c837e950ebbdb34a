"""Tokenizer folders for students, learned or trimmed; recipes name them as `student.tokenizer`."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from transformers import PreTrainedTokenizerFast

from ..data.text import TextSource, check_source, read_documents_up_to
from ..errors import DataError, RecipeError
from ..reports.report import markdown_table
from ..system.files import check_can_be_made, whole_folder
from .learn import (
    KINDS,
    UNIGRAM_SAMPLE,
    blank_tokenizer,
    evenly_spaced,
    is_unigram,
    learn_tokenizer,
)
from .load import load_tokenizer
from .nested import learn_nested
from .tokens_around import tokens_around
from .trim import check_trimmed_size, count_tokens, trimmed_tokenizer
from .trim_proof import prove
from .vocabulary_report import (
    MEASURED_CHARACTERS,
    vocabulary_headline,
    vocabulary_report,
    vocabulary_table,
)


def learn_vocabulary(
    texts: Sequence[str],
    output: Path | str,
    *,
    vocab_size: int,
    like: str | None = None,
    kind: str = "wordpiece",
    lowercase: bool = False,
    nested: bool = False,
    characters: int | None = None,
    sample_characters: int | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Learn a tokenizer, save it in a folder with a report, and return the report.

    Args:
        texts: Files or hub names, as in a recipe's ``data.text``.
        output: The folder; a tokenizer in it is replaced.
        vocab_size: Number of tokens, special tokens included.
        like: A model whose tokenizer's kind, normalizer and special tokens are used.
        kind: Without ``like``, a name in ``KINDS``.
        lowercase: Without ``like``, convert text to lower case.
        nested: With ``like``, learn no token across a border between two tokens of that model.
        characters: Largest number of characters to read of each text, so that a large text does
            not decide the tokens of all languages.
        sample_characters: Learn from about so many characters of what is read, in documents that
            are evenly spaced; by default all, and 3 million for Unigram, which is learned slowly.
        console: Shows progress; None is silent.

    Raises:
        RecipeError: The kind is not known, ``nested`` is given without ``like``, ``kind`` or
            ``lowercase`` is given with it, or the folder holds something else.
        DataError: A text cannot be read, or does not yield so many tokens.
        ModelError: ``like`` has no fast tokenizer.
    """
    if kind not in KINDS:
        raise RecipeError(f"kind is {kind!r}; use one of {', '.join(KINDS)}")
    if nested and not like:
        raise RecipeError("nested tokens are parts of a model's tokens; name the model (like)")
    _check_positive(
        vocab_size=vocab_size, characters=characters, sample_characters=sample_characters
    )
    if like and (kind != "wordpiece" or lowercase):
        raise RecipeError(f"kind and lowercase are those of {like} (like); leave them out")
    check_replaceable(Path(output))
    pattern = load_tokenizer(like) if like else blank_tokenizer(kind, lowercase=lowercase)
    read: Iterable[str] = _reader(texts, characters, console)()
    if sample_characters is None and is_unigram(pattern):
        sample_characters = UNIGRAM_SAMPLE
    if sample_characters is not None:
        read = evenly_spaced(read, sample_characters)
        if console:
            said = f"learning from {sum(map(len, read)):,} of these, in documents evenly spaced"
            console.print(f"{said} (--sample-characters)", highlight=False)
    learned = (learn_nested if nested else learn_tokenizer)(read, pattern, vocab_size=vocab_size)
    report = vocabulary_report(learned, texts, (like, pattern) if like else None)
    if isinstance(read, list):
        report["learned_from_characters"] = sum(map(len, read))
    return _save(learned, report, Path(output))


def trim_vocabulary(
    model: str,
    texts: Sequence[str],
    output: Path | str,
    *,
    vocab_size: int | None = None,
    fraction: float | None = None,
    characters: int | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Keep the tokens of a model's tokenizer that texts use most; save a folder with a report.

    Args:
        model: The model whose tokenizer is trimmed.
        texts: Files or hub names.
        output: The folder; a tokenizer in it is replaced.
        vocab_size: Number of tokens that stay; or give ``fraction``.
        fraction: Keep the fewest tokens that make up this fraction of the texts' tokens, and all
            letters, bytes, special tokens and tokens of the chat template.
        characters: Largest number of characters to read of each text.
        console: Shows progress; None is silent.

    Raises:
        RecipeError: The folder holds something else.
        DataError: As for `trimmed_vocabulary`.
        ModelError: The model has no fast tokenizer.
    """
    check_replaceable(Path(output))
    found = trimmed_vocabulary(
        model,
        texts,
        vocab_size=vocab_size,
        fraction=fraction,
        characters=characters,
        console=console,
    )
    return _save(found.tokenizer, found.report, Path(output))


# What the functions of this module write, and with `trim --with-model` beside it.
_OF_VOCABULARY = re.compile(
    r"report\.(json|md)|tokenizer.*\.json|special_tokens_map\.json|added_tokens\.json|vocab\..*"
    r"|merges\.txt|chat_template\.jinja|.*\.model"
)
_OF_MODEL = re.compile(
    r"(config|generation_config|modules|sentence_.*|config_sentence_transformers)\.json|README\.md"
    r"|model.*\.safetensors(\.index\.json)?|\d+_\w+"
)


class Trimmed(NamedTuple):
    """A tokenizer with fewer tokens, the one it was, and what is said of it."""

    tokenizer: PreTrainedTokenizerFast
    whole: PreTrainedTokenizerFast
    report: dict[str, Any]


def trimmed_vocabulary(
    model: str,
    texts: Sequence[str],
    *,
    vocab_size: int | None,
    fraction: float | None,
    characters: int | None,
    prompts: Sequence[str] = (),
    console: Console | None = None,
) -> Trimmed:
    """The tokens of a model's tokenizer that texts use most.

    Args:
        model: As for `trim_vocabulary`, like all others.
        texts: As there.
        vocab_size: As there.
        fraction: As there.
        characters: As there.
        prompts: What the model puts before texts; their tokens stay.
        console: As there.

    Raises:
        DataError: A text cannot be read, the size is not possible, or text whose tokens all stay
            would be tokenized in another way.
        ModelError: The model has no fast tokenizer.
    """
    if (vocab_size is None) == (fraction is None):
        raise DataError(
            "give either a size (vocab_size) or the fraction of the texts' tokens to cover"
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise DataError(
            f"the fraction is {fraction}; give a number above 0 and at most 1, as 0.999"
        )
    _check_positive(vocab_size=vocab_size, characters=characters)
    tokenizer = load_tokenizer(model)
    stay = tokens_around(tokenizer, prompts)
    check_trimmed_size(tokenizer, vocab_size, stay=stay)
    counts = count_tokens(tokenizer, _reader(texts, characters, console)())
    trimmed = trimmed_tokenizer(
        tokenizer, counts, vocab_size=vocab_size, fraction=fraction, stay=stay
    )
    read = (read_documents_up_to(TextSource(path), MEASURED_CHARACTERS) for path in texts)
    proof = prove(tokenizer, trimmed, chain.from_iterable(read))
    if proof.tokenized_otherwise:
        never = f"{len(proof.lost)} tokens that stay would never be made" + _some(proof.lost)
        spans = [repr(span) for span in proof.tokenized_otherwise]
        otherwise = f"{len(spans)} parts of the texts whose tokens all stay would be tokenized"
        otherwise += " otherwise" + _some(spans)
        raise DataError(
            f"{f'{never}, and ' if proof.lost else ''}{otherwise}: this tokenizer cannot be"
            " trimmed; learn a new vocabulary"
        )
    report = vocabulary_report(trimmed, texts, (model, tokenizer), proof)
    return Trimmed(trimmed, tokenizer, report)


def _some(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


def check_replaceable(output: Path, *, model: bool = False) -> None:
    """Check that a folder can be made, which is empty or was made by this module if it is there.

    Args:
        output: The folder.
        model: Whether a model is written into it, so that one in it may be replaced.

    Raises:
        OSError: It cannot be made where it would lie.
        RecipeError: It holds something else, or is a file.
    """
    check_can_be_made(output.resolve())
    if not output.exists():
        return
    names = {place.name for place in output.iterdir()} if output.is_dir() else {output.name}
    made = {"report.json", "tokenizer.json"} <= names
    others = {name for name in names if not (made and _OF_VOCABULARY.fullmatch(name))}
    if made and model:
        others = {name for name in others if not _OF_MODEL.fullmatch(name)}
    if not others:
        return
    some = ", ".join(sorted(others)[:5])
    if made and all(map(_OF_MODEL.fullmatch, others)):
        raise RecipeError(
            f"{output} would be replaced by a vocabulary alone, and it holds a model ({some}); give"
            " another folder, or --with-model"
        )
    raise RecipeError(
        f"{output} would be replaced, and it holds {some}, which this command has not made; give a"
        " folder that is not there yet"
    )


def _check_positive(**given: int | None) -> None:
    for name, value in given.items():
        if value is not None and value < 1:
            raise DataError(f"{name} is {value}; give 1 or more")


def _reader(
    texts: Sequence[str], characters: int | None, console: Console | None
) -> Callable[[], Iterator[str]]:
    """A function that reads all texts, after each of them was checked."""
    sources = [TextSource(path) for path in texts]
    for source in sources:
        check_source(source)

    def read() -> Iterator[str]:
        for source in sources:
            count = 0
            for document in read_documents_up_to(source, characters):
                count += len(document)
                yield document
            if console:
                console.print(f"{source.path}: {count:,} characters read", highlight=False)

    return read


def _save(
    tokenizer: PreTrainedTokenizerFast, report: dict[str, Any], output: Path
) -> dict[str, Any]:
    with whole_folder(output.resolve()) as folder:
        tokenizer.save_pretrained(folder)
        write_report(report, folder)
    return report


def write_report(report: dict[str, Any], folder: Path) -> None:
    """What is said of a tokenizer, as JSON and as Markdown, beside it."""
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text, encoding="utf-8")
    lines = [vocabulary_headline(report), "", *markdown_table(vocabulary_table(report))]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")

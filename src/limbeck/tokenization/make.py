"""Vocabularies for students: tokenizer folders that recipes name as `student.tokenizer`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import PreTrainedTokenizerFast

from ..data.text import TextSource, check_source, read_documents
from ..errors import DataError, ModelError, RecipeError
from ..models.families import architecture_of
from ..models.load import load_config
from ..models.shapes import shape_of
from ..reports.report import markdown_table
from ..system.files import whole_folder
from .coverage import coverage
from .learn import KINDS, blank_tokenizer, learn_tokenizer
from .load import load_tokenizer
from .nested import learn_nested
from .trim import Proof, count_tokens, prove, trimmed_tokenizer

_MEASURED_CHARACTERS = 1_000_000  # of each text, for the report


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
    console: Console | None = None,
) -> dict[str, Any]:
    """Learn a tokenizer, leave it as a folder with a report, and give the report.

    Args:
        texts: Files or hub names, as a recipe's ``data.text``.
        output: The folder; a tokenizer that is in it is replaced.
        vocab_size: Tokens, special tokens included.
        like: A model whose tokenizer's kind, normalisation and special tokens are kept.
        kind: Without ``like``: a name in ``KINDS``.
        lowercase: Without ``like``: letters become small.
        nested: With ``like``: no token is learned over a place where that model cuts.
        characters: Of each text at most so many are read, so that a large one
            does not decide the tokens of all languages.
        console: For progress; None is silent.

    Raises:
        RecipeError: The kind is not known, ``nested`` stands without ``like``, or ``kind`` and
            ``lowercase`` beside it; or the folder holds something else.
        DataError: A text cannot be read, or does not give so many tokens.
        ModelError: ``like`` has no fast tokenizer.
    """
    if kind not in KINDS:
        raise RecipeError(f"kind is {kind!r}; use one of {', '.join(KINDS)}")
    if nested and not like:
        raise RecipeError("nested tokens are parts of a model's; name it (like)")
    _check_positive(vocab_size=vocab_size, characters=characters)
    if like and (kind != "wordpiece" or lowercase):
        raise RecipeError(f"kind and lowercase are those of {like} (like); leave them out")
    _check_replaceable(Path(output))
    pattern = load_tokenizer(like) if like else blank_tokenizer(kind, lowercase=lowercase)
    read = _reader(texts, characters, console)
    learned = (learn_nested if nested else learn_tokenizer)(read(), pattern, vocab_size=vocab_size)
    return _leave(learned, Path(output), texts, like)


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
    """Keep those tokens of a model's tokenizer that texts use most; a folder with a report.

    Args:
        model: Whose tokenizer it is.
        texts: Files or hub names.
        output: The folder; a tokenizer that is in it is replaced.
        vocab_size: Tokens that stay; or give ``fraction``.
        fraction: As few tokens stay as make up this share of the texts' tokens, and
            letters, bytes and special tokens beside them.
        characters: Of each text at most so many are read.
        console: For progress; None is silent.

    Raises:
        RecipeError: The folder holds something else.
        DataError: A text cannot be read, the size cannot be had, or tokens that stay would not
            be made any more where the text has them.
        ModelError: The model has no fast tokenizer.
    """
    if (vocab_size is None) == (fraction is None):
        raise DataError(
            "give either a size (vocab_size) or a fraction of the texts' tokens that is covered"
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise DataError(
            f"the fraction is {fraction}; give a number above 0 and at most 1, as 0.999"
        )
    _check_positive(vocab_size=vocab_size, characters=characters)
    _check_replaceable(Path(output))
    tokenizer = load_tokenizer(model)
    counts = count_tokens(tokenizer, _reader(texts, characters, console)())
    trimmed = trimmed_tokenizer(tokenizer, counts, vocab_size=vocab_size, fraction=fraction)
    read = (_first(TextSource(path), _MEASURED_CHARACTERS) for path in texts)
    proof = prove(tokenizer, trimmed, chain.from_iterable(read))
    if proof.cut_otherwise:
        never = f"{len(proof.lost)} tokens that stay would never be made" + _some(proof.lost)
        otherwise = f"{len(proof.cut_otherwise)} parts of the texts whose tokens all stay would be"
        otherwise += " tokenized otherwise" + _some([repr(part) for part in proof.cut_otherwise])
        raise DataError(
            f"{f'{never}, and ' if proof.lost else ''}{otherwise}: this tokenizer cannot be"
            " trimmed; learn a new vocabulary"
        )
    return _leave(trimmed, Path(output), texts, model, proof)


def _some(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


def _check_replaceable(output: Path) -> None:
    """A folder is replaced as a whole, so it may hold a vocabulary that was made here, or nothing.

    Raises:
        RecipeError: It holds something else, or is a file.
    """
    if not output.exists():
        return
    names = {place.name for place in output.iterdir()} if output.is_dir() else {output.name}
    if names and not {"report.json", "tokenizer.json"} <= names:
        some = ", ".join(sorted(names)[:5])
        raise RecipeError(
            f"{output} would be replaced, and it holds {some}, which is no vocabulary made by this"
            " command; give a folder that is not there yet"
        )


def _check_positive(**given: int | None) -> None:
    for name, value in given.items():
        if value is not None and value < 1:
            raise DataError(f"{name} is {value}; give 1 or more")


def _reader(
    texts: Sequence[str], characters: int | None, console: Console | None
) -> Callable[[], Iterator[str]]:
    """Reads all texts, which have been looked through before."""
    sources = [TextSource(path) for path in texts]
    for source in sources:
        check_source(source)

    def read() -> Iterator[str]:
        for source in sources:
            count = 0
            for document in _first(source, characters):
                count += len(document)
                yield document
            if console:
                console.print(f"{source.path}: {count:,} characters read", highlight=False)

    return read


def _first(source: TextSource, characters: int | None) -> Iterator[str]:
    read = 0
    for document in read_documents(source):
        if characters is not None and read >= characters:
            return
        read += len(document)
        yield document


def _leave(
    tokenizer: PreTrainedTokenizerFast,
    output: Path,
    texts: Sequence[str],
    like: str | None,
    proof: Proof | None = None,
) -> dict[str, Any]:
    report = _report(tokenizer, texts, like)
    if proof:
        report["trimmed"] = {
            "words": proof.words,
            "words_tokenized_as_before": proof.all_stay,
            "of_these_cut_as_before": proof.all_stay,  # else there is no report
            "unused_tokens": len(proof.unused),
        }
    with whole_folder(output.resolve()) as folder:
        tokenizer.save_pretrained(folder)
        (folder / "report.json").write_text(
            json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        lines = [vocabulary_headline(report), "", *markdown_table(vocabulary_table(report))]
        (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return report


def _report(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], like: str | None
) -> dict[str, Any]:
    whose = {"this": tokenizer, **({"like": load_tokenizer(like)} if like else {})}
    report: dict[str, Any] = {
        "tokens": len(tokenizer),
        "measured_characters_of_each_text": _MEASURED_CHARACTERS,
        "texts": {
            path: {
                name: asdict(coverage(cut, _first(TextSource(path), _MEASURED_CHARACTERS)))
                for name, cut in whose.items()
            }
            for path in texts
        },
    }
    if like:
        mine, theirs = (set(cut.get_vocab()) for cut in whose.values())
        report |= {"like": like, "like_tokens": len(theirs), "shared_tokens": len(mine & theirs)}
        with suppress(ModelError):  # the folder of a tokenizer alone
            config = load_config(like)
            width = shape_of(config, architecture_of(config.model_type)).hidden_size
            report["embedding_bytes_saved"] = 4 * width * (len(theirs) - len(mine))
    return report


def vocabulary_table(report: Mapping[str, Any]) -> list[list[str]]:
    """What the report says of each text, the tokenizer that was given beside it."""
    head = ["text", "tokenizer", "tokens a word", "95 of 100 words", "unknown", "letters unknown"]
    rows = [head]
    for path, found in report["texts"].items():
        for name, facts in found.items():
            never = facts["letters_not_covered_count"]
            named = " ".join(facts["letters_not_covered"][:10])
            rows.append(
                [
                    Path(path).name,
                    report["like"] if name == "like" else "this",
                    f"{facts['tokens_per_word']:.3f}",
                    f"{facts['tokens_per_word_p95']:.0f}",
                    f"{facts['unknown_share']:.4%}",
                    f"{never}: {named}" if never else "none",
                ]
            )
    return rows


def vocabulary_headline(report: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    said = f"{report['tokens']:,} tokens"
    if "like" in report:
        said += f", {report['shared_tokens']:,} of them shared with {report['like']}"
    if saved := report.get("embedding_bytes_saved"):
        said += f"; its embeddings lose {saved / 1e6:.1f} MB at that width"
    if proof := report.get("trimmed"):
        said += (
            f". Of {proof['words']:,} different words {proof['words_tokenized_as_before']:,} keep"
        )
        said += " all their tokens, and are cut as before"
    return said + "."

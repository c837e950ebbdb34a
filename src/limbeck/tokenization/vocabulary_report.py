"""The report about a vocabulary: its coverage of texts, beside that of an older tokenizer."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from ..data.text import TextSource, read_documents_up_to
from ..errors import ModelError
from ..models.families.lookup import architecture_of
from ..models.load import load_config
from ..models.shapes import shape_of
from .text_coverage import coverage
from .trim_proof import Proof

MEASURED_CHARACTERS = 1_000_000  # of each text
_LETTERS_SHOWN = 30  # of a word in the table
# Of models whose embeddings are not as wide as their hidden states, as ALBERT and ELECTRA.
_WIDTHS = ("embedding_size", "word_embed_proj_dim")


def vocabulary_report(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    like: tuple[str, PreTrainedTokenizerFast] | None,
    proof: Proof | None = None,
) -> dict[str, Any]:
    """The content of report.json.

    Args:
        tokenizer: The new tokenizer.
        texts: Files or hub names on which coverage is measured.
        like: Name and tokenizer of the model that was imitated or trimmed; None where there is
            none.
        proof: For a trimmed tokenizer, how it compares with the whole one.
    """
    whose = {"this": tokenizer, **({"like": like[1]} if like else {})}
    report: dict[str, Any] = {
        "tokens": len(tokenizer),
        "measured_characters_of_each_text": MEASURED_CHARACTERS,
        "texts": {
            path: {
                name: asdict(
                    coverage(one, read_documents_up_to(TextSource(path), MEASURED_CHARACTERS))
                )
                for name, one in whose.items()
            }
            for path in texts
        },
    }
    if like:
        mine, theirs = (one.get_vocab().keys() for one in whose.values())
        report |= {"like": like[0], "like_tokens": len(theirs), "shared_tokens": len(mine & theirs)}
        with suppress(ModelError):  # a folder with a tokenizer but no model
            config = load_config(like[0])
            own = (width for name in _WIDTHS if (width := getattr(config, name, None)))
            width = next(own, shape_of(config, architecture_of(config)).hidden_size)
            report["embedding_bytes_saved"] = 4 * width * (len(theirs) - len(mine))
    if proof:
        report["trimmed"] = {
            "words": proof.words,
            "words_tokenized_as_before": proof.all_stay,
            "of_these_cut_as_before": proof.all_stay,  # otherwise trimming is refused
            "unused_tokens": len(proof.unused),
        }
    return report


def vocabulary_table(report: Mapping[str, Any]) -> list[list[str]]:
    """The coverage of each text by the new tokenizer, and by the one it was made from."""
    head = ["text", "tokenizer", "tokens a word", "95 of 100 words", "unknown", "letters unknown"]
    rows = [head]
    for path, found in report["texts"].items():
        for name, facts in found.items():
            never = facts["letters_not_covered_count"]
            named = " ".join(facts["letters_not_covered"][:10])
            words = ", ".join(f"{word:.{_LETTERS_SHOWN}}" for word in facts["unknown_words"])
            unknown = f"{facts['unknown_share']:.4%}"
            if facts["unknown_letters_share"] > facts["unknown_share"]:
                unknown += f" ({facts['unknown_letters_share']:.1%} of the letters)"
            none = f"none, but words: {words}" if words else "none"
            rows.append(
                [
                    Path(path).name,
                    report["like"] if name == "like" else "this",
                    f"{facts['tokens_per_word']:.3f}",
                    f"{facts['tokens_per_word_p95']:.0f}",
                    unknown,
                    f"{never}: {named}" if never else none,
                ]
            )
    return rows


def vocabulary_headline(report: Mapping[str, Any]) -> str:
    """The result in one or two sentences."""
    said = f"{report['tokens']:,} tokens"
    if "like" in report:
        said += f", {report['shared_tokens']:,} of them shared with {report['like']}"
    if saved := report.get("embedding_bytes_saved"):
        change = "lose" if saved > 0 else "gain"
        said += f"; its embeddings {change} {abs(saved) / 1e6:.1f} MB at that width"
    if proof := report.get("trimmed"):
        said += (
            f". Of {proof['words']:,} different words {proof['words_tokenized_as_before']:,} keep"
        )
        said += " all their tokens, and are tokenized as before"
    return said + "."

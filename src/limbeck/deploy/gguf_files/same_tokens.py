"""Whether llama.cpp reads the tokens of a GGUF file as the model's own tokenizer does."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import ExportError
from ..batches import example_of
from ..source import Source
from .library import Model

# What tokenizers differ in, beside the texts of the model's own kind.
PROBES = (
    "It's 12345 o'clock: they'll say 3,141.59 -- \"we're HERE!\"",
    "  two  spaces,   three\tand a tab\n\n\nlines\r\nand one more \n",
    "Café, naïve, Zürich, Ångström, Łódź, İstanbul; e-mail@host.org #1 50% $9 a_b/c\\d",
    "Привет, мир! 你好，世界。 こんにちは שלום नमस्ते",
    "if (x != 0) { return x++ ? 'yes' : \"no\"; } // done...",
    "🙂👍🏽 — “quoted” … ½ ™ ﬁne № ①",
)
_ALL = 2**30  # tokens of a text
_SHOWN = 12  # ids around the first difference


def check_tokens(source: Source, texts: Sequence[str], file: Path) -> None:
    """See that llama.cpp tokenizes texts as the model does, the special tokens around them, too.

    Args:
        source: The model.
        texts: Real ones; some that tokenizers differ in are added.
        file: Of the model.

    Raises:
        ExportError: It does not; an example is in the message.
    """
    theirs, reader = Model(file, vocabulary_only=True), replace(source.reader, limit=_ALL)
    for text in (*texts, *PROBES):
        own, other = reader.read(example_of(text)).ids, theirs.tokenized(text)
        if own == other:
            continue
        both = zip(own, other, strict=False)
        first = next((n for n, (one, two) in enumerate(both) if one != two), 0)
        shown = slice(max(0, first - 2), first + _SHOWN)
        raise ExportError(
            f"llama.cpp tokenizes {text[:120]!r} otherwise than the model: it reads"
            f" {other[shown]} where the model reads {own[shown]} (from token {shown.start}); export"
            " to another format"
        )

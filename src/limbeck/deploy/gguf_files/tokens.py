"""What a GGUF file says of a tokenizer, and the tokens of a model by their ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gguf
from gguf import TokenType
from transformers import PreTrainedTokenizerFast

from ...errors import ExportError
from ...tokenization.post_processor import own_frame

SPACE = "\u2581"  # what stands for a space in tokens


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    Attributes:
        model: llama.cpp's name of its kind: gpt2, llama, bert or t5.
        pre: llama.cpp's name of what splits a text into words.
        tokens: By id, as llama.cpp spells them; as many as the embedding table has rows.
        types: Of the tokens.
        scores: Of the tokens, where the kind has them.
        merges: Of byte-level BPE.
        flags: Further keys under ``tokenizer.ggml``, true or false.
        special: Ids by the names of their keys.
        characters: sentencepiece's table of normalized characters.
        chat_template: Empty without one.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[TokenType]
    scores: Sequence[float] = ()
    merges: Sequence[str] = ()
    flags: Mapping[str, bool] = field(default_factory=dict)
    special: Mapping[str, int] = field(default_factory=dict)
    characters: bytes = b""
    chat_template: str = ""

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Add all of it to a file."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.merges:
            writer.add_token_merges(self.merges)
        for name, value in self.flags.items():
            writer.add_bool(f"tokenizer.ggml.{name}", value)
        for name, number in self.special.items():
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
        if self.characters:
            writer.add_precompiled_charsmap(self.characters)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


class Tokens:
    """Tokens of a tokenizer by their ids, with what every kind needs."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, rows: int) -> None:
        vocabulary = {number: token for token, number in tokenizer.get_vocab().items()}
        if max(vocabulary) >= rows:
            raise lacks(f"the id {max(vocabulary)} of a token in a table of {rows} rows")
        added = {one.content: one.special for one in tokenizer.added_tokens_decoder.values()}
        added |= dict.fromkeys(tokenizer.all_special_tokens, True)
        self.tokenizer = tokenizer
        self.texts = [vocabulary.get(number, f"[PAD{number}]") for number in range(rows)]
        self.types = [
            TokenType.UNUSED
            if number not in vocabulary
            else {None: TokenType.NORMAL, True: TokenType.CONTROL, False: TokenType.USER_DEFINED}[
                added.get(text)
            ]
            for number, text in enumerate(self.texts)
        ]

    def frame(self) -> tuple[int | None, int | None]:
        """The special tokens before and after a text."""
        ends = own_frame(self.tokenizer.backend_tokenizer) or ((), ())
        if max(map(len, ends)) > 1:
            raise lacks("more than one special token before or after a text")
        first, last = (ids[0] if ids else None for ids in ends)
        return first, last

    def special(self, **more: int | None) -> dict[str, int]:
        """Ids of special tokens by llama.cpp's names, which misspell the separator.

        Without an id, llama.cpp would take an ordinary token as the end of a generated text.
        """
        own = self.tokenizer
        ends = (own.eos_token_id, own.sep_token_id, own.pad_token_id, own.bos_token_id)
        named = {
            "bos": own.bos_token_id,
            "eos": next((number for number in ends if number is not None), None),
            "unknown": own.unk_token_id,
            "seperator": own.sep_token_id,
            "padding": own.pad_token_id,
            "mask": own.mask_token_id,
            **{name: number for name, number in more.items() if number is not None},
        }
        return {name: number for name, number in named.items() if number is not None}

    def framed(self) -> tuple[dict[str, bool], dict[str, int]]:
        """Whether special tokens are put around a text, and all their ids."""
        first, last = self.frame()
        flags = {"add_bos_token": first is not None, "add_eos_token": last is not None}
        return flags, self.special(bos=first, eos=last)


def steps_of(part: dict[str, Any] | None, of: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer."""
    if part is None:
        return []
    return part[of] if part["type"] == "Sequence" else [part]


def names_of(steps: Sequence[Mapping[str, Any]]) -> str:
    """The types of steps, as an error names them."""
    return " and ".join(str(one["type"]) for one in steps) or "none"


def lacks(what: str) -> ExportError:
    """The error that llama.cpp cannot tokenize so."""
    return ExportError(
        f"llama.cpp does not have {what}, so that a GGUF file would read other tokens; export to"
        " another format"
    )

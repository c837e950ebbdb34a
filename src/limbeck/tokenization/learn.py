"""A tokenizer learned from text: WordPiece, BPE or Unigram, as a transformers folder has it.

The learning itself is that of `tokenizers`; what is decided here is how text is normalised
and cut into words, and what the special tokens are: those of a tokenizer given as a model,
or what encoders of the BERT family and decoders of the GPT family are used to.

Source: WordPiece, Schuster & Nakajima 2012; BPE, Sennrich et al. 2016, arXiv:1508.07909;
Unigram, Kudo 2018, arXiv:1804.10959.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ..errors import DataError
from .post_processor import renumber_frame

_ENCODER_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_DECODER_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_AT_ONCE = 1000  # documents handed over together


def learn_tokenizer(
    documents: Iterable[str], like: PreTrainedTokenizerFast, *, vocab_size: int
) -> PreTrainedTokenizerFast:
    """A tokenizer of another size that treats text as ``like`` does, learned from the documents.

    Args:
        documents: Strings; they are read once.
        like: Gives the kind, the normalisation, the cutting into words and the special
            tokens; a model's tokenizer, or a `blank_tokenizer`.
        vocab_size: Tokens, special tokens included.

    Raises:
        DataError: The documents' letters alone are more than ``vocab_size``, or the
            documents do not give so many tokens.
    """
    learned = train_like(like, _batches(iter(documents)), vocab_size)
    check_size(len(learned), vocab_size)
    return learned


def train_like(
    like: PreTrainedTokenizerFast, texts: Iterator[list[str]], vocab_size: int, **options: Any
) -> PreTrainedTokenizerFast:
    """A tokenizer of the same kind, trained by `tokenizers`; its size is still to be checked.

    Raises:
        DataError: Unigram tokens of which there are fewer than letters, or a kind whose tokens
            for single bytes would be lost.
    """
    if json.loads(like.backend_tokenizer.to_str())["model"].get("byte_fallback"):
        raise DataError(
            "this tokenizer writes unknown letters in tokens of single bytes (byte_fallback), which"
            " cannot be learned anew; learn one of `--kind bytes`, or keep some of its tokens"
            " (`limbeck vocabulary trim`)"
        )
    train: Any = like.train_new_from_iterator
    try:
        learned: PreTrainedTokenizerFast = train(texts, vocab_size, show_progress=False, **options)
    except Exception as error:  # tokenizers has no other kind
        if "not large enough to contain all chars" not in str(error):
            raise
        raise DataError(
            f"{vocab_size} tokens are fewer than the letters and special tokens that the text needs;"
            " ask for more, or leave rare letters out of the text"
        ) from error
    renumber_frame(learned)  # transformers does not where the frame is one of several steps
    return learned


def check_size(found: int, vocab_size: int) -> None:
    """Refuse a vocabulary of another size than was asked for.

    Raises:
        DataError: With what was found, and what to change.
    """
    if found > vocab_size:
        raise DataError(
            f"{vocab_size} tokens are fewer than the letters and special tokens that the text needs"
            f" ({found}); ask for more, or leave rare letters out of the text"
        )
    if found < vocab_size:
        raise DataError(
            f"the text gives {found} tokens, and {vocab_size} were asked for; ask for fewer, or give"
            " more text"
        )


def blank_tokenizer(kind: str, *, lowercase: bool) -> PreTrainedTokenizerFast:
    """A tokenizer of a kind without tokens: what `learn_tokenizer` takes as ``like``.

    Args:
        kind: A name in ``KINDS``.
        lowercase: Letters become small, and for ``wordpiece`` lose their accents.
    """
    return KINDS[kind](lowercase)


def as_transformers(
    tokenizer: Tokenizer,
    special: Mapping[str, str] | None = None,
    *,
    like: PreTrainedTokenizerFast | None = None,
) -> PreTrainedTokenizerFast:
    """A tokenizer as transformers has it.

    Args:
        tokenizer: The fast one behind it.
        special: Special tokens by their role, as ``mask_token``.
        like: Special tokens, inputs, side of padding and longest text are those of this one.
    """
    fast: Any = PreTrainedTokenizerFast
    options: dict[str, Any] = dict(special or {})
    if like is not None:
        options = {
            **like.special_tokens_map,
            "model_max_length": like.model_max_length,
            "model_input_names": like.model_input_names,
            "padding_side": like.padding_side,
        }
    wrapped: PreTrainedTokenizerFast = fast(tokenizer_object=tokenizer, **options)
    return wrapped


def _wordpiece(lowercase: bool) -> PreTrainedTokenizerFast:
    """As BERT: words at spaces and punctuation, ## before what continues a word."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _encoder(tokenizer)


def _unigram(lowercase: bool) -> PreTrainedTokenizerFast:
    """As XLM-R: spaces become part of the tokens, the likeliest cut is taken."""
    # One token, so that learning knows which one stands for the unknown.
    tokenizer = Tokenizer(models.Unigram([("[UNK]", 0.0)], unk_id=0))
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _encoder(tokenizer)


def _bytes(lowercase: bool) -> PreTrainedTokenizerFast:
    """As GPT-2: pairs of bytes are merged, so that any text can be written."""
    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(list(_DECODER_TOKENS.values()))
    return as_transformers(tokenizer, _DECODER_TOKENS)


def _encoder(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokens = list(_ENCODER_TOKENS.values())
    tokenizer.add_special_tokens(tokens)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokens.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    return as_transformers(tokenizer, _ENCODER_TOKENS)


KINDS: dict[str, Callable[[bool], PreTrainedTokenizerFast]] = {
    "wordpiece": _wordpiece,
    "unigram": _unigram,
    "bytes": _bytes,
}


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(documents, _AT_ONCE)):
        yield batch

"""The special tokens that a tokenizer puts around a text: the post-processor in its file.

The tokenizer of a language model that puts nothing around a text gets the usual frame of its kind,
so that training, evaluation and every user of the exported tokenizer frame a text in the same way.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

_SEGMENTS = "token_type_ids"
Ends = tuple[tuple[int, ...], tuple[int, ...]]  # special tokens before and after a text


def put_frame(tokenizer: PreTrainedTokenizerFast, backend: Tokenizer | None = None) -> None:
    """Add the usual frame to a tokenizer that puts nothing around a text.

    Args:
        tokenizer: Its special tokens are used.
        backend: The tokenizer that is changed; by default the backend of ``tokenizer``.
    """
    backend = backend or tokenizer.backend_tokenizer
    first, last = usual_frame(tokenizer)
    if own_frame(backend) is not None or not (first or last):
        return
    begin, end = (tokenizer.convert_ids_to_tokens(list(ids)) for ids in (first, last))
    if not end:  # as transformers' decoders with a special token at the beginning
        pair = [*begin, "$A", *begin, "$B"]
    elif tokenizer.cls_token_id == tokenizer.bos_token_id:  # as RoBERTa, without segments
        pair = [*begin, "$A", *end, *end, "$B", *end]
    else:
        pair = [*begin, "$A", *end, "$B:1", *(f"{name}:1" for name in end)]
    template = processors.TemplateProcessing(
        single=[*begin, "$A", *end],
        pair=pair,
        special_tokens=list(zip((*begin, *end), (*first, *last), strict=True)),
    )
    own = backend.post_processor
    replaced = own is None or isinstance(own, processors.TemplateProcessing)
    # Other post-processors change offsets, and must continue to do so.
    backend.post_processor = template if replaced else processors.Sequence([own, template])


def save_framed(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save the tokenizer of a language model, with its frame wherever it is loaded.

    Args:
        tokenizer: The tokenizer, which is not changed.
        folder: The folder of a model.
    """
    framed = deepcopy(tokenizer)
    put_frame(framed)
    save_tokenizer(framed, folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, *, segments: int = 0) -> None:
    """Save a tokenizer that puts the same around a text wherever it is loaded, or nothing.

    Args:
        tokenizer: The tokenizer.
        folder: The folder of a model.
        segments: Token types that the model distinguishes where it reads pairs of texts: with two
            or more, transformers gives it those that the tokenizer names.
    """
    tokenizer.save_pretrained(folder)
    again: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    changed: dict[str, Any] = {}
    if own_frame(again.backend_tokenizer) != own_frame(tokenizer.backend_tokenizer):
        # Some classes of transformers, e.g. that of Pythia, build another frame; this one does not.
        changed["tokenizer_class"] = "PreTrainedTokenizerFast"
    left_out = segments > 1 and _SEGMENTS not in again.model_input_names
    if left_out and _names_segments(tokenizer.backend_tokenizer):
        # Of a tokenizer without a class of its own transformers would give the model none.
        first, *others = again.model_input_names
        changed["model_input_names"] = [first, _SEGMENTS, *others]
    if changed:
        file = folder / "tokenizer_config.json"
        settings = json.loads(file.read_text(encoding="utf-8")) | changed
        file.write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")


def renumber_frame(tokenizer: PreTrainedTokenizerFast) -> None:
    """Update the ids of special tokens in the post-processor to those of the vocabulary."""
    backend = tokenizer.backend_tokenizer
    if backend.post_processor is not None:
        settings = _without_vocabulary(backend)
        renumber(settings["post_processor"], tokenizer.get_vocab())
        backend.post_processor = Tokenizer.from_str(json.dumps(settings)).post_processor


def _without_vocabulary(backend: Tokenizer) -> dict[str, Any]:
    """The post-processor in the form of a tokenizer's file, without 250,000 tokens beside it."""
    alone = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    if backend.post_processor is not None:
        alone.post_processor = backend.post_processor
    found: dict[str, Any] = json.loads(alone.to_str())
    return found


def renumber(processor: dict[str, Any], numbers: Mapping[str, int]) -> None:
    """Update the ids in a post-processor, in the form of a tokenizer's file, in place."""
    for part in processor.get("processors", ()):
        renumber(part, numbers)
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [numbers[name] for name in token["tokens"]]
    for end in ("sep", "cls"):  # of BertProcessing and RobertaProcessing
        if end in processor:
            processor[end] = (processor[end][0], numbers[processor[end][0]])


def frame_problem(tokenizer: PreTrainedTokenizerFast, name: str) -> str | None:
    """The problem that the ids of special tokens differ between frame and vocabulary, or None."""
    backend = tokenizer.backend_tokenizer
    processor = _without_vocabulary(backend)["post_processor"] or {}
    wrong = []
    for token, number in _framing(processor).items():
        if token is None:
            wrong.append(f"the id {number} without a token")
        elif number is None:
            wrong.append(f"{token!r} no id")
        elif (own := backend.token_to_id(token)) != number:
            found = tokenizer.convert_ids_to_tokens(number)
            theirs = "no such token" if own is None else own
            wrong.append(
                f"{token!r} the id {number} ({found!r}), where its vocabulary has {theirs}"
            )
    if not wrong:
        return None
    return (
        f"the tokenizer of {name!r} gives {'; '.join(wrong)}: every text would be framed by other"
        " tokens. Write the ids of its vocabulary into the post_processor of its tokenizer.json"
    )


def _framing(processor: Mapping[str, Any]) -> dict[str | None, int | None]:
    """The ids in a post-processor of the special tokens that it puts around texts."""
    found: dict[str | None, int | None] = {}
    for part in processor.get("processors", ()):
        found |= _framing(part)
    for part in (*processor.get("single", ()), *processor.get("pair", ())):
        if special := part.get("SpecialToken"):
            # `tokenizers` does not check an entry before its first use: it may be missing, or have
            # fewer ids than tokens.
            token = processor["special_tokens"].get(special["id"], {})
            found |= zip_longest(token.get("tokens", [special["id"]]), token.get("ids", []))
    found |= {processor[end][0]: processor[end][1] for end in ("cls", "sep") if end in processor}
    return found


def own_frame(backend: Tokenizer) -> Ends | None:
    """The special tokens that a tokenizer puts before and after a text; None for none."""
    if backend.post_processor is None:
        return None
    # Applied to one token of another vocabulary, without the file's truncation and padding.
    text = Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).encode("a")
    found = backend.post_processor.process(text, None, True)
    place = found.special_tokens_mask.index(0)
    before, behind = tuple(found.ids[:place]), tuple(found.ids[place + 1 :])
    return (before, behind) if before or behind else None


def _names_segments(backend: Tokenizer) -> bool:
    """Whether a tokenizer says of the tokens of a pair to which of its texts they belong."""
    if backend.post_processor is None:
        return False
    text = Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).encode("a")
    types: list[int] = backend.post_processor.process(text, text, True).type_ids
    return max(types) > 0


def usual_frame(tokenizer: PreTrainedTokenizerFast) -> Ends:
    """[CLS] ... [SEP] if the tokenizer has both, else one token at the beginning, else nothing."""
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    if begin is not None and end is not None:
        return (begin,), (end,)
    marks = (tokenizer.bos_token_id, tokenizer.eos_token_id, begin, end)
    return tuple(number for number in marks if number is not None)[:1], ()

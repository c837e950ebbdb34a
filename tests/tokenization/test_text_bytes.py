"""All bytes of a text are counted, whatever tokens stand for them."""

from pathlib import Path

import pytest
import torch
from conftest import make_text, make_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from limbeck.batch import Tokens
from limbeck.data.corpus import SeededOrder
from limbeck.data.prompts import Prompt
from limbeck.data.text import TextSource
from limbeck.evaluation.bits_per_byte import predicted_bytes
from limbeck.tokenization.batching import Batches
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.masking import Masking, NextToken
from limbeck.tokenization.packing import tokenize_source
from limbeck.tokenization.plain_text import plain_tokenizer
from limbeck.tokenization.prompts import PromptBatches, encode_prompts
from limbeck.tokenization.stored_table import HeldOut, Sequences
from limbeck.tokenization.text_bytes import token_bytes

WIKI = "The <unk> ran to <unk> ."
TEXTS = (WIKI, "  Дом 日本 😀 é\tfi\x07ne ", "[MASK] <s>20</s>", "ÀÉ ﬁ ½")


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe", "unigram"])
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_have_all_bytes_of_a_text(kind, text):
    found = plain_tokenizer(make_tokenizer(kind)).encode(text, add_special_tokens=False)
    assert token_bytes(text, found, spaces=True).sum() == len(text.encode())
    seen = token_bytes(text, found, spaces=False)
    assert seen.sum() == len("".join(text.split()).encode()) and (seen >= 0).all()
    assert len(seen) == len(found.ids)


def bytes_tokenizer() -> PreTrainedTokenizerFast:
    blank = blank_tokenizer("bytes", lowercase=False)
    return learn_tokenizer(make_text(100), blank, vocab_size=300)


def words_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, as for WikiText; all other words are unknown."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "The": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")


def held_out_text(text: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Sequences:
    """A file with one line of text, all of it held out."""
    (folder / "text.txt").write_text(text + "\n", encoding="utf-8")
    return tokenize_source(
        TextSource(str(folder / "text.txt")),
        tokenizer,
        length=64,
        packed=False,
        held_out=HeldOut(True, 1.0),
        cache=folder,
    )


def only_batch(
    found: Sequences, tokenizer: PreTrainedTokenizerFast, masking: Masking | NextToken
) -> Tokens:
    batches = Batches(found.table, SeededOrder((1,), (1.0,), 0), tokenizer, 1, masking, 0)
    return batches.batch(0).student


@pytest.mark.parametrize("made", [bytes_tokenizer, words_tokenizer])
def test_bits_per_byte_count_all_bytes_of_held_out_text(tmp_path, made):
    tokenizer = made()
    found = held_out_text(WIKI, tokenizer, tmp_path)
    assert found.spelled == 2
    tokens = only_batch(found, tokenizer, NextToken())
    assert predicted_bytes(tokenizer, tokens, spaces=True) == 24


def test_masked_words_have_their_visible_bytes(tmp_path):
    tokenizer = make_tokenizer("unigram")
    found = held_out_text("The house\tand  river", tokenizer, tmp_path)
    tokens = only_batch(found, tokenizer, Masking(1.0))
    assert tokens.utf8_bytes is not None
    assert int(tokens.utf8_bytes.sum()) == len("Thehouseandriver")


def test_references_have_all_their_bytes():
    tokenizer = bytes_tokenizer()
    rows = [Prompt("say", (WIKI,)), Prompt("", ("é</s>",)), Prompt("a", ("x" * 50,))]
    table = encode_prompts(rows, tokenizer, max_length=40, max_new_tokens=30)
    assert [int(row.sum()) for row in table.response_bytes] == [24, 6, 30]
    batches = PromptBatches(table, SeededOrder((3,), (1.0,), 0), 3, 0)
    assert predicted_bytes(tokenizer, batches.read([0, 1, 2]), spaces=True) == 60
    everything = PromptBatches(table, SeededOrder((3,), (1.0,), 0), 3, 0, prompts_too=True)
    assert predicted_bytes(tokenizer, everything.read([0]), spaces=True) == 24 + len("say\n")


def test_without_text_a_special_token_has_the_bytes_of_its_name():
    tokenizer = bytes_tokenizer()
    ids = torch.tensor([[*tokenizer(WIKI)["input_ids"], tokenizer.eos_token_id]])
    assert (ids == tokenizer.unk_token_id).sum() == 2
    every = torch.ones_like(ids, dtype=torch.bool)
    assert predicted_bytes(tokenizer, Tokens(ids, every, ids, every), spaces=True) == 24

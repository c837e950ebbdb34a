"""Tokenizers have different hashes exactly if they read text differently."""

import hashlib

import pytest
from conftest import make_tokenizer
from transformers import AutoTokenizer

from limbeck.tokenization.packing import tokenizer_hash


def test_the_hash_is_that_of_the_file_if_the_file_says_everything():
    """So that tables cached by older versions are found."""
    tokenizer = make_tokenizer()
    whole = tokenizer.backend_tokenizer.to_str()
    assert tokenizer_hash(tokenizer) == hashlib.sha256(whole.encode()).hexdigest()
    tokenizer.eos_token = "[SEP]"
    assert tokenizer_hash(tokenizer) == hashlib.sha256(whole.encode()).hexdigest()


@pytest.mark.parametrize("token", ["the", "[SEP]"])
def test_special_tokens_that_only_transformers_knows_are_hashed(token):
    plain, other = make_tokenizer("byte_bpe"), make_tokenizer("byte_bpe")
    plain.backend_tokenizer.post_processor = other.backend_tokenizer.post_processor = None
    other.cls_token = token
    assert plain.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()
    assert tokenizer_hash(plain) != tokenizer_hash(other)


def test_special_tokens_of_a_folder_are_hashed(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    names = {
        tokenizer_hash(AutoTokenizer.from_pretrained(tmp_path, **special))
        for special in ({}, {"eos_token": "[SEP]"}, {"eos_token": "the"})
    }
    assert len(names) == 2  # the one between them changes nothing

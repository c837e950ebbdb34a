"""Nested tokens are parts of the teacher's tokens, for every kind of tokenizer."""

from itertools import islice

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from limbeck.data.text import TextSource, read_documents
from limbeck.demo.run import HERE
from limbeck.errors import DataError, RecipeError
from limbeck.tokenization.folders import learn_vocabulary
from limbeck.tokenization.learn import KINDS, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.nested import learn_nested


@pytest.fixture(scope="module")
def documents():
    novels = islice(read_documents(TextSource(str(HERE / "novels.txt.gz"))), 400)
    return [*novels, *["Ёжик и ёлка, кот и пёс; ночь, улица."] * 20]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_parts_of_the_teachers(documents, kind):
    teacher = learn_tokenizer(documents, blank_tokenizer(kind, lowercase=True), vocab_size=900)
    student = learn_nested(documents, teacher, vocab_size=400)
    assert len(student) == 400
    assert student.special_tokens_map == teacher.special_tokens_map
    theirs = {token.removeprefix("##") for token in teacher.get_vocab()}
    longer = [
        token
        for token, number in student.get_vocab().items()
        if number not in student.all_special_ids
        and not any(token.removeprefix("##") in whole for whole in theirs)
    ]
    assert longer == []
    text = documents[3]
    assert student.unk_token_id not in student(text)["input_ids"]
    words = [
        one.decode(one(text)["input_ids"], skip_special_tokens=True) for one in (teacher, student)
    ]
    assert words[0] == words[1]
    assert student.tokenize("ёлка улица")[0][0] in "ёеÑ▁"


def test_more_of_the_teachers_borders_are_kept(documents):
    teacher = learn_tokenizer(
        documents, blank_tokenizer("wordpiece", lowercase=True), vocab_size=900
    )
    kept = []
    for learn in (learn_tokenizer, learn_nested):
        student = learn(documents, teacher, vocab_size=400)
        starts = [
            {(n, start) for n, text in enumerate(documents) for start in _starts(one, text)}
            for one in (teacher, student)
        ]
        kept.append(len(starts[0] & starts[1]) / len(starts[0]))
    assert kept[0] < kept[1]


def _starts(tokenizer, text):
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return {start for start, _ in encoding["offset_mapping"]}


@pytest.mark.parametrize(
    ("size", "message"), [(20, "fewer than the letters"), (20_000, "the text gives")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_sizes(documents, kind, size, message):
    if kind == "bytes" and size == 20:
        size = 200
    teacher = learn_tokenizer(documents, blank_tokenizer(kind, lowercase=True), vocab_size=900)
    with pytest.raises(DataError, match=message):
        learn_nested(documents, teacher, vocab_size=size)


def test_tokens_that_mark_the_ends_of_words_are_refused():
    model = models.BPE({"a</w>": 0, "a": 1}, [], end_of_word_suffix="</w>")
    like = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model))
    with pytest.raises(DataError, match="mark the end of a word .*leave `nested` out"):
        learn_nested(["a a"], like, vocab_size=9)


def test_a_folder_of_nested_tokens(tmp_path, teacher_folder):
    text = [str(HERE / "novels.txt.gz")]
    report = learn_vocabulary(
        text,
        tmp_path / "v",
        vocab_size=100,
        like=str(teacher_folder),
        nested=True,
        characters=30_000,
    )
    assert report["tokens"] == 100 == len(load_tokenizer(str(tmp_path / "v")))
    with pytest.raises(RecipeError, match="name the model"):
        learn_vocabulary(text, tmp_path / "w", vocab_size=100, nested=True)

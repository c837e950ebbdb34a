"""The same frame is around a text in training, evaluation and export."""

import json
import re
from copy import deepcopy

import pytest
from conftest import HEADS, make_model, make_text, make_tokenizer, with_task_head
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
)

from limbeck.data.prompts import Prompt
from limbeck.data.text import TextSource
from limbeck.errors import ModelError
from limbeck.evaluation.examples import encode_example, read_example
from limbeck.evaluation.tasks import Example, Task, TaskKind
from limbeck.export.pretrained import export_student
from limbeck.tokenization.frame import frame_of
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.packing import tokenize_source
from limbeck.tokenization.post_processor import own_frame
from limbeck.tokenization.prompts import encode_prompts
from limbeck.tokenization.stored_table import HeldOut

TASK = Task("t", TaskKind.CLASSIFICATION, "accuracy", None, [], [], "dev", ("a", "b"), ())
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def bytes_of(kind, **options):
    learned = learn_tokenizer(
        make_text(100), blank_tokenizer("bytes", lowercase=False), vocab_size=300
    )
    model = json.loads(learned.backend_tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return kind(vocab=model["vocab"], merges=merges, **SPECIAL, **options)


def without_frame(kind, **special):
    tokenizer = make_tokenizer(kind)
    tokenizer.backend_tokenizer.post_processor = None
    if special:
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **special)
    return tokenizer


MADE = {
    "wordpiece": lambda: without_frame("wordpiece"),
    "unigram": lambda: without_frame("unigram"),
    "as RoBERTa": lambda: without_frame(
        "byte_bpe", cls_token="[CLS]", bos_token="[CLS]", sep_token="[SEP]", eos_token="[SEP]"
    ),
    "as T5": lambda: without_frame("unigram", eos_token="[SEP]"),
    "its own": make_tokenizer,
    "bytes": lambda: learn_tokenizer(
        make_text(100), blank_tokenizer("bytes", lowercase=False), vocab_size=300
    ),
    "GPT-2": lambda: bytes_of(GPT2Tokenizer),
    "Pythia": lambda: bytes_of(GPTNeoXTokenizer),
    "Llama": lambda: bytes_of(LlamaTokenizer, add_bos_token=True),
    "Llama without bos": lambda: bytes_of(LlamaTokenizer),
    "Llama with eos": lambda: bytes_of(LlamaTokenizer, add_bos_token=True, add_eos_token=True),
}


@pytest.fixture(params=MADE)
def tokenizer(request, tmp_path):
    MADE[request.param]().save_pretrained(tmp_path / "own")
    return load_tokenizer(str(tmp_path / "own"))


def trained_ids(lines, tokenizer, folder, *, length, packed):
    """The ids of a text of these lines, as training reads them."""
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    found = tokenize_source(
        TextSource(str(folder / "text.txt")),
        tokenizer,
        length=length,
        packed=packed,
        held_out=HeldOut(False, 0.0),
        cache=folder,
    )
    return [row.tolist() for row in found.table["input_ids"]]


def test_training_evaluation_and_export_use_the_same_frame(tokenizer, tmp_path):
    lines = make_text(20)
    ids = trained_ids(lines, tokenizer, tmp_path, length=200, packed=False)
    model = make_model("gpt2", vocabulary=len(tokenizer))
    export_student(model, tokenizer, tmp_path / "student", with_head=True, card="")
    exported = AutoTokenizer.from_pretrained(tmp_path / "student")
    for line, trained in zip(lines, ids, strict=True):
        for reader in (tokenizer, exported):
            read = encode_example(Example(text=line, label="a"), TASK, reader, 200)
            assert read.tokens["input_ids"] == trained
        assert exported(line)["input_ids"] == trained
    pair = Example(text=lines[0], text_pair=lines[1], label="a")
    for reader in (tokenizer, exported):
        read = encode_example(pair, TASK, reader, 400).tokens["input_ids"]
        assert read == exported(*lines[:2])["input_ids"]
    frame = frame_of(exported)
    assert frame == frame_of(tokenizer) and frame.begin
    if tokenizer.eos_token is not None:
        table = encode_prompts([Prompt("the", ("a",))], tokenizer, max_length=20, max_new_tokens=9)
        assert tuple(table.prompts[0][: len(frame.begin)]) == frame.begin


def test_a_model_with_a_head_reads_what_its_tokenizer_reads(tokenizer, tmp_path):
    """And so does its student, whose tokenizer is saved as it is."""
    line, other = make_text(2)
    model = with_task_head(make_model("gpt2", vocabulary=len(tokenizer)), HEADS["labels"])
    export_student(model, tokenizer, tmp_path / "student", with_head=True, card="")
    exported = load_tokenizer(str(tmp_path / "student"))
    assert own_frame(exported.backend_tokenizer) == own_frame(tokenizer.backend_tokenizer)
    for pair in (None, other):
        expected = tokenizer(line, pair)["input_ids"]
        for reader in (tokenizer, exported):
            example = Example(text=line, text_pair=pair, label="a")
            assert read_example(example, reader, 400).ids == expected
            some = read_example(example, reader, 12).ids
            assert some == reader(line, pair, truncation=True, max_length=12)["input_ids"]


@pytest.mark.parametrize(
    ("family", "head", "given"),
    [("bert", "pairs", True), ("distilbert", "pairs", False), ("bert", None, False)],
)
def test_transformers_gives_a_student_the_segments_that_it_has_learned(
    tmp_path, family, head, given
):
    """A tokenizer without a class of its own left them out, and pairs had other answers."""
    tokenizer, texts = make_tokenizer(), make_text(2)
    model = make_model(family, vocabulary=len(tokenizer))
    model = with_task_head(model, HEADS[head]) if head else model
    export_student(model, tokenizer, tmp_path / "student", with_head=True, card="")
    exported = AutoTokenizer.from_pretrained(tmp_path / "student")
    found = exported(*texts).get("token_type_ids")
    assert (found is not None) == given
    pair = Example(text=texts[0], text_pair=texts[1])
    if given:
        assert found == read_example(pair, exported, 400, segments=2).types and max(found) == 1
        padded = exported(["a", texts], padding=True)["token_type_ids"]
        assert len(padded[0]) == len(padded[1])


def test_exporting_does_not_change_the_tokenizer_of_the_run(tokenizer, tmp_path):
    before = tokenizer.backend_tokenizer.to_str()
    model = make_model("gpt2", vocabulary=len(tokenizer))
    export_student(model, tokenizer, tmp_path / "student", with_head=True, card="")
    assert tokenizer.backend_tokenizer.to_str() == before


def test_the_frame_of_a_learned_vocabulary_has_its_ids():
    """transformers keeps the old ids if the frame is one of several steps, as in Llama 3."""
    like = bytes_of(GPT2Tokenizer)
    like.add_special_tokens({"bos_token": "<|begin|>"})
    template = processors.TemplateProcessing(
        single="<|begin|> $A",
        pair="<|begin|> $A <|begin|> $B",
        special_tokens=[("<|begin|>", like.bos_token_id)],
    )
    steps = [processors.ByteLevel(trim_offsets=True), template]
    like.backend_tokenizer.post_processor = processors.Sequence(steps)
    learned = learn_tokenizer(make_text(100), like, vocab_size=290)
    assert learned("the")["input_ids"][0] == learned.bos_token_id != like.bos_token_id


TEMPLATE = processors.TemplateProcessing(
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B:1 [SEP]:1",
    special_tokens=[("[CLS]", 7), ("[SEP]", 2), ("[MASK]", 9)],
)


@pytest.mark.parametrize(
    "frame",
    [
        TEMPLATE,
        processors.Sequence([processors.ByteLevel(), TEMPLATE]),
        processors.BertProcessing(("[SEP]", 2), ("[CLS]", 7)),
        processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 7)),
    ],
    ids=["template", "steps", "bert", "roberta"],
)
def test_a_frame_with_the_ids_of_other_tokens_is_refused(frame, tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = frame
    tokenizer.save_pretrained(tmp_path)
    other = tokenizer.convert_ids_to_tokens(7)
    message = rf"'\[CLS\]' the id 7 \('{re.escape(other)}'\), .* has 1: every text"
    with pytest.raises(ModelError, match=message) as error:
        load_tokenizer(str(tmp_path))
    assert "SEP" not in str(error.value) and "MASK" not in str(error.value)


def test_a_frame_of_missing_tokens_is_refused(tmp_path):
    tokenizer = make_tokenizer()
    frame = processors.TemplateProcessing(single="<s> $A", pair=None, special_tokens=[("<s>", 8)])
    tokenizer.backend_tokenizer.post_processor = frame
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="'<s>' the id 8 .* has no such token"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
def test_saved_sides_truncation_and_padding_change_nothing(kind, tmp_path):
    plain = make_tokenizer(kind)
    plain.eos_token = "[SEP]"
    odd = deepcopy(plain)
    odd.padding_side = odd.truncation_side = "left"
    odd.backend_tokenizer.enable_truncation(4, direction="left")
    odd.backend_tokenizer.enable_padding(length=32, direction="left")
    text, other = make_text(2)
    tables = []
    for place, tokenizer in (("plain", plain), ("odd", odd)):
        ids = trained_ids((text, other), tokenizer, tmp_path / place, length=64, packed=True)
        prompts = encode_prompts(
            [Prompt(text, (other,))], tokenizer, max_length=99, max_new_tokens=50
        )
        rows = [
            encode_example(Example(text=text, text_pair=second, label="a"), TASK, tokenizer, limit)
            for second in (None, other, "the")
            for limit in (5, 8, 200)
        ]
        told = [prompts.prompts[0].tolist(), prompts.responses[0].tolist()]
        tables.append((ids, told, rows, frame_of(tokenizer)))
    assert tables[0] == tables[1]


def test_pairs_are_truncated_as_transformers_truncates_them():
    tokenizer, (text, other) = make_tokenizer(), make_text(2)
    for second in (None, other, "the red", f"{other} {other}"):
        for limit in (3, 4, 5, 9, 12, 25, 200):
            example = Example(text=text, text_pair=second, label="a")
            found = encode_example(example, TASK, tokenizer, limit).tokens["input_ids"]
            assert found == tokenizer(text, second, truncation=True, max_length=limit)["input_ids"]


def test_without_any_special_token_there_is_no_frame():
    backend = Tokenizer(models.WordLevel({"the": 0, "?": 1}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    frame = frame_of(tokenizer)
    assert (frame.first, frame.last, frame.begin) == ((), (), (0,))
    for text in ("", " ", "\x00"):
        found = encode_example(Example(text=text, label="a"), TASK, tokenizer, 9)
        assert len(found.tokens["input_ids"]) == len(found.tags) == 1

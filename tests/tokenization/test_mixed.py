"""Mixed sequences: each word is whole in the vocabulary of its coin, masked alike, repeatable."""

import numpy as np
import pytest
import torch
from conftest import make_text, make_tokenizer, rows_are_those_of_the_whole

from limbeck.data.corpus import SeededOrder
from limbeck.data.text import TextSource
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.masking import Masking
from limbeck.tokenization.mixed import MixedBatches, mix_words
from limbeck.tokenization.stored_table import HeldOut
from limbeck.tokenization.two_tokenizations import tokenize_twice
from limbeck.tokenization.word_runs import TokenizedBy

LENGTH, FIRST = 24, 1000


@pytest.fixture(scope="module")
def teacher():
    return make_tokenizer(vocabulary=150)


@pytest.fixture(scope="module", params=["wordpiece", "unigram"])
def student(request):
    size = {"wordpiece": 95, "unigram": 55}[request.param]
    return learn_tokenizer(
        make_text(300), blank_tokenizer(request.param, lowercase=True), vocab_size=size
    )


def by_both(lines, teacher, student, folder):
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    return tokenize_twice(
        TextSource(str(folder / "text.txt")),
        teacher,
        student,
        length=LENGTH,
        held_out=HeldOut(False, 0.0),
        cache=folder / "cache",
    )


@pytest.fixture
def sequences(teacher, student, tmp_path):
    lines = [*make_text(60), "the 猫 house", "never 日本 always"]
    return by_both(lines, teacher, student, tmp_path)


def test_sequences_fit_for_all_coin_flips(sequences):
    for row in sequences.table:
        teacher, student = row["teacher_lengths"], row["student_lengths"]
        assert len(teacher) == len(student) == len(row["cuts"])
        assert sum(teacher) == len(row["teacher_ids"]) and sum(student) == len(row["student_ids"])
        assert np.maximum(teacher, student).sum() <= LENGTH
        assert row["cuts"][0] == row["cuts"][-1] == TokenizedBy.FRAME


def test_a_text_without_spaces_is_not_too_long(tmp_path):
    text = "東京は日本の首都であり、" * 10
    student = learn_tokenizer([text] * 9, blank_tokenizer("bytes", lowercase=False), vocab_size=280)
    found = by_both([text] * 9, student, student, tmp_path)
    assert found.counts["too_long"] == 0 and found.counts["words"] > 9 * 15
    read = sum(len(ids) for ids in found.table["teacher_ids"])
    assert read > 0.9 * 9 * len(student(text, add_special_tokens=False)["input_ids"])


def test_all_of_the_text_is_there_in_both_tokenizations(sequences, teacher, student):
    lines = make_text(60)
    for name, tokenizer in (("teacher_ids", teacher), ("student_ids", student)):
        stream = [
            i for line in lines for i in tokenizer(line, add_special_tokens=False)["input_ids"]
        ]
        frame = {tokenizer.cls_token_id, tokenizer.sep_token_id}
        packed = [int(i) for row in sequences.table[name] for i in row if i not in frame]
        assert packed[: len(stream) - LENGTH] == stream[: len(stream) - LENGTH]


def test_words_that_a_tokenizer_does_not_know_are_counted(sequences):
    assert sequences.counts["words"] > 500
    assert sequences.counts["too_long"] == 0
    # Neither knows the foreign letters, so the words stay as they are for both.
    assert sequences.counts["to_teacher"] == sequences.counts["to_student"] == 0


def test_words_that_only_one_knows_are_left_to_it(teacher, tmp_path):
    latin = learn_tokenizer(
        ["the old house garden river. stone letter"] * 50,
        blank_tokenizer("wordpiece", lowercase=True),
        vocab_size=58,
    )
    found = by_both(["the красный house"] * 40, teacher, latin, tmp_path)
    assert found.counts["to_teacher"] == 40
    row = found.table[0]
    ids = mix_words(row, np.ones(len(row["cuts"]), dtype=bool), student_from=FIRST).ids
    red = teacher("красный", add_special_tokens=False)["input_ids"]
    assert [int(i) for i in ids if i < FIRST][: len(red)] == red


def test_every_word_is_whole_in_the_vocabulary_of_its_coin(sequences):
    chance = np.random.default_rng(0)
    for row in sequences.table:
        heads = chance.random(len(row["cuts"])) < 0.5
        mixed = mix_words(row, heads, student_from=FIRST)
        expected, flags, t, s = [], [], 0, 0
        for coin, of_teacher, of_student in zip(
            heads, row["teacher_lengths"], row["student_lengths"], strict=True
        ):
            tokens = (
                [int(i) + FIRST for i in row["student_ids"][s : s + of_student]]
                if coin
                else [int(i) for i in row["teacher_ids"][t : t + of_teacher]]
            )
            expected += tokens
            flags += [n > 0 for n in range(len(tokens))]
            t, s = t + of_teacher, s + of_student
        assert mixed.ids.tolist() == expected
        assert mixed.continues.tolist() == flags
        assert mixed.framing[[0, -1]].all()


@pytest.fixture
def batches(sequences, teacher, student):
    def make(**options):
        settings = {
            "table": sequences.table,
            "order": SeededOrder((len(sequences.table),), (1.0,), 0),
            "teacher": teacher,
            "student": student,
            "student_from": FIRST,
            "size": 4,
            "masking": Masking(),
            "shares": [0.5],
            "seed": 3,
        }
        return MixedBatches(**{**settings, **options})

    return make


def test_batches_are_functions_of_seed_and_number(batches):
    first, again = batches().batch(5).student, batches().batch(5).student
    assert first.input_ids.equal(again.input_ids) and first.predicted.equal(again.predicted)
    assert not batches().batch(6).student.labels.equal(first.labels)
    assert not batches(seed=4).batch(5).student.input_ids.equal(first.input_ids)


def test_rows_do_not_depend_on_the_other_rows(batches):
    rows_are_those_of_the_whole(batches(), 5)


def test_the_share_of_heads_follows_the_schedule(batches):
    shares = []
    for share in (0.2, 0.8):
        source = batches(shares=[share], size=8)
        labels = [source.batch(n).student for n in range(20)]
        heads = sum(int((t.labels >= FIRST).sum()) for t in labels)
        shares.append(heads / sum(int(t.mask.sum()) for t in labels))
    assert shares[0] < 0.35 and shares[1] > 0.75
    ramp = batches(shares=[0.0, 1.0])
    tokens = [ramp.batch(n).student for n in (0, 1, 7)]
    kinds = [t.labels[t.mask] >= FIRST for t in tokens]
    assert not kinds[0].any() and kinds[1].all() and kinds[2].all()


def test_both_vocabularies_are_masked_alike_with_their_mask_tokens(batches, teacher, student):
    source = batches(size=16, masking=Masking(mlm_probability=0.5))
    hidden = {"teacher": 0, "student": 0}
    seen = {"teacher": 0, "student": 0}
    frame = [teacher.cls_token_id, teacher.sep_token_id]
    frame += [FIRST + student.cls_token_id, FIRST + student.sep_token_id]
    for number in range(60):
        tokens = source.batch(number).student
        of_student = tokens.labels >= FIRST
        framing = torch.from_numpy(np.isin(tokens.labels, frame))
        masks = {"teacher": teacher.mask_token_id, "student": FIRST + student.mask_token_id}
        for kind, where in (("teacher", ~of_student), ("student", of_student)):
            here = where & tokens.predicted
            assert not (tokens.input_ids[here] >= FIRST).ne(kind == "student").any()
            hidden[kind] += int((tokens.input_ids[here] == masks[kind]).sum())
            seen[kind] += int((where & tokens.mask & ~framing).sum())
        assert not tokens.predicted[framing].any()
        assert not tokens.predicted[~tokens.mask].any()
    shares = [hidden[kind] / seen[kind] for kind in hidden]
    assert shares == pytest.approx([0.4, 0.4], abs=0.03)

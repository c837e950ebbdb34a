"""Links between two vocabularies: linked tokens are the same text, for every pair of kinds."""

import datasets
import numpy as np
import pytest
import torch
from conftest import make_text, rows_are_those_of_the_whole

from limbeck.data.corpus import SeededOrder
from limbeck.data.text import TextSource
from limbeck.tokenization.aligned import AlignedBatches
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.masking import Masking
from limbeck.tokenization.spelling import Spelling, spellings, unspelled
from limbeck.tokenization.stored_table import HeldOut
from limbeck.tokenization.token_map import map_tokens
from limbeck.tokenization.two_tokenizations import tokenize_twice

TEXT = [*make_text(80), "the 猫 house", "never 日本 always"]


def learned(kind, size):
    return learn_tokenizer(make_text(300), blank_tokenizer(kind, lowercase=False), vocab_size=size)


@pytest.fixture(params=[("wordpiece", "wordpiece"), ("wordpiece", "unigram"), ("unigram",) * 2])
def pair(request):
    sizes = {"wordpiece": (150, 95), "unigram": (90, 60)}
    kinds = request.param
    return learned(kinds[0], sizes[kinds[0]][0]), learned(kinds[1], sizes[kinds[1]][1])


@pytest.fixture
def batches(pair, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(TEXT), encoding="utf-8")
    teacher, student = pair

    def made(kind, positions=80, **options):
        found = tokenize_twice(
            TextSource(str(tmp_path / "text.txt")),
            teacher,
            student,
            length=40,
            held_out=HeldOut(False, 0.0),
            cache=tmp_path / "cache",
            finest=True,
        )
        given = {"masking": Masking(), "teacher_input": "everything", **options}
        return AlignedBatches(
            table=datasets.concatenate_datasets([found.table]),
            order=SeededOrder((len(found.table),), (1.0,), 0),
            teacher=teacher,
            student=student,
            tokens=map_tokens(teacher, student),
            kind=kind,
            size=4,
            positions=positions,
            seed=0,
            **given,
        )

    return made


def letters_of(tokenizer):
    marks = {n: key.letters for key, n in unspelled(tokenizer).items() if isinstance(key, Spelling)}
    return marks | {number: spelled.letters for spelled, number in spellings(tokenizer).items()}


def members(ids, groups, number):
    return [int(i) for i, g in zip(ids, groups, strict=True) if g == number]


@pytest.mark.parametrize("kind", ["match", "reduce"])
def test_linked_tokens_are_the_same_text(pair, batches, kind):
    teacher, student = map(letters_of, pair)
    linked = 0
    for number in range(4):
        batch = batches(kind).batch(number)
        links = batch.links
        mine = batch.student.labels if links.view is None else links.view.input_ids
        for text in range(4):
            count = int(links.groups.mask[text].sum())
            assert links.groups.mask[text, :count].all()
            for group in range(count):
                theirs = members(batch.teacher.labels[text], links.teacher[text], group)
                ours = members(mine[text], links.student[text], group)
                assert len(theirs) == 1 and (kind == "reduce" or len(ours) == 1)
                assert "".join(student[i] for i in ours) == teacher[theirs[0]]
                linked += 1
            for groups, tokens in ((links.teacher, batch.teacher), (links.student, links.view)):
                if tokens is not None:
                    assert not (tokens.predicted[text] & ~tokens.mask[text]).any()
                order = groups[text][groups[text] >= 0]
                assert (order.diff() >= 0).all() and set(order.tolist()) == set(range(count))
    assert linked > 100


def test_matched_tokens_are_at_the_same_characters(pair, batches):
    """The tokens between two matched ones have the same letters, except marks and spaces."""
    teacher, student = map(letters_of, pair)
    batch = batches("match").batch(0)
    for text in range(4):
        between = [{}, {}]
        sides = (
            (batch.teacher, batch.links.teacher, teacher),
            (batch.student, batch.links.student, student),
        )
        for side, (tokens, groups, letters) in zip(between, sides, strict=True):
            here = -1
            for token, group in zip(tokens.labels[text], groups[text], strict=True):
                here = max(here, int(group))
                side[here] = side.get(here, "") + letters.get(int(token), "")
        assert len(between[0]) > 2
        assert between[0] == between[1]


def test_the_teacher_reads_everything_or_the_same_masks(batches, pair):
    plain = batches("match").batch(1)
    hidden = batches("match", teacher_input="masked").batch(1)
    assert torch.equal(plain.student.input_ids, hidden.student.input_ids)
    assert torch.equal(plain.teacher.input_ids, plain.teacher.labels)
    teacher, student = pair
    changed = hidden.teacher.input_ids != hidden.teacher.labels
    assert changed.any() and (hidden.teacher.input_ids[changed] == teacher.mask_token_id).all()
    for text in range(4):
        for group in range(int(hidden.links.groups.mask[text].sum())):
            mine = hidden.student.predicted[text][hidden.links.student[text] == group]
            theirs = hidden.teacher.input_ids[text][hidden.links.teacher[text] == group]
            assert mine.any() == (theirs == teacher.mask_token_id).any()
    assert student.mask_token_id in plain.student.input_ids


def test_whole_words_are_masked(batches, pair):
    batch = batches(
        "match",
        masking=Masking(mlm_probability=0.3, mask_replace_prob=1.0, random_replace_prob=0.0),
    ).batch(0)
    text = pair[1].decode(batch.student.labels[0][batch.student.mask[0]])
    assert text
    predicted = batch.student.predicted
    assert 0 < predicted.sum() < batch.student.mask.sum()
    assert (batch.student.input_ids[predicted] == pair[1].mask_token_id).all()


def test_without_masking_every_token_is_read(batches):
    student = batches("match", masking=None).batch(0).student
    assert torch.equal(student.input_ids, student.labels) and not student.predicted.any()


def test_a_view_is_no_longer_than_the_position_table(batches):
    links = batches("reduce", positions=12).batch(0).links
    assert links.view.input_ids.shape[1] == 12
    assert int(links.student.max()) == int(links.teacher.max())
    whole = batches("reduce").batch(0).links
    assert whole.groups.mask.sum() > links.groups.mask.sum()


def test_batches_are_a_function_of_their_number(batches):
    one, two = batches("reduce").batch(3), batches("reduce").batch(3)
    assert torch.equal(one.student.input_ids, two.student.input_ids)
    assert torch.equal(one.links.student, two.links.student)
    assert one.rows(1, 3).links.view.input_ids.shape[0] == 2


@pytest.mark.parametrize("kind", ["match", "reduce"])
def test_rows_do_not_depend_on_the_other_rows(batches, kind):
    rows_are_those_of_the_whole(batches(kind, teacher_input="masked"), 2)


def test_every_token_of_the_teacher_is_spelled_by_those_of_the_student(pair):
    teacher, student = pair
    tokens = map_tokens(teacher, student)
    mine, theirs = letters_of(student), letters_of(teacher)
    for number, letters in theirs.items():
        parts = tokens.parts[tokens.offsets[number] : tokens.offsets[number + 1]].tolist()
        assert tokens.spellable[number]
        assert "".join(mine[part] for part in parts) == letters
        if tokens.same[number] >= 0:
            assert parts == [tokens.same[number]]
    assert tokens.same[teacher.mask_token_id] == student.mask_token_id
    assert (np.diff(tokens.offsets) == tokens.lengths).all()

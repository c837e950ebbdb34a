import pytest
import torch
from conftest import make_model, make_text, make_tokenizer
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from transformers import PreTrainedTokenizerFast

from limbeck.errors import StudentError
from limbeck.student.embedding_init import (
    kept_tokens,
    mean_of_containing_tokens,
    mean_of_teacher_tokens,
    set_embeddings,
)
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.spelling import Spelling, spellings
from limbeck.tokenization.token_map import map_tokens


@pytest.fixture(scope="module")
def tokenizers():
    blank = blank_tokenizer("wordpiece", lowercase=True)
    return make_tokenizer(vocabulary=120), learn_tokenizer(make_text(300), blank, vocab_size=190)


def test_tokens_of_both_keep_their_row_and_others_get_the_mean(tokenizers):
    teacher, student = tokenizers
    torch.manual_seed(0)
    table = torch.randn(len(teacher), 12)
    rows = mean_of_teacher_tokens(table, teacher, student)
    known, named = spellings(teacher), spellings(student)
    new = 0
    for spelling, number in named.items():
        if spelling in known:
            assert torch.equal(rows[number], table[known[spelling]])
            continue
        tokens = teacher(spelling.letters, add_special_tokens=False)["input_ids"]
        if teacher.unk_token_id not in tokens:
            torch.testing.assert_close(rows[number], table[tokens].mean(0))
            new += 1
    assert new > 10 and Spelling("e", False) in known
    for role in ("cls_token_id", "sep_token_id", "mask_token_id", "pad_token_id"):
        assert torch.equal(rows[getattr(student, role)], table[getattr(teacher, role)])


def test_special_tokens_keep_the_row_of_their_role_and_unknown_letters_get_the_mean(tokenizers):
    teacher, _ = tokenizers
    blank = blank_tokenizer("wordpiece", lowercase=True)
    own = learn_tokenizer([*make_text(300), "ξεν ξεν"], blank, vocab_size=150)
    renamed = own.backend_tokenizer.to_str().replace("[MASK]", "<mask>")
    roles = own.special_tokens_map | {"mask_token": "<mask>"}
    student = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(renamed), **roles)
    torch.manual_seed(0)
    table = torch.randn(len(teacher) + 3, 12)
    table[-3:] = 1e6  # rows without a token
    rows = mean_of_teacher_tokens(table, teacher, student)
    assert torch.equal(rows[student.mask_token_id], table[teacher.mask_token_id])
    unknown = student.convert_tokens_to_ids("ξ")
    assert unknown != student.unk_token_id
    torch.testing.assert_close(rows[unknown], table[:-3].mean(0))


@pytest.mark.parametrize("counted", [False, True])
def test_means_of_the_tokens_that_contain_one(tokenizers, counted):
    student, teacher = tokenizers  # the larger one
    torch.manual_seed(0)
    table = torch.randn(len(teacher), 12)
    counts = torch.randint(0, 50, (len(teacher),)) if counted else None
    tokens = map_tokens(teacher, student)
    means = mean_of_teacher_tokens(table, teacher, student)
    rows, total = mean_of_containing_tokens(table, tokens, means, counts=counts)
    several = 0
    for token in range(len(student)):
        weight, sums = 0, torch.zeros(12)
        for number in range(len(teacher)):
            parts = tokens.parts[tokens.offsets[number] : tokens.offsets[number + 1]]
            for part in parts if tokens.spellable[number] else ():
                if part == token:
                    once = int(counts[number]) if counted else 1
                    weight += once
                    sums += once * table[number]
        assert float(total[token]) == weight
        expected = sums / weight if weight else means[token]
        torch.testing.assert_close(rows[token], expected)
        several += weight > 1
    assert several > 20


def test_parts_taken_a_few_at_a_time_give_the_same_rows(tokenizers, monkeypatch):
    student, teacher = tokenizers  # the larger one
    tokens = map_tokens(teacher, student)
    chance = torch.Generator().manual_seed(0)
    table = torch.randn(len(tokens.same), 8, generator=chance)
    otherwise = torch.randn(max(student.get_vocab().values()) + 1, 8, generator=chance)
    at_once = mean_of_containing_tokens(table, tokens, otherwise)
    monkeypatch.setattr("limbeck.student.embedding_init._PARTS_AT_ONCE", 3)
    few = mean_of_containing_tokens(table, tokens, otherwise)
    assert all(torch.equal(one, other) for one, other in zip(at_once, few, strict=True))


def test_frequent_tokens_decide_the_directions():
    torch.manual_seed(0)
    rows = torch.randn(50, 24)
    rows[:10, 16:] = 0.0  # the frequent tokens lie in sixteen directions
    weights = torch.cat([torch.full((10,), 1e6), torch.ones(40)])
    student = make_model(vocabulary=50, hidden=16)
    set_embeddings(student, rows, weights=weights)
    found = student.get_input_embeddings().weight.detach()[:10]
    apart = [(some[:, None] - some[None]).norm(dim=-1) for some in (found, rows[:10])]
    torch.testing.assert_close(*apart, rtol=1e-3, atol=1e-3)


def test_narrower_tables_take_the_main_directions():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(24, 24)).Q
    rows = torch.randn(50, 16) @ basis[:16] + 3.0  # lies in as many directions as the student has
    student = make_model(vocabulary=50, hidden=16)
    set_embeddings(student, rows)
    found = student.get_input_embeddings().weight.detach()
    apart = [(some[:, None] - some[None]).norm(dim=-1) for some in (found, rows)]
    torch.testing.assert_close(*apart, rtol=1e-4, atol=1e-4)


def test_wider_tables_are_refused():
    with pytest.raises(StudentError, match="24 coordinates and the teacher's 16"):
        set_embeddings(make_model(vocabulary=50), torch.zeros(50, 16))


def test_a_decoder_keeps_what_begins_and_ends_a_text():
    blank = blank_tokenizer("bytes", lowercase=False)
    teacher, student = (learn_tokenizer(make_text(200), blank, vocab_size=n) for n in (300, 275))
    torch.manual_seed(0)
    table = torch.randn(len(teacher), 12)
    rows = mean_of_teacher_tokens(table, teacher, student)
    for role in ("bos_token_id", "eos_token_id"):
        assert torch.equal(rows[getattr(student, role)], table[getattr(teacher, role)])


def test_bytes_and_special_tokens_of_both_keep_their_row():
    """Half of a letter, a space alone and what begins a turn are in no spelling."""
    blank = blank_tokenizer("bytes", lowercase=False)
    texts = make_text(200)
    teacher, student = (learn_tokenizer(texts, blank, vocab_size=n) for n in (300, 330))
    for tokenizer in (teacher, student):
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    torch.manual_seed(0)
    table = torch.randn(len(teacher), 12)
    rows = mean_of_teacher_tokens(table, teacher, student)
    theirs, mine = teacher.get_vocab(), student.get_vocab()
    shared = theirs.keys() & mine.keys()
    assert {"<|turn|>", "Ġ", "Ð"} <= shared and len(shared) > 256
    for name in shared:
        assert torch.equal(rows[mine[name]], table[theirs[name]]), name
    kept = {str(name) for name in student.convert_ids_to_tokens(kept_tokens(teacher, student))}
    assert {"<|turn|>", "<s>", "Ġ", "Ð"} <= kept <= shared and "t" not in kept
    half = [name for name in mine.keys() - shared if "\ufffd" in ByteLevel().decode([name])]
    assert len(half) > 5
    for name in half:  # as merges make it of letters that stand for bytes
        tokens = [token.id for token in teacher.backend_tokenizer.model.tokenize(name)]
        torch.testing.assert_close(rows[mine[name]], table[tokens].mean(0))

import json

import numpy as np
import pytest
from conftest import make_model, make_text, make_tokenizer, rows_are_those_of_the_whole
from transformers import AutoTokenizer

from limbeck.data.corpus import SeededOrder
from limbeck.data.text import TextSource
from limbeck.errors import DataError, ModelError
from limbeck.token_ids import TokenIds
from limbeck.tokenization.batching import Batches, collate
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.masking import Masking, mask_tokens
from limbeck.tokenization.packing import tokenize_source
from limbeck.tokenization.stored_table import HeldOut


def tokenized(text_file, tokenizer, cache, **options):
    settings = {
        "length": 16,
        "packed": True,
        "held_out": False,
        "share": 0.1,
        "cache": cache,
    }
    settings |= options
    settings["held_out"] = HeldOut(settings["held_out"], settings.pop("share"))
    return tokenize_source(TextSource(str(text_file)), tokenizer, **settings)


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe", "unigram"])
def test_packing_keeps_every_token_in_order(tmp_path, kind):
    tokenizer = make_tokenizer(kind)
    lines = make_text(40)
    file = tmp_path / "text.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    found = tokenized(file, tokenizer, tmp_path, share=0.0)
    stream = [
        token for text in lines for token in tokenizer(text, add_special_tokens=False).input_ids
    ]
    packed = [int(i) for row in found.table["input_ids"] for i in row[1:-1]]
    separators = packed.count(tokenizer.sep_token_id)
    assert len(lines) // 2 < separators < len(lines)  # none where a document ends a sequence
    packed = [token for token in packed if token != tokenizer.sep_token_id]
    assert packed == stream[: len(packed)]
    assert len(stream) - len(packed) <= found.truncated_tokens < 14
    assert all(len(row) == 16 for row in found.table["input_ids"])
    assert all(row[0] == tokenizer.cls_token_id for row in found.table["input_ids"])
    assert found.tokens == 16 * len(found.table)
    assert found.utf8_bytes == sum(len(line.encode()) for line in lines)


def test_unpacked_documents_are_truncated_and_counted(text_file, tokenizer, tmp_path):
    found = tokenized(text_file, tokenizer, tmp_path, packed=False)
    lengths = [len(row) for row in found.table["input_ids"]]
    assert max(lengths) == 16 and min(lengths) < 16
    assert found.truncated_tokens > 0


def test_held_out_text_is_separate_and_the_cache_is_used(text_file, tokenizer, tmp_path):
    learned = tokenized(text_file, tokenizer, tmp_path, packed=False)
    held_out = tokenized(text_file, tokenizer, tmp_path, packed=False, held_out=True)
    assert len(learned.table) + len(held_out.table) == 600
    assert 20 < len(held_out.table) < 120
    before = sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("*.arrow"))
    tokenized(text_file, tokenizer, tmp_path, packed=False)
    assert sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("*.arrow")) == before


def test_a_build_that_was_interrupted_is_built_again(text_file, tokenizer, tmp_path):
    whole = tokenized(text_file, tokenizer, tmp_path)
    facts = next(tmp_path.rglob("facts.json"))
    facts.unlink()
    again = tokenized(text_file, tokenizer, tmp_path)
    assert len(again.table) == len(whole.table) and facts.exists()


def test_too_little_text_says_so(tmp_path, tokenizer):
    file = tmp_path / "short.txt"
    file.write_text("one line\n", encoding="utf-8")
    with pytest.raises(DataError, match="gives no held-out sequence of 16 .* a larger held_out"):
        tokenized(file, tokenizer, tmp_path / "cache", held_out=True)


def test_less_text_than_a_sequence_gives_a_shorter_one(tmp_path, tokenizer):
    """A single held-out line would otherwise be removed completely."""
    file = tmp_path / "short.txt"
    file.write_text("the old house\nthe red garden\nnever\n", encoding="utf-8")
    sides = [tokenized(file, tokenizer, tmp_path, held_out=side) for side in (True, False)]
    assert [len(side.table) for side in sides] == [1, 1]
    assert [side.truncated_tokens for side in sides] == [0, 0]
    rows = [list(side.table[0]["input_ids"]) for side in sides]
    assert sorted(map(len, rows))[-1] < 16
    said = " ".join(tokenizer.decode(row, skip_special_tokens=True) for row in rows)
    assert sorted(said.split()) == sorted("the old house the red garden never".split())


def test_words_are_masked_whole_and_in_the_right_share():
    chance = np.random.default_rng(0)
    tokens = chance.integers(10, 100, (200, 50))
    continues = chance.random((200, 50)) < 0.4
    continues[:, 0] = False
    maskable = np.ones((200, 50), dtype=np.bool_)
    maskable[:, -5:] = False
    seen, predicted = mask_tokens(
        tokens,
        continues,
        maskable,
        [np.random.default_rng((1, row)) for row in range(200)],
        masking=Masking(),
        mask_id=4,
        random_ids=TokenIds(100).at,
    )
    assert 0.13 < predicted[:, :-5].mean() < 0.17
    assert not predicted[:, -5:].any()
    inside = continues[:, 1:-5]
    assert (predicted[:, 1:-5][inside] == predicted[:, :-6][inside]).all()
    fate = seen[predicted]
    assert 0.75 < (fate == 4).mean() < 0.85
    assert 0.07 < (fate == tokens[predicted]).mean() < 0.14
    assert (seen[~predicted] == tokens[~predicted]).all()


def test_a_text_without_spaces_is_not_masked_as_one_word(tmp_path):
    tokenizer = make_tokenizer("unigram")
    (tmp_path / "text.txt").write_text("猫日本" * 9 + "\nthe house\n", encoding="utf-8")
    backend = tokenizer.backend_tokenizer
    assert {*backend.encode("猫日本", add_special_tokens=False).word_ids} == {0}
    table = tokenized(tmp_path / "text.txt", tokenizer, tmp_path, length=8, share=0.0).table
    assert not table["continues"][0][3:].any()  # before it, the mark of a space and its letter


def test_batches_are_a_function_of_seed_and_number(text_file, tokenizer, tmp_path):
    table = tokenized(text_file, tokenizer, tmp_path).table
    order = SeededOrder((len(table),), (1.0,), seed=3)

    def batches(seed):
        return Batches(table, order, tokenizer, size=4, masking=Masking(), seed=seed)

    one, same, other = (batches(s).batch(7).student for s in (3, 3, 4))
    assert one.input_ids.equal(same.input_ids) and one.predicted.equal(same.predicted)
    assert one.labels.equal(other.labels) and not one.predicted.equal(other.predicted)
    special = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
    assert not np.isin(one.labels[one.predicted], special).any()


def test_rows_do_not_depend_on_the_other_rows(text_file, tokenizer, tmp_path):
    table = tokenized(text_file, tokenizer, tmp_path).table
    order = SeededOrder((len(table),), (1.0,), seed=3)
    source = Batches(table, order, tokenizer, size=5, masking=Masking(), seed=3)
    rows_are_those_of_the_whole(source, 7)


def test_padding_is_not_real_even_if_pad_is_another_special_token(tokenizer):
    pad = tokenizer.pad_token_id
    rows = [np.array([1, 7, pad, 8]), np.array([1, 9])]  # a real token that looks like padding
    flags = [np.zeros(len(row), dtype=np.bool_) for row in rows]
    batch = collate(rows, flags, tokenizer, [], masking=None)
    assert batch.student.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.one_vocabulary
    assert not batch.student.predicted.any()


def test_tokens_that_only_a_class_of_transformers_adds_are_left_out(tmp_path):
    """Qwen 2's class is used whatever tokenizer_config.json says, and adds an end of text."""
    blank = blank_tokenizer("bytes", lowercase=False)
    learned = learn_tokenizer(make_text(200), blank, vocab_size=300)
    make_model("qwen2", vocabulary=300).save_pretrained(tmp_path)
    learned.save_pretrained(tmp_path)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == 301
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.get_vocab() == learned.get_vocab()
    assert loaded("quietly never").input_ids == learned("quietly never").input_ids
    learned.add_tokens(["<kept>"])
    learned.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).convert_tokens_to_ids("<kept>") == 300


def test_an_id_beyond_all_vocabularies_is_refused(tmp_path):
    """Whatever lists all ids up to it took half a minute."""
    make_tokenizer().save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    raw = json.loads(file.read_text(encoding="utf-8"))
    raw["model"]["vocab"]["house"] = 2**31
    file.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(ModelError, match=f"gives 'house' the id {2**31}, and a vocabulary has"):
        load_tokenizer(str(tmp_path))


def test_a_name_that_is_no_folder_and_not_on_the_hub_says_what_to_give():
    with pytest.raises(ModelError, match=r"'no-such-folder': .*[^.]; give a folder .* or a hub"):
        load_tokenizer("no-such-folder")

"""Words replaced by a masked language model, against plain loops over a tiny one."""

import numpy as np
import pytest
import torch
from conftest import make_model, make_text, make_tokenizer

from limbeck.augmentation.masked_words import load_masked_model, replaced
from limbeck.augmentation.row_texts import Words
from limbeck.augmentation.settings import AugmentSettings
from limbeck.augmentation.word_tokens import in_case_of, word_tokens
from limbeck.errors import ModelError
from limbeck.models.load import load_model

EXACT = {"precision": "float32", "device": "cpu"}
TEXTS = [
    *make_text(6, seed=5),
    "The OLD gardenriver, 12 mp3s (red) it 's don't!",
    "Красный дом; старый сад",
    "river",
]


def masked_model(folder, **settings):
    return load_masked_model(str(folder), AugmentSettings(masked="", **EXACT | settings))


def folder_of(path, kind: str, family: str = "bert"):
    tokenizer = make_tokenizer(kind)
    make_model(family, vocabulary=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def by_hand(model, tokenizer, text: Words, place: int, top_k: int) -> tuple[str, ...]:
    """Candidates of a place: the text is masked there and at the places in step with it."""
    step = min(5, len(text.places))
    hidden = text.places[text.places.index(place) % step :: step]
    masked = "".join("[MASK]" if n in hidden else part for n, part in enumerate(text.parts))
    inputs = tokenizer(masked, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    at = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[hidden.index(place)]
    word = text.parts[place]
    own = tokenizer.tokenize(word)  # the tokenizer of BERT takes the mark off й
    found: list[str] = []
    for number in logits[at[0]].argsort(descending=True).tolist():
        token = tokenizer.convert_ids_to_tokens(number)
        letters = token.removeprefix("Ġ").removeprefix("▁")
        begins = not token.startswith("##") if token == letters else True
        if tokenizer.backend_tokenizer.pre_tokenizer.__class__.__name__ != "BertPreTokenizer":
            begins = token != letters
            letters = tokenizer.decode([number]).strip()
        special = number in tokenizer.all_special_ids
        same = own == [token] or letters.lower() == word.lower()
        if begins and letters.isalpha() and not special and not same:
            found.append(in_case_of(word, letters))
    return tuple(found[:top_k])


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "byte_bpe"])
def test_candidates_are_those_of_a_plain_loop(tmp_path, kind):
    folder = folder_of(tmp_path, kind)
    mine = masked_model(folder)
    plain = load_model(str(folder), architecture=mine.architecture, with_head=True)
    texts = [Words.of_text(text) for text in TEXTS]
    found = mine.candidates(texts, top_k=7, batch_size=4)
    for text, some in zip(texts, found, strict=True):
        assert [*sorted(some)] == [*text.places]
        for place, words in some.items():
            expected = by_hand(plain, mine.tokenizer, text, place, 7)
            if kind == "byte_bpe":  # letters of two bytes may be parts of several tokens
                expected = tuple(word for word in expected if "\ufffd" not in word)
            assert words == expected


def test_only_words_of_letters_are_replaced():
    text = Words.of_text("The OLD gardenriver, 12 mp3s 3rd it 's (don't)!")
    words = ["The", "OLD", "gardenriver", "it", "don't"]
    assert [text.parts[place] for place in text.places] == words
    assert text.text == "The OLD gardenriver, 12 mp3s 3rd it 's (don't)!"
    listed = Words.of_list(["U.S.", "New York", "the", "2", "дом", "x@y"])
    assert [listed.parts[place] for place in listed.places] == ["the", "дом"]
    changed = listed.changed({listed.places[1]: "сад"})
    assert changed.words == ("U.S.", "New York", "the", "2", "сад", "x@y")


def test_no_special_token_no_unused_one_and_none_that_continues_a_word(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["[unused1]", "<extra>", "12th"])
    found = word_tokens(tokenizer, han=False)
    tokens = tokenizer.convert_ids_to_tokens(found.ids.tolist())
    assert set(tokens) == set(found.letters)
    assert all(token.isalpha() and not token.startswith("##") for token in tokens)
    assert {"garden", "река"} <= {*tokens} and not {*tokens} & {*tokenizer.all_special_tokens}
    assert found.key("GARDEN") == found.key("garden") >= 0 > found.key("gardens")


def test_what_the_model_does_not_read_stays(teacher_folder):
    text = Words.of_text("the red old house garden river stone letter evening morning")
    some = masked_model(teacher_folder, max_length=6).candidates([text], top_k=3, batch_size=2)
    assert [*some[0]] == [*text.places[: len(some[0])]] and 0 < len(some[0]) < 5


def test_a_text_that_spells_a_mask_is_text(teacher_folder):
    text = Words.of_text("[MASK] the red [CLS] house")
    (found,) = masked_model(teacher_folder).candidates([text], top_k=3, batch_size=2)
    assert len(found) == len(text.places) == 5


def test_replaced_words_are_drawn_as_in_a_plain_loop():
    text = Words.of_text("the red old house")
    candidates = [dict.fromkeys(text.places, ("a", "b", "c"))]
    counts = np.zeros(4)
    for seed in range(2000):
        chance = np.random.default_rng(seed)
        drawn = np.random.default_rng(seed).random((4, 2))
        expected = list(text.words)
        chosen = [n for n in range(4) if drawn[n, 0] < 0.4] or [int(drawn[:, 0].argmin())]
        for n in chosen:
            expected[n] = "abc"[int(drawn[n, 1] * 3)]
            counts[n] += 1
        (found,) = replaced([text], candidates, chance, replace_prob=0.4) or []
        assert found.words == tuple(expected)
    # At least one word: 0.4, and a quarter of the rows without any.
    assert counts / 2000 == pytest.approx(0.4 + 0.6**4 / 4, abs=0.04)
    assert replaced([text], [{}], np.random.default_rng(0), replace_prob=0.4) is None


def test_chinese_is_replaced_character_by_character(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["我", "爱", "你", "他"])
    make_model(vocabulary=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    text = Words.of_text("我爱你。the")
    assert [text.parts[place] for place in text.places] == ["我", "爱", "你", "the"]
    (found,) = masked_model(tmp_path).candidates([text], top_k=9, batch_size=8)
    assert {*found[1]} == {"爱", "你", "他"}
    assert not any(letter >= "我" for word in found[text.places[3]] for letter in word)


def test_a_script_without_spaces_that_the_model_has_no_words_of(teacher_folder):
    texts = [Words.of_text("我爱你"), Words.of_text("ภาษาไทย"), Words.of_text("...")]
    found = masked_model(teacher_folder).candidates(texts, top_k=3, batch_size=2)
    assert found == [{}, {}, {}]


def test_models_that_cannot_replace_words(tmp_path, tokenizer, decoder):
    body = tmp_path / "body"
    make_model(vocabulary=len(tokenizer)).base_model.save_pretrained(body)
    tokenizer.save_pretrained(body)
    with pytest.raises(ModelError, match=r"no trained vocabulary head.*minilm_head.yaml"):
        masked_model(body)
    with pytest.raises(ModelError, match="is a decoder"):
        masked_model(decoder)
    without = folder_of(tmp_path / "without", "wordpiece")
    reader = make_tokenizer()
    reader.mask_token = None
    reader.save_pretrained(without)
    with pytest.raises(ModelError, match="no mask token"):
        masked_model(without)
    whole = folder_of(tmp_path / "whole", "wordpiece")
    with pytest.raises(ModelError, match="2 are special tokens; give a max_length of 3"):
        masked_model(whole, max_length=2)
    with pytest.raises(ModelError, match="reads 80 tokens of a text, and max_length is 81"):
        masked_model(whole, max_length=81)
    assert masked_model(whole).max_length == 80

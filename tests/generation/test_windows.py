"""Decoders with a sliding window generate where it is as wide as every text."""

import pytest
import torch
from conftest import make_model

from limbeck.errors import ModelError
from limbeck.generation import readers as readers_module
from limbeck.generation.decoding import DecodingOptions, generate
from limbeck.generation.reader import Reader
from limbeck.generation.readers import Readers
from limbeck.generation.rules import Speculative, Student
from limbeck.models.families.attending import attention_window

TOKENS, NEW = 40, 16
PROMPTS = [[5], [6, 8, 4], [9, 9, 3, 1], [30, 31, 7, 2], [8, 2, 9, 9], [4, 4, 4, 12], [3, 5, 8, 9]]
WINDOW = max(map(len, PROMPTS)) + NEW - 1  # the last token is never read


def decoder(family, window=WINDOW, seed=0, **fields):
    """A tiny decoder, all of whose layers have the window or, in Gemma, every other one."""
    model = make_model(family, vocabulary=TOKENS, seed=seed, sliding_window=window, **fields)
    assert attention_window(model.config) == window
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(4)  # so that it expects something
    return model


def texts(student, teacher, rule, *, new=NEW, readers=None, **options):
    found = generate(
        *(student, teacher, PROMPTS, rule),
        options=DecodingOptions(new, **options),
        vocabulary=TOKENS,
        eos_token_id=(),
        readers=readers,
    )
    return found.tokens.tolist()


def of_transformers(model):
    """The most likely tokens, one text after another."""
    found = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        model.generation_config.eos_token_id = None
        text = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False
        )
        found.append(text[0, len(prompt) :].tolist())
    return found


@pytest.mark.parametrize(
    ("family", "attention"),
    [
        *((family, "sdpa") for family in ("mistral", "phi3", "gemma3_text")),
        *((family, "eager") for family in ("mistral", "phi3", "gemma2")),
    ],
)
def test_the_texts_are_those_of_transformers(family, attention):
    model = decoder(family)
    model.set_attn_implementation(attention)
    expected = of_transformers(model)
    assert len({tuple(text) for text in expected}) > 1
    assert texts(model, None, Student(), temperature=0.0) == expected


@pytest.mark.parametrize("family", ["mistral", "phi3", "gemma3_text"])
def test_empty_places_take_nothing_of_the_window(family):
    """Rejected drafts and padding stand between the tokens of a text, and no window counts them."""
    mask = torch.tensor([[1, 1, 0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]]).bool()
    ids, positions = torch.arange(20).view(2, 10), (mask.cumsum(-1) - 1).clamp_min(0)
    found = []
    for window in (7, 1000):
        reader = Reader(decoder(family, window), TOKENS, longest=7)
        with torch.no_grad():
            reader.remember(ids[:, :5], positions[:, :5], mask[:, :5])
            found.append(reader.read(ids[:, 5:9], positions[:, 5:9], mask[:, :9]))
            found.append(reader.read(ids[:, 9:], positions[:, 9:], mask))
    torch.testing.assert_close(found[:2], found[2:])


def test_forwards_that_are_direct_or_replayed_read_the_same(monkeypatch):
    student, teacher = (decoder("mistral", seed=seed).double() for seed in (0, 1))
    expected = texts(student, teacher, Speculative(top_k=2))
    assert texts(student, teacher, Speculative(top_k=2), readers=Readers()) == expected
    monkeypatch.setattr(readers_module, "can_replay", lambda model: True)
    assert texts(student, teacher, Speculative(top_k=2), readers=Readers()) == expected


def test_a_text_that_is_longer_than_the_window_is_refused():
    model = decoder("mistral", WINDOW)
    message = f"keeps {WINDOW} tokens .* of texts of up to {WINDOW + 1} tokens"
    with pytest.raises(ModelError, match=message):
        texts(model, None, Student(), new=NEW + 1)
    readers = Readers()
    texts(model, None, Student(), readers=readers)
    with pytest.raises(ModelError, match=message):  # by a reader that has read shorter ones, too
        texts(model, None, Student(), new=NEW + 1, readers=readers)

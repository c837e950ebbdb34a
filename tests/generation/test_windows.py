"""Decoders with sliding windows generate texts that are longer than these."""

import pytest
import torch
from conftest import make_model

from limbeck.generation import readers as readers_module
from limbeck.generation.decoding import DecodingOptions, generate
from limbeck.generation.reader import Reader
from limbeck.generation.readers import Readers
from limbeck.generation.rules import Speculative, Student
from limbeck.models.families.attending import layer_windows

TOKENS, NEW = 40, 16
PROMPTS = [[5], [6, 8, 4], [9, 9, 3, 1], [30, 31, 7, 2], [8, 2, 9, 9], [4, 4, 4, 12], [3, 5, 8, 9]]
LONGEST = max(map(len, PROMPTS)) + NEW - 1  # the last token is never read
MIXED = {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}
QWEN = {"use_sliding_window": True, **MIXED}
DECODERS = {
    "mistral": ("mistral", {}),
    "phi3": ("phi3", {}),
    "gemma2": ("gemma2", MIXED),
    "gemma3_text": ("gemma3_text", MIXED),
    "qwen2": ("qwen2", QWEN),
    "qwen3": ("qwen3", QWEN),
    "smollm3": ("smollm3", QWEN),
}


def decoder(name, window, seed=0):
    """A tiny decoder: one or all of its three layers have the window."""
    family, fields = DECODERS[name]
    model = make_model(family, vocabulary=TOKENS, seed=seed, sliding_window=window, **fields)
    assert layer_windows(model.config) == ([None, window, None] if fields else [window] * 3)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(4)  # so that it expects something
    return model


def texts(student, teacher, rule, *, readers=None, **options):
    found = generate(
        *(student, teacher, PROMPTS, rule),
        options=DecodingOptions(NEW, **options),
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


@pytest.mark.parametrize("window", [2, 6, LONGEST])
@pytest.mark.parametrize(
    ("name", "attention"),
    [
        *((name, "sdpa") for name in DECODERS if name != "gemma2"),
        *((name, "eager") for name in ("mistral", "gemma2", "gemma3_text")),
    ],
)
def test_the_texts_are_those_of_transformers(name, attention, window):
    model = decoder(name, window)
    model.set_attn_implementation(attention)
    expected = of_transformers(model)
    assert len({tuple(text) for text in expected}) > 1
    assert texts(model, None, Student(), temperature=0.0) == expected
    assert texts(model, None, Student(), temperature=0.0, readers=Readers()) == expected


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("window", [2, 5, 7])
def test_a_window_counts_the_tokens_of_a_text_and_not_its_empty_places(name, window):
    """Rejected drafts and padding stand between the tokens of a text."""
    mask = torch.tensor([[1, 1, 0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]]).bool()
    ids, positions = torch.arange(20).view(2, 10), (mask.cumsum(-1) - 1).clamp_min(0)
    model = decoder(name, window)
    reader = Reader(model, TOKENS)
    with torch.no_grad():
        reader.remember(ids[:, :5], positions[:, :5], mask[:, :5])
        draft = reader.read(ids[:, 5:9], positions[:, 5:9], mask[:, :9])
        found = torch.cat([draft, reader.read(ids[:, 9:], positions[:, 9:], mask)], 1)
        for row in range(2):
            whole = model(input_ids=ids[row : row + 1, mask[row]]).logits[0, -5:]
            torch.testing.assert_close(found[row], whole.log_softmax(-1))


@pytest.mark.parametrize("window", [3, 6])
@pytest.mark.parametrize("name", ["mistral", "qwen2", "gemma3_text"])
def test_forwards_that_are_direct_or_replayed_read_the_same(name, window, monkeypatch):
    student, teacher = (decoder(name, window, seed=seed).double() for seed in (0, 1))
    expected = texts(student, teacher, Speculative(top_k=2))
    assert texts(student, teacher, Speculative(top_k=2), draft_length=1) == expected
    assert texts(student, teacher, Speculative(top_k=2), readers=Readers()) == expected
    monkeypatch.setattr(readers_module, "can_replay", lambda model: True)
    assert texts(student, teacher, Speculative(top_k=2), readers=Readers()) == expected
    assert texts(student.float(), None, Student(), readers=Readers(), temperature=0.0) == (
        of_transformers(student)
    )

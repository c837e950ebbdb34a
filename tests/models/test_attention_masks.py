"""Masks made from what is known of the tokens are those that transformers makes by asking."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, all_needs, make_batch, make_model
from transformers import masking_utils

from limbeck.models import capture as module
from limbeck.models.attention_masks import known_masks
from limbeck.models.capture import capture_tensors
from limbeck.models.families import ARCHITECTURES

DECODERS = [family for family in FAMILIES if ARCHITECTURES[family].causal]
SEPARABLE = [family for family in DECODERS if ARCHITECTURES[family].separable_documents]


def both_ways(family, tokens, monkeypatch):
    model, wanted = make_model(family), all_needs(family).tensors()
    found = capture_tensors(model, ARCHITECTURES[family], tokens, wanted)
    monkeypatch.setattr(module, "known_masks", lambda tokens, **_: nullcontext())
    asked = capture_tensors(model, ARCHITECTURES[family], tokens, wanted)
    assert found.keys() == asked.keys()
    return [(found[name], asked[name]) for name in sorted(found)]


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding(family, padded, monkeypatch):
    tokens = make_batch(padded=padded).student
    assert tokens.all_real is not padded
    for known, asked in both_ways(family, tokens, monkeypatch):
        assert known.equal(asked)


@pytest.mark.parametrize("several", [True, False], ids=["several", "one"])
@pytest.mark.parametrize("family", SEPARABLE)
def test_documents_in_one_row(family, several, monkeypatch):
    positions = torch.arange(12).remainder(7 if several else 12).expand(4, -1)
    tokens = replace(make_batch(padded=False).student, positions=positions.contiguous())
    for known, asked in both_ways(family, tokens, monkeypatch):
        assert known.equal(asked)


def test_outside_of_the_context_nothing_is_changed():
    tokens = make_batch().student
    with known_masks(tokens):
        pass
    positions = torch.tensor([[0, 1, 2, 0, 1]])
    assert masking_utils.find_packed_sequence_indices(positions).tolist() == [[0, 0, 0, 1, 1]]
    assert masking_utils.find_packed_sequence_indices(positions[:, :3]) is None

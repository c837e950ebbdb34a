"""Forwards without transformers' modules, against the model's own, for every known family."""

import copy

import pytest
import torch
from conftest import make_model
from torch import nn

from limbeck.generation import known_decoders, products
from limbeck.generation import noise as noise_module
from limbeck.generation.decoding import DecodingOptions, generate
from limbeck.generation.direct import DirectReader, can_read_directly, proven
from limbeck.generation.noise import gumbel_noise
from limbeck.generation.products import product_of
from limbeck.generation.reader import Reader
from limbeck.generation.readers import Readers
from limbeck.generation.rules import Adaptive, Speculative, Student, Switch, Teacher
from limbeck.models.attention import use_float32_attention
from limbeck.student.rounding import round_layers
from limbeck.token_ids import TokenIds

FAMILIES = ["gpt2", "llama", "mistral", "qwen2", "qwen3"]
TOKENS, ENDS, LONGEST = 61, (7, 23, 28, 57), 23


def decoder(family, seed=0, **fields):
    """A tiny decoder whose biases and norms are not the neutral ones of a new model."""
    model = make_model(family, vocabulary=TOKENS + 3, seed=seed, **fields)
    model.config.sliding_window = None
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
        model.get_output_embeddings().weight.mul_(4)
    return model


def readings(reader, rows=5):
    """Log-probabilities of drafts and of single tokens, with rows and places taken out between."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, TOKENS, (rows, 17), generator=generator)
    positions = torch.arange(17).expand(rows, -1) - torch.tensor([0, 3, 1, 6, 2])[:, None]
    mask, positions = positions >= 0, positions.clamp_min(0)
    found = []

    def read(begin, end):
        some = slice(begin, end)
        found.append(reader.read(ids[:, some], positions[:, some], mask[:, :end]))

    with torch.no_grad():
        reader.remember(ids[:, :7], positions[:, :7], mask[:, :7])
        read(7, 8)
        read(8, 11)
        reader.forget_after(9)
        kept = torch.tensor([3, 0, 4])
        reader.keep_rows(kept)
        ids, positions, mask = ids[kept], positions[kept], mask[kept].clone()
        mask[1, 4] = False  # an empty place in the middle
        read(9, 14)
        order = torch.tensor([[6, 7, 8, 10, 13], [2, 3, 5, 9, 12], [2, 7, 8, 11, 13]])
        reader.keep_places(order)
        ids, positions = ids[:, 14:], positions[:, 14:]
        mask = torch.cat([mask.gather(1, order), torch.ones_like(ids).bool()], 1)
        found.append(reader.read(ids, positions, mask))
    return torch.cat([some.flatten() for some in found])


def direct(model, rows=5):
    reader = DirectReader(model, TOKENS, rows=rows, places=40)
    reader.begin(rows)
    return reader


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_reads_what_its_own_forward_reads(family, double):
    model = decoder(family)
    model = model.double() if double else model
    assert can_read_directly(model)
    mine, own = readings(direct(model)), readings(Reader(model, TOKENS))
    assert float(own.std()) > 0.5
    torch.testing.assert_close(mine, own, rtol=0, atol=1e-6 if double else 2e-4)


@pytest.mark.parametrize("coarse", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_large_matrices_are_laid_out_for_onednn(family, coarse, monkeypatch):
    model = decoder(family)
    monkeypatch.setattr(products, "_LARGE", 1)
    calls = []
    plain = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(
        torch.ops.mkldnn, "_linear_pointwise", lambda *given: calls.append(1) or plain(*given)
    )
    own = readings(Reader(model, TOKENS))
    with torch.autocast("cpu", torch.bfloat16, enabled=coarse):
        mine = readings(direct(model))
    far = (mine - own).abs()
    assert float(far.mean()) < (0.1 if coarse else 1e-4)
    assert bool(calls) == products.has_onednn()
    if coarse and calls and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert float(far.mean()) > 1e-4


@pytest.mark.parametrize("rule", [Student(), Teacher(), Switch(), Speculative(3), Adaptive(1.5, 2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_generates_the_same_text(family, rule):
    student, teacher = (decoder(family, seed).double() for seed in (0, 1))
    prompts = [[5], [6, 8, 4], [9, 9, 9, 9, 9], [3, 1], [30, 31, 32, 33, 34, 35, 36]]
    arguments = {"vocabulary": TOKENS, "eos_token_id": ENDS}
    readers = Readers()
    for seed, length in ((0, 5), (1, 16)):
        options = DecodingOptions(LONGEST, 0.9, length, seed=seed)
        plain = generate(student, teacher, prompts, rule, options=options, **arguments)
        found = generate(
            student, teacher, prompts, rule, options=options, readers=readers, **arguments
        )
        assert torch.equal(found.tokens, plain.tokens)
        assert torch.equal(found.by_teacher, plain.by_teacher)
    assert isinstance(readers._kept["student", None], DirectReader)
    assert len(set(found.lengths.tolist())) > 1


@pytest.mark.parametrize("large", [1, products._LARGE])
def test_weights_are_those_of_the_moment(large, monkeypatch):
    monkeypatch.setattr(products, "_LARGE", large)
    model, readers = decoder("llama"), Readers()
    prompts, before = [[5, 9], [6]], None
    for _ in range(3):
        arguments = {
            "options": DecodingOptions(LONGEST, seed=2),
            "vocabulary": TOKENS,
            "eos_token_id": [],
        }
        found = generate(model, None, prompts, Student(), readers=readers, **arguments)
        plain = generate(copy.deepcopy(model), None, prompts, Student(), **arguments)
        assert torch.equal(found.tokens, plain.tokens)
        assert before is None or not torch.equal(found.tokens, before)
        before = found.tokens
        for weight in model.parameters():
            weight.data.mul_(0.8)
        model.model.layers[0].self_attn.q_proj = nn.Linear(24, 24, bias=False)
    assert readers._kept["student", None]._decoder is None  # nothing stays beside training


def test_layers_that_are_not_plain_linear_ones_are_called():
    """Low-rank layers and adapters stand where linear layers stood."""
    model = decoder("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            thin = nn.Sequential(nn.Linear(24, 5, bias=False), nn.Linear(5, 24))
            layer.self_attn.q_proj = thin
            layer.mlp.down_proj = nn.Sequential(nn.Linear(48, 6), nn.Linear(6, 24))
    torch.testing.assert_close(
        readings(direct(model)), readings(Reader(model, TOKENS)), rtol=0, atol=2e-4
    )


def test_a_product_has_the_biases_that_its_layers_have():
    given = torch.randn(3, 8)
    for biases in ((True, True), (False, False), (True, False)):
        layers = [nn.Linear(8, size, bias=bias) for size, bias in zip((5, 4), biases, strict=True)]
        expected = torch.cat([layer(given) for layer in layers], -1)
        torch.testing.assert_close(product_of(layers, coarse=False)(given), expected)


def test_a_forward_that_differs_is_not_used(monkeypatch):
    model = decoder("llama")
    arguments = {
        "options": DecodingOptions(LONGEST, seed=4),
        "vocabulary": TOKENS,
        "eos_token_id": [],
    }
    plain = generate(model, None, [[5, 6, 7]], Student(), **arguments)
    assert proven(model, TokenIds(TOKENS))

    def without_activation(module):
        return lambda given: given

    monkeypatch.setattr(known_decoders, "_activation", without_activation)
    readers = Readers()
    with pytest.warns(UserWarning, match="differs from the model's by"):
        found = generate(model, None, [[5, 6, 7]], Student(), readers=readers, **arguments)
    assert torch.equal(found.tokens, plain.tokens)
    with torch.autocast("cpu", torch.bfloat16):  # where it is not tried again, and warns once
        generate(model, None, [[5, 6, 7]], Student(), readers=readers, **arguments)


def test_what_is_not_known_is_read_by_transformers():
    assert not can_read_directly(make_model("gpt_neox"))
    assert not can_read_directly(decoder("llama").bfloat16())
    hooked, eager, mixed = (decoder("llama") for _ in range(3))
    hooked.model.layers[1].register_forward_pre_hook(lambda module, given: None)
    eager.set_attn_implementation("eager")
    mixed.model.layers[0].self_attn.q_proj.double()
    assert not any(map(can_read_directly, (hooked, eager, mixed)))
    in_float32 = decoder("llama")  # as models are trained in bfloat16 on a processor
    use_float32_attention(in_float32)
    assert can_read_directly(decoder("llama")) and can_read_directly(in_float32)
    rounded = decoder("llama")  # as in a stage with `quantization_aware`
    round_layers(rounded, "int8")
    assert not can_read_directly(rounded)
    round_layers(rounded, None)
    assert can_read_directly(rounded)


@pytest.mark.parametrize("right", [True, False])
def test_drafts_that_are_always_right_or_always_wrong_change_nothing(right):
    teacher = decoder("qwen2")
    student = copy.deepcopy(teacher)
    if not right:  # the token that the teacher finds least likely
        student.get_output_embeddings().weight = nn.Parameter(
            -student.get_output_embeddings().weight.detach()
        )
    prompts = [[5, 9, 11], [6], [8, 3]]
    arguments = {"vocabulary": TOKENS, "eos_token_id": ENDS}
    alone = generate(
        teacher, None, prompts, Student(), options=DecodingOptions(LONGEST, 0.0, 1), **arguments
    )
    for length in (1, 4, 16):
        for readers in (None, Readers()):
            found = generate(
                student,
                teacher,
                prompts,
                Switch(tau=0.0),
                options=DecodingOptions(LONGEST, 0.0, length),
                readers=readers,
                **arguments,
            )
            assert torch.equal(found.tokens, alone.tokens)
            assert bool(found.by_teacher[:, 0].all())


def test_noise_is_the_same_however_much_is_computed_at_once(monkeypatch):
    keys, places = torch.arange(50), torch.arange(50) * 3
    expected = gumbel_noise(keys, places, 33)
    for at_once in (1, 100, 33 * 7):
        monkeypatch.setattr(noise_module, "_AT_ONCE", at_once)
        assert torch.equal(gumbel_noise(keys, places, 33), expected)

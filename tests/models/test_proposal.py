"""Rows that are proposed for types that the table does not have, and their proof."""

from dataclasses import fields, replace

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from limbeck.activations import Needs
from limbeck.errors import ModelError
from limbeck.models.architecture import Architecture
from limbeck.models.capture import capture
from limbeck.models.families import proof as proof_module
from limbeck.models.families.attending import layers_with_attention
from limbeck.models.families.attention_inputs import match
from limbeck.models.families.lookup import (
    architecture_of,
    architecture_of_type,
    proof_of,
)
from limbeck.models.families.proof import prove
from limbeck.models.families.proposal import as_yaml, proposed_row
from limbeck.models.families.roles import as_axes, axis_roles_of, reordering_problem
from limbeck.models.families.tiny import SIZES, smaller, tiny_model
from limbeck.student.axis_roles import axis_roles

# Families of the table that could not be proposed, and why.
NOT_PROPOSED = {
    "albert": "no one list of its modules holds its 3 layers",
    "deberta-v2": "the outputs of 'encoder.layer' are not the model's hidden states",
    "t5": "a small one does not run",
    "mt5": "a small one does not run",
    "umt5": "it is a pair of an encoder and a decoder",
}
# What else a proposal does not find of a row of the table.
NOT_FOUND = {
    # Heads have slopes that are no weights, so that they cannot be put in another order.
    "bloom": {"positions", "axes"},
    # Its code fixes the number, and the model that was looked at has its padding token there.
    "mpnet": {"padding_id"},
}


def config_of(family):
    return make_model(family).config


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_family_in_the_table_its_row_is_proposed(family):
    config = config_of(family)
    row, proof = architecture_of(config), proof_of(config)
    if family in NOT_PROPOSED:
        assert NOT_PROPOSED[family] in proof.refused
        return
    assert proof.refused == ""
    lacking = NOT_FOUND.get(family, set())
    differing = {
        field.name
        for field in fields(Architecture)
        if getattr(proof.architecture, field.name) != getattr(row, field.name)
    }
    assert differing - {"axes"} == lacking - {"axes"}
    assert bool(proof.architecture.axes) == ("axes" not in lacking)
    assert any("isolate_documents" in said for said in proof.missing) != row.separable_documents
    same_captures(make_model(family), row, proof.architecture)


def same_captures(model, row, proposed):
    tokens = make_batch().student
    every = frozenset(layers_with_attention(model.config, row))
    needs = Needs(
        predictions=bool(row.head),
        embeddings=True,
        hidden=frozenset(range(3)),
        queries=every,
        keys=every,
        values=every,
    )
    one, other = (capture(model, found, tokens, needs) for found in (row, proposed))
    for kind in ("hidden", "queries", "keys", "values"):
        for layer, tensor in getattr(one, kind).items():
            assert torch.equal(tensor, getattr(other, kind)[layer])
    if row.head:
        assert torch.equal(one.predictions.logits(), other.predictions.logits())


def of_type(model_type, **fields_of):
    return proof_of(AutoConfig.for_model(model_type, **fields_of))


@pytest.mark.parametrize(
    ("model_type", "query", "head"),
    [
        ("phi", "self_attn.q_proj", ("lm_head",)),
        ("stablelm", "self_attn.q_proj", ("lm_head",)),
        ("ernie", "attention.self.query", ("cls",)),
        ("rembert", "attention.self.query", ("cls",)),
        ("data2vec-text", "attention.self.query", ("lm_head",)),
        ("glm4", "self_attn.q_proj", ("lm_head",)),
        ("olmo3", "self_attn.q_proj", ("lm_head",)),
    ],
)
def test_types_that_are_wholly_proven(model_type, query, head):
    proof = of_type(model_type)
    assert (proof.refused, proof.missing) == ("", ())
    assert (proof.architecture.query, proof.architecture.head) == (query, head)
    assert proof.architecture.axes


@pytest.mark.parametrize(
    ("model_type", "missing"),
    [
        ("deberta", ["relations", "init_from_teacher at another width"]),
        ("minicpm3", ["relations", "init_from_teacher at another width"]),
        ("mpt", ["isolate_documents", "init_from_teacher at another width"]),
        ("xglm", ["isolate_documents", "init_from_teacher at another width"]),
    ],
)
def test_what_does_not_prove_itself_is_left_out_of_the_row(model_type, missing):
    proof = of_type(model_type)
    assert proof.refused == ""
    assert [said.split(":")[0] for said in proof.missing] == missing
    assert bool(proof.architecture.query) == ("relations" not in missing)
    assert proof.architecture.separable_documents == ("isolate_documents" not in missing)
    assert proof.architecture.axes == ()


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("bart", "a pair of an encoder and a decoder"),
        ("mamba", "no num_attention_heads"),
        ("gemma3", "it reads more than text"),
        ("funnel", "no one list of its modules holds its 12 layers"),
        ("xlm", "are not the model's hidden states"),
        ("bert-generation", "tokens see those behind them"),
    ],
)
def test_types_that_are_refused_say_why_and_what_a_recipe_would_give(model_type, reason):
    with pytest.raises(ModelError, match=r"architecture: \{layers: ") as refused:
        architecture_of_type(model_type)
    assert reason in str(refused.value)


def test_a_type_that_transformers_does_not_know():
    with pytest.raises(ModelError, match="knows no model_type 'nothing'"):
        architecture_of_type("nothing")


def test_a_model_of_an_unknown_type_gives_its_own_states_and_logits():
    for kind, model_type in ((AutoModelForCausalLM, "phi"), (AutoModelForMaskedLM, "ernie")):
        config = AutoConfig.for_model(
            model_type,
            hidden_size=32,
            num_attention_heads=4,
            num_hidden_layers=3,
            intermediate_size=48,
            vocab_size=200,
            pad_token_id=0,
        )
        torch.manual_seed(0)
        model, tokens = kind.from_config(config).eval(), make_batch().student
        full = model(tokens.input_ids, attention_mask=tokens.mask.long(), output_hidden_states=True)
        needs = Needs(predictions=True, hidden=frozenset({0, 1}))
        found = capture(model, architecture_of(config), tokens, needs)
        torch.testing.assert_close(found.hidden[1], full.hidden_states[2])
        torch.testing.assert_close(found.predictions.logits(), full.logits[tokens.predicted])


def test_the_proof_of_a_configuration_is_made_once():
    config = AutoConfig.for_model("ernie")
    assert proof_of(config) is proof_of(AutoConfig.for_model("ernie"))
    assert proof_of(config) is not proof_of(AutoConfig.for_model("ernie", hidden_size=384))


def test_global_chance_is_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    proof_of(AutoConfig.for_model("ernie", intermediate_size=640))
    assert torch.equal(torch.rand(3), expected)


def test_a_wrong_proposal_does_not_prove_itself(monkeypatch):
    tiny = tiny_model(AutoConfig.for_model("ernie"))
    row = proposed_row(tiny)

    def proof_with(**wrong):
        monkeypatch.setattr(proof_module, "proposed_row", lambda _: replace(row, **wrong))
        return prove(tiny)

    assert proof_with() == proof_of(AutoConfig.for_model("ernie"))
    assert "tokens see those behind them" in proof_with(causal=True).refused
    assert "are not the model's hidden states" in proof_with(layers="embeddings").refused
    assert any("as wide" in s for s in proof_with(intermediate_field="hidden_size").missing)
    assert proof_with(output="cls.predictions.transform.dense").architecture.head == ()


def test_roles_of_axes_are_read_by_names_as_they_were_told_by_sizes():
    for model_type in ("phi", "ernie", "olmo3", "qwen2_moe", "gptj"):
        tiny = tiny_model(AutoConfig.for_model(model_type))
        row = prove(tiny).architecture
        roles = axis_roles_of(tiny, row)
        assert row.axes == as_axes(roles, row)
        for name, expected in roles.items():
            assert axis_roles(name, row) == expected, (model_type, name)


def test_wrong_roles_are_seen_by_another_order_of_heads_and_units():
    tiny = tiny_model(AutoConfig.for_model("phi"))
    row = prove(tiny).architecture
    roles = axis_roles_of(tiny, row)
    assert reordering_problem(tiny, row, roles) is None
    for name, wrong in (
        ("layers.1.self_attn.dense.weight", ("hidden", "hidden")),
        ("layers.1.mlp.fc1.bias", ("same",)),
        ("final_layernorm.weight", ("same",)),
    ):
        assert reordering_problem(tiny, row, {**roles, name: wrong})


def test_rotated_heads_match_by_their_lengths_and_others_do_not():
    torch.manual_seed(0)
    seen = torch.randn(2, 4, 7, 6)
    joined = seen.transpose(1, 2).flatten(2)
    assert match(joined, 0.3 * seen) == "equal"
    turned = torch.linalg.qr(torch.randn(6, 6)).Q
    assert match(joined, seen @ turned) == "rotated"
    assert match(joined, seen.flip(1)) is None
    assert match(joined[..., :5], seen) is None
    grouped = seen[:, [0, 0, 1, 1]]
    assert match(joined[..., :12], grouped) == "equal"


def test_the_layers_that_attend():
    hybrid = make_model("qwen3_5_text").config
    assert layers_with_attention(hybrid, architecture_of(hybrid)) == [0, 2]
    plain = make_model("gemma2").config
    assert layers_with_attention(plain, architecture_of(plain)) == [0, 1, 2]
    jamba = AutoConfig.for_model("jamba", num_hidden_layers=8, hidden_size=64)
    jamba.num_attention_heads, jamba.intermediate_size = 4, 64
    assert layers_with_attention(jamba, architecture_of(jamba)) == [4]
    assert layers_with_attention(jamba, Architecture("layers", "", "", "")) == []


def test_a_row_is_written_as_a_recipe_reads_it():
    row = architecture_of(AutoConfig.for_model("ernie"))
    assert as_yaml(row) == (
        "teacher: {model: ..., architecture: {layers: encoder.layer, query: attention.self.query,"
        " key: attention.self.key, value: attention.self.value, head: [cls],"
        " output: cls.predictions.decoder}}"
    )


@pytest.mark.parametrize(
    ("heads", "groups", "expected"), [(2, 2, 4), (8, 8, 4), (8, 4, 2), (8, 1, 1)]
)
def test_a_tiny_model_has_key_heads_for_each_query_head_where_the_model_has(
    heads, groups, expected
):
    sizes = {"num_attention_heads": heads, "num_key_value_heads": groups}
    config = AutoConfig.for_model("deepseek_v3", **sizes)
    assert smaller(config, SIZES[0], 3).num_key_value_heads == expected

"""Weights and a configuration that are not of the same model are refused, with what is missing."""

import json

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

import limbeck
from limbeck.build import check
from limbeck.errors import LimbeckError, ModelError
from limbeck.evaluation.generation import Writer
from limbeck.families import ANATOMIES
from limbeck.pretrained import load_body, load_model, load_with_head
from limbeck.weight_headers import check_weights, has_vocabulary_head

INDEX = "model.safetensors.index.json"


@pytest.fixture
def saved(tmp_path, tokenizer):
    """Saves a model, its weights under other names or without some, and its configuration."""

    def save(family="bert", *, model=None, rename=lambda name: name, config=None, **sizes):
        made = model or make_model(family, vocabulary=len(tokenizer), **sizes)
        made.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        file = tmp_path / "model.safetensors"
        weights = {rename(name): weight for name, weight in load_file(file).items()}
        weights.pop(None, None)
        save_file(weights, file, metadata={"format": "pt"})
        raw = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(raw | (config or {})))
        return str(tmp_path)

    return save


def refusals(place, family, raw_recipe):
    """What each way of using a model says of it."""
    anatomy = ANATOMIES[family]
    with pytest.raises(ModelError) as loaded:
        load_model(place, anatomy=anatomy)
    with pytest.raises(ModelError) as body:
        load_body(place, stored=True)
    with pytest.raises(ModelError) as student:
        load_with_head(place, anatomy=anatomy, seed=0)
    with pytest.raises(ModelError) as public:
        limbeck.load(place)
    problem, _ = check_weights(place, anatomy=anatomy)
    problems = [
        "; ".join(message for place, message in check(raw_recipe | {field: place})[1])
        for field in ("teacher", "student")
    ]
    errors = [str(found.value) for found in (loaded, body, student, public)]
    return [*errors, problem, *problems]


def test_more_layers_than_the_file_has(saved, raw_recipe):
    place = saved(config={"num_hidden_layers": 5})
    for said in refusals(place, "bert", raw_recipe):
        assert "lacks 32 of the 85 weights that config.json describes" in said
        assert "encoder.layer.3.attention" in said and "28 more" in said
        assert "config.json has 5 layers (num_hidden_layers) and the files have 3" in said


def test_a_number_of_layers_that_nobody_could_build(saved, raw_recipe):
    place = saved(config={"num_hidden_layers": 10**9})
    message = "has 1000000000 layers .* but its files hold 58 weights in all"
    with pytest.raises(ModelError, match=message):
        load_body(place)
    assert "files hold 58" in dict(check(raw_recipe | {"teacher": place})[1])["teacher.model"]


@pytest.mark.parametrize("field", ["hidden_size", "num_attention_heads"])
def test_a_configuration_that_cannot_be_built(saved, raw_recipe, field):
    place = saved(config={field: 23})
    with pytest.raises(ModelError, match="cannot load"):
        load_body(place)
    said = dict(check(raw_recipe | {"teacher": place})[1])["teacher.model"]
    assert "cannot build" in said and "not a multiple" in said


def test_fewer_layers_than_the_file_has(saved, raw_recipe):
    place = saved("llama", config={"num_hidden_layers": 2, "layer_types": None})
    for said in refusals(place, "llama", raw_recipe):
        assert "holds 9 weights that config.json does not describe" in said
        assert "layers.2.input_layernorm.weight" in said
        assert "config.json has 2 layers (num_hidden_layers) and the files have 3" in said


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_without_some_of_its_weights(saved, raw_recipe, family):
    lacking = f"{ANATOMIES[family].layers}.1.{ANATOMIES[family].value}.weight"
    place = saved(family, rename=lambda name: None if name.endswith(lacking) else name)
    for said in refusals(place, family, raw_recipe):
        assert "lacks 1 of the" in said and lacking in said


def test_the_embeddings_are_missing(saved, raw_recipe):
    place = saved(rename=lambda name: None if "word_embeddings" in name else name)
    for said in refusals(place, "bert", raw_recipe):
        assert "lacks 1 of the 53 weights" in said and "embeddings.word_embeddings.weight." in said


def test_weights_of_other_sizes(saved, raw_recipe):
    place = saved(config={"intermediate_size": 40})
    for said in refusals(place, "bert", raw_recipe):
        assert "weights of other sizes than config.json describes" in said
        assert "intermediate.dense.weight is [48, 24] and should be [40, 24]" in said


def test_a_prefix_that_no_wrapper_leaves(saved, raw_recipe):
    place = saved(rename=lambda name: f"student.net.{name}")
    for said in refusals(place, "bert", raw_recipe):
        assert "unexpected names begin with 'student.net.'; save the weights without it" in said


def test_additions_that_were_never_merged(saved, raw_recipe):
    model = make_model("llama")
    layer = model.model.layers[0].mlp
    layer.up_proj.lora_A = torch.nn.Linear(24, 2, bias=False)
    place = saved("llama", model=model)
    for said in refusals(place, "llama", raw_recipe):
        assert "holds 1 weights that config.json does not describe" in said
        assert "layers.0.mlp.up_proj.lora_A.weight" in said


WRAPPED = {
    "module": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "inside": lambda name: name.replace(".1.", ".1._orig_mod."),
    "sharded": lambda name: f"_fsdp_wrapped_module.{name}".replace(
        ".2.", ".2._checkpoint_wrapped_module."
    ),
}


@pytest.mark.filterwarnings("ignore:.*were saved from within a wrapper")
@pytest.mark.parametrize("family", ["bert", "gpt2", "modernbert", "llama"])
@pytest.mark.parametrize("wrapped", sorted(WRAPPED))
def test_what_wrappers_leave_in_names_is_left_out(saved, family, wrapped):
    anatomy = ANATOMIES[family]
    model = make_model(family).bfloat16()
    batch = make_batch()
    given = {"input_ids": batch.student.input_ids, "attention_mask": batch.student.mask}
    with torch.no_grad():
        place = saved(model=model)
        right = load_model(place, anatomy=anatomy, with_head=True)(**given).logits
        saved(model=model, rename=WRAPPED[wrapped])
        for stored in (False, True):
            with pytest.warns(UserWarning, match="of the .* weights of .* were saved from within"):
                loaded = load_model(place, anatomy=anatomy, with_head=True, stored=stored)
            assert torch.equal(loaded(**given).logits, right)
    problem, note = check_weights(place, anatomy=anatomy)
    assert problem is None and "in their names); it is left out" in note
    loaded.save_pretrained(place)  # and they do not come back
    assert check_weights(place, anatomy=anatomy) == (None, None)


def test_the_plan_says_that_names_were_unwrapped(saved, raw_recipe):
    place = saved(rename=WRAPPED["module"])
    setup, problems = check(raw_recipe | {"teacher": place})
    assert problems == [] and "from within a wrapper (module. in their names)" in setup.warnings[0]


def test_one_weight_under_two_wrappings(saved):
    place = saved()
    file = f"{place}/model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    save_file(weights | {f"module.{name}": weights[name] + 1}, file)
    with pytest.raises(ModelError, match="are one weight of two wrappings"):
        load_body(place)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_body_alone_may_lack_pooler_and_head(saved, raw_recipe, family):
    anatomy = ANATOMIES[family]
    body = make_model(family).base_model
    place = saved(model=body, rename=lambda name: None if "pooler" in name else name)
    assert check_weights(place, anatomy=anatomy, head_in_part=False) == (None, None)
    load_body(place)
    tied = body.config.tie_word_embeddings and anatomy.causal
    assert has_vocabulary_head(place, anatomy=anatomy) is tied
    model = load_model(place, anatomy=anatomy)
    assert (model is model.base_model) is not tied
    load_with_head(place, anatomy=anatomy, seed=0)


def test_heads_that_nobody_asked_for(saved):
    config = make_model().config
    config.num_labels = 3
    place = saved(model=AutoModelForSequenceClassification.from_config(config))
    assert check_weights(place, anatomy=ANATOMIES["bert"]) == (None, None)
    load_body(place)


def test_half_of_a_head(saved, raw_recipe):
    anatomy = ANATOMIES["bert"]
    place = saved(rename=lambda name: None if "transform.dense.weight" in name else name)
    load_body(place)  # nobody asks for it
    assert check_weights(place, anatomy=anatomy) == (None, None)
    assert not has_vocabulary_head(place, anatomy=anatomy)
    for load in (
        lambda: load_model(place, anatomy=anatomy, with_head=True),
        lambda: load_with_head(place, anatomy=anatomy, seed=0),
    ):
        with pytest.raises(ModelError, match=r"lacks 1 weights .*transform\.dense\.weight"):
            load()
    own = dict(check(raw_recipe | {"student": place})[1])["student.model"]
    assert "cls.predictions.transform.dense.weight" in own


def test_old_names_of_norms(saved):
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def rename(name):
        for new, before in old.items():
            name = name.replace(new, before)
        return name

    model = make_model()
    for parameter in model.parameters():
        parameter.data += 0.5
    place = saved(model=model, rename=rename)
    loaded = load_model(place, anatomy=ANATOMIES["bert"], with_head=True)
    norm = loaded.bert.embeddings.LayerNorm
    assert torch.equal(norm.weight, model.bert.embeddings.LayerNorm.weight)


def test_half_precision(saved):
    model = make_model("llama").half()
    loaded = load_model(saved(model=model), anatomy=ANATOMIES["llama"], with_head=True)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight.float())


@pytest.fixture
def sharded(tmp_path, tokenizer):
    make_model(vocabulary=len(tokenizer)).save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_shard_is_missing(sharded, raw_recipe):
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    for said in refusals_of_files(sharded, raw_recipe):
        assert "of which 1 are missing: " + shard.name in said


def test_a_shard_is_cut_short(sharded, raw_recipe):
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-9])
    for said in refusals_of_files(sharded, raw_recipe):
        assert f"{shard.name} is damaged" in said


def test_a_shard_lacks_what_the_index_says(sharded, raw_recipe):
    shard = sorted(sharded.glob("*.safetensors"))[1]
    weights = load_file(shard)
    name = next(name for name in weights if "layer" in name)
    del weights[name]
    save_file(weights, shard)
    for said in refusals(str(sharded), "bert", raw_recipe):
        assert "lacks 1 of the" in said and name.removeprefix("bert.") in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no index of shards"),
        ("{}", "is no index of shards"),
        ('{"weight_map": {}}', "names no files"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "only safetensors that lie beside it"),
        ('{"weight_map": {"a": "x.bin"}}', "only safetensors that lie beside it"),
        ('{"weight_map": {"a": 3}}', "only safetensors that lie beside it"),
    ],
)
def test_an_index_that_is_none(sharded, raw_recipe, content, message):
    (sharded / INDEX).write_text(content)
    for said in refusals_of_files(sharded, raw_recipe):
        assert message in said


def refusals_of_files(folder, raw_recipe):
    with pytest.raises(ModelError) as found:
        load_body(str(folder))
    return [
        str(found.value),
        dict(check(raw_recipe | {"teacher": str(folder)})[1])["teacher.model"],
    ]


def test_what_evaluate_and_sample_say(saved):
    place = saved("llama", config={"num_hidden_layers": 4, "layer_types": None})
    with pytest.raises(LimbeckError, match="the files have 3"):
        Writer.loaded(place)

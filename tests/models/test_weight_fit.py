"""Weights and a configuration that do not match are refused, with what is missing."""

import json

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)

import limbeck
from limbeck.errors import LimbeckError, ModelError
from limbeck.evaluation.text_generator import TextGenerator
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_body, load_model, load_with_head
from limbeck.models.weight_headers import check_weights, has_vocabulary_head
from limbeck.recipe.check import check

INDEX = "model.safetensors.index.json"


@pytest.fixture
def saved(tmp_path, tokenizer):
    """Save a model with changed names, missing weights, or a changed configuration."""

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
    """The message of each way of using a model."""
    architecture = ARCHITECTURES[family]
    with pytest.raises(ModelError) as loaded:
        load_model(place, architecture=architecture)
    with pytest.raises(ModelError) as body:
        load_body(place, stored=True)
    with pytest.raises(ModelError) as student:
        load_with_head(place, architecture=architecture, seed=0)
    with pytest.raises(ModelError) as public:
        limbeck.load(place)
    problem, _ = check_weights(place, architecture=architecture)
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


def test_an_absurd_number_of_layers(saved, raw_recipe):
    place = saved(config={"num_hidden_layers": 10**9})
    message = "has 1000000000 layers .* but its files hold 58 weights in all"
    with pytest.raises(ModelError, match=message):
        load_body(place)
    assert "files hold 58" in dict(check(raw_recipe | {"teacher": place})[1])["teacher.model"]


@pytest.mark.parametrize("field", ["hidden_size", "num_attention_heads"])
def test_a_configuration_that_cannot_be_built(saved, raw_recipe, field):
    place = saved(config={field: 23})
    with pytest.raises(ModelError, match="cannot build"):
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
    architecture = ARCHITECTURES[family]
    number = {"albert": 0, "qwen3_5_text": 2}.get(family, 1)
    lacking = f"{architecture.layers}.{number}.{architecture.value}.weight"
    # As these families are stored, where queries, keys and values are one weight.
    stored = {"gte": "1.attention.qkv_proj.weight", "nomic_bert": "1.attn.Wqkv.weight"}
    gone = stored.get(family, lacking)
    place = saved(family, rename=lambda name: None if name.endswith(gone) else name)
    for said in refusals(place, family, raw_recipe):
        assert f"lacks {3 if family in stored else 1} of the" in said and lacking in said


def test_the_embeddings_are_missing(saved, raw_recipe):
    place = saved(rename=lambda name: None if "word_embeddings" in name else name)
    for said in refusals(place, "bert", raw_recipe):
        assert "lacks 1 of the 53 weights" in said and "embeddings.word_embeddings.weight." in said


def test_weights_of_other_sizes(saved, raw_recipe):
    place = saved(config={"intermediate_size": 40})
    for said in refusals(place, "bert", raw_recipe):
        assert "weights of other sizes than config.json describes" in said
        assert "intermediate.dense.weight is [48, 24] and should be [40, 24]" in said


def test_a_prefix_that_no_wrapper_adds(saved, raw_recipe):
    place = saved(rename=lambda name: f"student.net.{name}")
    for said in refusals(place, "bert", raw_recipe):
        assert "unexpected names begin with 'student.net.'; save the weights without it" in said


def test_adapters_that_were_never_merged(saved, raw_recipe):
    model = make_model("llama")
    layer = model.model.layers[0].mlp
    layer.up_proj.lora_A = torch.nn.Linear(24, 2, bias=False)
    place = saved("llama", model=model)
    for said in refusals(place, "llama", raw_recipe):
        assert "holds 1 weights that config.json does not describe" in said
        assert "layers.0.mlp.up_proj.lora_A.weight" in said
        assert "adapters that were not merged" in said and "merge_and_unload" in said


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"base_model.model.{name}",
        lambda name: name.replace("q_proj.weight", "q_proj.base_layer.weight"),
        lambda name: f"base_model.model.{name.replace('v_proj.', 'v_proj.base_layer.')}",
    ],
)
def test_a_model_that_was_saved_with_its_adapters(saved, raw_recipe, rename):
    place = saved("llama", rename=rename)
    for said in refusals(place, "llama", raw_recipe):
        assert "adapters that were not merged" in said and "merge_and_unload" in said


def test_adapters_beside_all_weights_of_the_model(saved):
    place = saved()
    file = f"{place}/model.safetensors"
    addition = {"base_model.model.bert.x.lora_A.weight": torch.zeros(2, 2)}
    save_file(load_file(file) | addition, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"holds 1 weights .*x\.lora_A\.weight.*not merged"):
        load_body(place)


@pytest.mark.parametrize(
    ("missing", "extra", "said"),
    [
        ({1}, {}, "has 3 layers (num_hidden_layers) and the files hold layers 0 and 2 alone; copy"),
        ({2}, {}, "has 3 layers (num_hidden_layers) and the files have 2; correct it"),
        ({}, {9}, "has 3 layers (num_hidden_layers) and the files hold layers 0 to 2 and 9; copy"),
        ({2}, {9}, "has 3 layers (num_hidden_layers) and the files hold layers 0, 1 and 9; copy"),
        ({}, {3, 4}, "has 3 layers (num_hidden_layers) and the files have 5; correct it"),
    ],
)
def test_missing_and_additional_layers_are_named(saved, missing, extra, said):
    place = saved()
    file = f"{place}/model.safetensors"
    weights = load_file(file)
    for layer in extra:
        weights |= {
            name.replace("layer.1.", f"layer.{layer}."): weight.clone()
            for name, weight in weights.items()
            if "layer.1." in name
        }
    gone = tuple(f"layer.{layer}." for layer in missing)
    weights = {n: w for n, w in weights.items() if not any(part in n for part in gone)}
    save_file(weights, file, metadata={"format": "pt"})
    problem, _ = check_weights(place, architecture=ARCHITECTURES["bert"])
    assert said in problem


def test_an_incomplete_last_layer_is_not_ignored(saved):
    lacking = "layer.2.output.dense.bias"
    place = saved(rename=lambda name: None if name.endswith(lacking) else name)
    problem, _ = check_weights(place, architecture=ARCHITECTURES["bert"])
    assert "lacks 1 of the 53 weights" in problem and "files have 2" not in problem


DOUBLED = {
    "bert": lambda name: f"bert.{name}" if name.startswith("bert.") else name,
    "gpt2": lambda name: f"transformer.{name}",
    "llama": lambda name: f"model.{name}",
}


@pytest.mark.parametrize("family", sorted(DOUBLED))
def test_a_double_prefix_of_the_body(saved, family):
    architecture = ARCHITECTURES[family]
    model = make_model(family)
    place = saved(family, model=model, rename=DOUBLED[family])
    with pytest.warns(UserWarning, match=r"within a wrapper \(\w+\. in their names\)"):
        whole = load_model(place, architecture=architecture, with_head=True)
    with pytest.warns(UserWarning, match="within a wrapper"):
        body = load_body(place)
    for loaded in (whole.base_model, body):
        for name, weight in model.base_model.named_parameters():
            if "pooler" not in name:
                assert torch.equal(loaded.get_parameter(name), weight)
    problem, note = check_weights(place, architecture=architecture)
    assert problem is None and "it is left out" in note


def test_an_architecture_without_a_head_is_checked_too(saved, raw_recipe):
    place = saved(rename=lambda name: None if "layer.1." in name else name)
    architecture = {
        "layers": "encoder.layer",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
    }
    raw_recipe["student"] |= {"model_type": "bert"}
    raw_recipe["teacher"] = {"model": place, "architecture": architecture}
    said = dict(check(raw_recipe)[1])["teacher.model"]
    assert "lacks 16 of the 53 weights" in said and "layers 0 and 2 alone" in said


@pytest.mark.parametrize(
    "kind", [torch.int8, torch.uint8, torch.int32, torch.bool, torch.float8_e4m3fn]
)
def test_quantized_matrices_without_their_method(saved, raw_recipe, kind):
    place = saved()
    file = f"{place}/model.safetensors"
    weights = load_file(file)
    name = "bert.encoder.layer.1.output.dense.weight"
    stored = weights | {name: weights[name].to(kind)}
    save_file(stored, file, metadata={"format": "pt"})
    for said in refusals(place, "bert", raw_recipe):
        assert "holds 1 weights of types that are not read" in said
        assert f"{name} is " in said and "dequantize it" in said and "bfloat16" in said


def test_a_method_of_quantization_that_transformers_does_not_know(saved, raw_recipe):
    place = saved(config={"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}})
    file = f"{place}/model.safetensors"
    weights = load_file(file)
    name = "bert.encoder.layer.1.output.dense.weight"
    stored = weights | {name: weights[name].to(torch.float8_e4m3fn)}
    save_file(stored, file, metadata={"format": "pt"})
    for said in refusals(place, "bert", raw_recipe):
        assert f"types that are not read (F64, F32, F16, BF16 are): {name} is F8_E4M3" in said


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("stored", [False, True])
def test_weights_that_are_not_finite(saved, value, stored):
    model = make_model().bfloat16()
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight[3, 4] = value
    place = saved(model=model)
    for load in (
        lambda: load_model(
            place, architecture=ARCHITECTURES["bert"], with_head=True, stored=stored
        ),
        lambda: load_with_head(place, architecture=ARCHITECTURES["bert"], seed=0),
        lambda: load_body(place, stored=stored),
        lambda: limbeck.load(place),
    ):
        with pytest.raises(ModelError, match=r"holds 1 weights that are not finite.*\.layer\.1\."):
            load()


def test_the_baseline_model_is_checked(saved, raw_recipe, tmp_path_factory):
    def said(place):
        evaluation = {"cost": False, "baseline": str(place)}
        problems = check(raw_recipe | {"evaluation": evaluation})[1]
        return dict(problems).get("evaluation.baseline")

    place = saved(rename=lambda name: None if "layer.1." in name else name)
    assert "lacks 16 of the 53 weights" in said(place)
    place = saved()
    assert said(place) is None
    config = AutoConfig.for_model("mpnet")  # of no family in the table
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config.update(sizes | {"intermediate_size": 48, "vocab_size": 200})
    assert said(saved(model=AutoModelForMaskedLM.from_config(config))) is None
    alone = tmp_path_factory.mktemp("alone")
    make_model().save_pretrained(alone)
    assert "has no tokenizer.json" in said(alone)
    (alone / "config.json").write_text('{"model_type": "unheard-of"}')
    assert "cannot read the configuration" in said(alone)


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
def test_parts_of_names_from_wrappers_are_removed(saved, family, wrapped):
    architecture = ARCHITECTURES[family]
    model = make_model(family).bfloat16()
    batch = make_batch()
    given = {"input_ids": batch.student.input_ids, "attention_mask": batch.student.mask}
    with torch.no_grad():
        place = saved(model=model)
        right = load_model(place, architecture=architecture, with_head=True)(**given).logits
        saved(model=model, rename=WRAPPED[wrapped])
        for stored in (False, True):
            with pytest.warns(UserWarning, match="of the .* weights of .* were saved from within"):
                loaded = load_model(place, architecture=architecture, with_head=True, stored=stored)
            assert torch.equal(loaded(**given).logits, right)
    problem, note = check_weights(place, architecture=architecture)
    assert problem is None and "in their names); it is left out" in note
    loaded.save_pretrained(place)  # and they do not come back
    assert check_weights(place, architecture=architecture) == (None, None)


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
    with pytest.raises(ModelError, match="are the same weight from two wrappers"):
        load_body(place)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_body_alone_may_lack_pooler_and_head(saved, raw_recipe, family):
    architecture = ARCHITECTURES[family]
    body = make_model(family).base_model
    place = saved(model=body, rename=lambda name: None if "pooler" in name else name)
    assert check_weights(place, architecture=architecture, head_in_part=False) == (None, None)
    load_body(place)
    tied = body.config.tie_word_embeddings and architecture.causal
    has_head = has_vocabulary_head(place, architecture=architecture)
    assert has_head is (tied if architecture.head else False)
    model = load_model(place, architecture=architecture)
    assert (model is model.base_model) is not tied
    load_with_head(place, architecture=architecture, seed=0)


def test_heads_that_are_not_needed(saved):
    config = make_model().config
    config.num_labels = 3
    place = saved(model=AutoModelForSequenceClassification.from_config(config))
    assert check_weights(place, architecture=ARCHITECTURES["bert"]) == (None, None)
    load_body(place)


def test_an_incomplete_head(saved, raw_recipe):
    architecture = ARCHITECTURES["bert"]
    place = saved(rename=lambda name: None if "transform.dense.weight" in name else name)
    load_body(place)  # the head is not needed
    problem, note = check_weights(place, architecture=architecture)
    assert problem is None and "lacks 1 of its weights: cls.predictions.transform.dense" in note
    assert "The head is left out; only the body is used" in note
    with pytest.warns(UserWarning, match="has a part of a vocabulary head"):
        assert type(limbeck.load(place)[0]).__name__ == "BertModel"
    setup, _ = check(raw_recipe | {"teacher": place})
    assert note in setup.warnings
    raw_recipe["stages"][0]["objectives"] = {"logits": {}}
    asked = dict(check(raw_recipe | {"teacher": place})[1])["teacher.model"]
    assert "lacks 1 weights" in asked
    assert not has_vocabulary_head(place, architecture=architecture)
    for load in (
        lambda: load_model(place, architecture=architecture, with_head=True),
        lambda: load_with_head(place, architecture=architecture, seed=0),
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
    loaded = load_model(place, architecture=ARCHITECTURES["bert"], with_head=True)
    norm = loaded.bert.embeddings.LayerNorm
    assert torch.equal(norm.weight, model.bert.embeddings.LayerNorm.weight)


def test_half_precision(saved):
    model = make_model("llama").half()
    loaded = load_model(saved(model=model), architecture=ARCHITECTURES["llama"], with_head=True)
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


def test_a_shard_is_truncated(sharded, raw_recipe):
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
        ('{"weight_map": {"a": "../x.safetensors"}}', "only safetensors beside it"),
        ('{"weight_map": {"a": "x.bin"}}', "only safetensors beside it"),
        ('{"weight_map": {"a": 3}}', "only safetensors beside it"),
    ],
)
def test_broken_indices(sharded, raw_recipe, content, message):
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


def test_what_evaluate_and_generate_say(saved):
    place = saved("llama", config={"num_hidden_layers": 4, "layer_types": None})
    with pytest.raises(LimbeckError, match="the files have 3"):
        TextGenerator.load(place)

"""Folders of sentence-transformers: the transformer inside is read, what surrounds it is kept."""

import json
import shutil

import pytest
import torch
from conftest import make_model

from limbeck.errors import ModelError
from limbeck.models.load import load_body
from limbeck.models.locate import fingerprint, locate
from limbeck.models.sentence_transformers import (
    DenseLayer,
    Pooling,
    sentence_model,
    transformer_in,
)
from limbeck.recipe.check import check
from limbeck.run.plan import plan_tables
from limbeck.tokenization.load import load_tokenizer

OLD = "sentence_transformers.models."
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


def write(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def modules(folder, *kinds):
    """modules.json; a kind may say its path."""
    pairs = [kind if isinstance(kind, tuple) else (kind, f"{n}_x") for n, kind in enumerate(kinds)]
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": kind}
        for n, (kind, path) in enumerate(pairs)
    ]
    write(folder, "modules.json", listed[::-1])  # idx decides, not the order


@pytest.fixture
def old_form(tmp_path, tokenizer):
    """As version 2.0 wrote it, with the transformer in a folder of its own."""
    folder = tmp_path / "old"
    make_model(vocabulary=len(tokenizer)).save_pretrained(folder / "0_Transformer")
    tokenizer.save_pretrained(folder / "0_Transformer")
    modules(
        folder,
        (f"{OLD}Transformer", "0_Transformer"),
        (f"{OLD}Pooling", "1_Pooling"),
        (f"{OLD}Dense", "2_Dense"),
        (f"{OLD}Normalize", "3_Normalize"),
    )
    write(folder / "0_Transformer", "sentence_bert_config.json", {"max_seq_length": 64})
    switches = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    write(folder / "1_Pooling", "config.json", {"word_embedding_dimension": 24, **switches})
    dense = {"in_features": 48, "out_features": 8, "bias": False}
    activation = "torch.nn.modules.linear.Identity"
    write(folder / "2_Dense", "config.json", dense | {"activation_function": activation})
    return folder


@pytest.fixture
def new_form(tmp_path, tokenizer):
    """As version 6.2 writes it, with the transformer at the top."""
    folder = tmp_path / "new"
    make_model(vocabulary=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    modules(folder, (NEW["Transformer"], ""), (NEW["Pooling"], "1_Pooling"), NEW["Normalize"])
    pooling = {"embedding_dimension": 24, "pooling_mode": "mean", "include_prompt": False}
    write(folder / "1_Pooling", "config.json", pooling)
    prompts = {"query": "query: ", "document": ""}
    settings = {"prompts": prompts, "default_prompt_name": "query", "similarity_fn_name": "cosine"}
    write(folder, "config_sentence_transformers.json", settings)
    write(folder, "sentence_bert_config.json", {"do_lower_case": True})
    return folder


def test_the_old_form_is_read(old_form):
    inner = old_form / "0_Transformer"
    assert locate(str(old_form)) == locate(str(inner)) == str(inner)
    assert locate(str(old_form), tokenizer_only=True) == str(inner)
    assert fingerprint(str(old_form)) == fingerprint(str(inner))
    bodies = [load_body(str(place)) for place in (old_form, inner)]
    one, other = (body.state_dict() for body in bodies)
    assert all(torch.equal(one[name], other[name]) for name in one if "pooler" not in name)
    assert load_tokenizer(str(old_form)).get_vocab() == load_tokenizer(str(inner)).get_vocab()
    found = sentence_model(str(old_form))
    assert found.transformer == inner
    assert found.pooling == Pooling(("cls", "mean"))
    assert found.dense == (DenseLayer(old_form / "2_Dense", 48, 8, False, "Identity", False),)
    assert found.normalize
    assert found.max_length == 64
    assert not found.lowercase
    assert ("dense", "48 to 8, Identity (2_Dense)") in found.lines()


def test_the_new_form_is_read(new_form):
    assert locate(str(new_form)) == str(new_form)
    found = sentence_model(str(new_form))
    assert found.pooling == Pooling(("mean",), include_prompt=False)
    assert (found.normalize, found.dense, found.others) == (True, (), ())
    assert dict(found.prompts) == {"query": "query: ", "document": ""}
    assert found.lines() == [
        ("pooling", "mean, without the prompt"),
        ("vectors of length 1", "yes"),
        ("prompt query", "'query: ', by default"),
        ("prompt document", "''"),
        ("similarity", "cosine"),
        ("lower case", "texts are lower-cased before they are tokenized"),
    ]


@pytest.mark.parametrize(("length", "read"), [(40, 40), (int(1e30), None)])
def test_a_folder_that_names_no_length_has_that_of_its_tokenizer(new_form, length, read):
    file = new_form / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) | {"model_max_length": length}
    file.write_text(json.dumps(settings), encoding="utf-8")
    assert sentence_model(str(new_form)).max_length == read
    write(new_form, "sentence_bert_config.json", {"max_seq_length": 16})
    assert sentence_model(str(new_form)).max_length == 16


def test_a_file_of_an_older_name_is_read(old_form):
    inner = old_form / "0_Transformer"
    (inner / "sentence_bert_config.json").rename(inner / "sentence_distilbert_config.json")
    assert sentence_model(str(old_form)).max_length == 64


def test_a_prompt_that_is_null_is_empty(new_form):
    prompts = {"query": None, "document": "passage: "}
    write(new_form, "config_sentence_transformers.json", {"prompts": prompts})
    assert sentence_model(str(new_form)).prompts == {"query": "", "document": "passage: "}


@pytest.mark.parametrize(("preset", "used"), [("embeddings", "applied"), (None, "kept, and not")])
def test_a_plan_says_whether_vectors_are_learned(new_form, raw_recipe, task_files, preset, used):
    raw_recipe["teacher"] = {"model": str(new_form)}
    if preset:
        raw_recipe["teacher"]["prompt"] = ""
        raw_recipe["data"] = {"rows": [str(task_files / "plain.train.jsonl")], "max_length": 16}
        raw_recipe["stages"] = [{"preset": preset, "max_steps": 2, "batch_size": 2}]
    setup, problems = check(raw_recipe)
    assert problems == []
    table = dict(plan_tables(setup, None))["Sentence vectors of the teacher"]
    assert table[0][0].startswith(used)


def test_a_plan_says_that_the_vectors_of_another_model_are_means(raw_recipe, task_files):
    raw_recipe["data"] = {"rows": [str(task_files / "plain.train.jsonl")], "max_length": 16}
    raw_recipe["stages"] = [{"preset": "embeddings", "max_steps": 2, "batch_size": 2}]
    setup, problems = check(raw_recipe)
    assert problems == []
    table = dict(plan_tables(setup, None))["Sentence vectors of the teacher"]
    assert table[1][1].startswith("mean, as it is no model of sentence-transformers")


def test_a_plan_shows_what_is_kept(new_form, raw_recipe):
    raw_recipe["teacher"] = {"model": str(new_form)}
    setup, problems = check(raw_recipe)
    assert problems == []
    tables = dict(plan_tables(setup, None))
    assert ["pooling", "mean, without the prompt"] in tables["Sentence vectors of the teacher"]
    assert any("do_lower_case" in warning for warning in setup.warnings)


def test_modules_that_are_not_read_are_named(new_form):
    kinds = [(NEW["Transformer"], ""), NEW["Normalize"], NEW["Pooling"], "own.code.Layer"]
    modules(new_form, *kinds)
    found = sentence_model(str(new_form))
    assert found.pooling is None
    assert found.others == (NEW["Pooling"], "own.code.Layer")
    assert ("not read", f"{NEW['Pooling']}, own.code.Layer") in found.lines()


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (f"{OLD}WordEmbeddings", "begins with .*WordEmbeddings, and not with a transformer"),
        ("sentence_transformers.base.modules.router.Router", "begins with .*Router"),
        ("custom_st.Transformer", "a module of its own code .*never runs"),
    ],
)
def test_chains_that_begin_otherwise_are_refused(new_form, first, said):
    modules(new_form, (first, ""))
    for read in (locate, lambda place: sentence_model(str(new_form))):
        with pytest.raises(ModelError, match=said):
            read(str(new_form))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no list of modules"),
        ("[]", "names no modules"),
        ('[{"idx": 0}]', "no list of modules"),
        (
            f'[{{"idx": 0, "path": "../up", "type": "{OLD}Transformer"}}]',
            "names '../up'; only folders inside it are read",
        ),
        (f'[{{"idx": 0, "path": "/", "type": "{OLD}Transformer"}}]', "names '/'"),
    ],
)
def test_damaged_lists_are_refused(new_form, content, said):
    (new_form / "modules.json").write_text(content)
    with pytest.raises(ModelError, match=said):
        transformer_in(new_form)


def test_damaged_settings_are_refused(old_form):
    write(old_form / "2_Dense", "config.json", {"in_features": 48})
    with pytest.raises(ModelError, match="names no in_features and out_features"):
        sentence_model(str(old_form))
    (old_form / "1_Pooling" / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match="no JSON object"):
        sentence_model(str(old_form))
    shutil.rmtree(old_form / "0_Transformer")
    with pytest.raises(ModelError, match=r"no config\.json"):
        locate(str(old_form))

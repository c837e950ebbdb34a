import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from conftest import make_model, make_tokenizer
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from limbeck.errors import MissingExtraError, ModelError
from limbeck.models import locate as model_folders
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_body, load_config, load_model
from limbeck.models.locate import locate
from limbeck.models.weight_headers import check_weights, has_vocabulary_head
from limbeck.models.weight_plan import weight_plan
from limbeck.tokenization.load import load_tokenizer

BERT = ARCHITECTURES["bert"]


def folder(tmp_path, **config):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    return str(tmp_path)


def test_a_folder_loads_in_evaluation_mode(teacher_folder):
    model = load_model(str(teacher_folder), architecture=BERT, with_head=True)
    assert not model.training and model.dtype == torch.float32
    body = load_body(str(teacher_folder), attention_dropout=False)
    assert type(body).__name__ == "BertModel"
    assert body.config.attention_probs_dropout_prob == 0.0
    assert load_tokenizer(str(teacher_folder)).is_fast


def test_a_body_without_a_head_is_recognized(tmp_path):
    make_model().base_model.save_pretrained(tmp_path)
    assert type(load_model(str(tmp_path), architecture=BERT)).__name__ == "BertModel"
    with pytest.raises(ModelError, match="no trained vocabulary head.*train one by a run"):
        load_model(str(tmp_path), architecture=BERT, with_head=True)


def test_folders_that_are_refused(tmp_path):
    with pytest.raises(ModelError, match="does not exist; give a transformers folder"):
        locate(str(tmp_path / "missing"))
    with pytest.raises(ModelError, match="has no config.json"):
        locate(str(tmp_path))
    with pytest.raises(ModelError, match="no weights at all, but only safetensors"):
        locate(folder(tmp_path))
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ModelError, match="holds pytorch_model.bin, but only safetensors are read"):
        locate(folder(tmp_path))
    with pytest.raises(ModelError, match=r"needs remote code \(auto_map: .*AutoModel"):
        locate(folder(tmp_path, auto_map={"AutoModel": "x.Y"}))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        locate(str(tmp_path))


def test_the_folder_of_a_run_is_told_from_that_of_its_student(tmp_path):
    student = tmp_path / "student"
    student.mkdir()
    with pytest.raises(ModelError, match="give the folder that save_pretrained"):
        locate(str(tmp_path))
    (student / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=f"give the student of this run, '{student}'"):
        locate(str(tmp_path))


@pytest.mark.parametrize("name", ["consolidated", "pytorch_model", "model-00001-of-00002"])
def test_safetensors_of_another_name_are_refused(tmp_path, name):
    (tmp_path / f"{name}.safetensors").touch()
    with pytest.raises(ModelError, match=rf"holds {name}\.safetensors.*or model.*index\.json"):
        locate(folder(tmp_path))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("base", ["some/base", None])
def test_an_adapter_must_be_merged_first(tmp_path, whole, base):
    if whole:
        make_model().save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(ModelError, match=r"holds an adapter .*merge it.*merge_and_unload") as said:
        load_config(str(tmp_path))
    if whole:
        assert "beside a whole model" in str(said.value)
    else:
        assert f"addition to {base or 'its base model'!r}" in str(said.value)


@pytest.mark.parametrize("whole", [False, True])
def test_an_adapter_without_its_configuration(tmp_path, whole):
    if whole:
        make_model().save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(
        ModelError, match=r"holds an adapter \(adapter_model\.safetensors\)"
    ) as said:
        load_config(str(tmp_path))
    assert ("take adapter_model.safetensors out" in str(said.value)) is whole


def test_weights_that_are_no_safetensors_are_refused(tmp_path):
    make_model().config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        load_model(str(tmp_path), architecture=BERT)


def test_a_family_without_a_class_of_a_kind_has_no_plan(tmp_path):
    """Fails when transformers changes its public tables of models."""
    make_model("gpt2").save_pretrained(tmp_path)
    files, config = [tmp_path / "model.safetensors"], load_config(str(tmp_path))
    for kind in (AutoModel, AutoModelForCausalLM):
        assert weight_plan("gpt2", kind, config, files) is not None
    assert weight_plan("gpt2", AutoModelForMaskedLM, config, files) is None


def test_a_hub_name_out_of_reach_says_so():
    with pytest.raises(ModelError, match="where the hub can be reached"):
        load_config("someone/something")


def test_a_misspelt_folder_gets_the_nearest_one(tmp_path, monkeypatch):
    make_model().save_pretrained(tmp_path / "my-model")
    (tmp_path / "my-modem").write_text("no folder")
    monkeypatch.chdir(tmp_path)
    for name in ("my-modle", "./my-modle", str(tmp_path / "my-modle")):
        with pytest.raises(ModelError, match=r"; did you mean '.*my-model'\?"):
            load_config(name)


def test_what_a_script_wanted_of_a_model_is_not_wanted_here(tmp_path):
    flags = {"return_dict": False, "output_hidden_states": True, "output_attentions": True}
    model = make_model()
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | flags))
    found = load_body(str(tmp_path))(input_ids=torch.ones(1, 3, dtype=torch.long))
    assert found.last_hidden_state.shape == (1, 3, 24)
    assert found.hidden_states is None and found.attentions is None


def test_settings_stay_where_a_class_adds_tokens(tmp_path):
    asked = {"padding_side": "left", "truncation_side": "left", "model_max_length": 77}
    tokenizer = make_tokenizer("byte_bpe")
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | asked))
    folder(tmp_path, model_type="qwen2")  # whose class adds <|endoftext|>
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert {name: getattr(loaded, name) for name in asked} == asked


def test_a_missing_tokenizer_says_so(tmp_path):
    make_model().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(str(tmp_path))


def test_the_demo_teacher_is_checked_before_use(monkeypatch):
    assert locate("minilm-demo").endswith("model")
    monkeypatch.setattr(model_folders, "_DEMO_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="have sha256 53aa51.*expected 0000.*reinstall it"):
        locate("minilm-demo")
    monkeypatch.setattr(model_folders, "_DEMO_PACKAGE", "no-such-package")
    with pytest.raises(MissingExtraError, match=r"pip install 'limbeck\[demo\]'"):
        locate("minilm-demo")


@pytest.mark.parametrize(
    ("wrote", "said"),
    [
        ("99.1.0", r"written by transformers 99\.1\.0: install that version .*>=99\.1\.0"),
        ("4.1.0", r"written by transformers 4\.1\.0: a newer version may know it"),
        (None, "does not say what wrote it: a newer version may know it"),
        ("main", "written by transformers main: a newer version may know it"),
    ],
)
def test_a_type_that_transformers_does_not_know(tmp_path, wrote, said):
    place = folder(tmp_path, model_type="orion9", transformers_version=wrote)
    (tmp_path / "model.safetensors").touch()
    here = rf"transformers {re.escape(transformers.__version__)} \(installed\) does not know"
    with pytest.raises(ModelError, match=f"{here} its model_type 'orion9'; its config.*{said}"):
        load_config(place)


def test_a_configuration_without_a_type_says_so(tmp_path):
    place = str(tmp_path)
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="names no model_type; copy it from the original"):
        load_config(place)


def in_hub_cache(tmp_path, monkeypatch, name):
    """Where the hub's client keeps a model that it has downloaded: links to nameless files."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    kept = cache / f"models--{name.replace('/', '--')}"
    commit = "0123456789" * 4
    snapshot = kept / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    (kept / "blobs").mkdir()
    for number, file in enumerate(sorted((tmp_path / "model").iterdir())):
        blob = file.rename(kept / "blobs" / f"{number:040}")
        (snapshot / file.name).symlink_to(blob)


@pytest.mark.parametrize("from_hub", [False, True])
def test_shards_in_half_precision_are_read_alike(tmp_path, monkeypatch, from_hub):
    """From a folder and from the hub's cache, with and without the head, wide and as stored."""
    model = make_model("llama", vocabulary=100).bfloat16()
    model.save_pretrained(tmp_path / "model", max_shard_size="8KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 3
    name = "organization/tiny" if from_hub else str(tmp_path / "model")
    if from_hub:
        in_hub_cache(tmp_path, monkeypatch, name)
    architecture = ARCHITECTURES["llama"]
    assert check_weights(name, architecture=architecture) == (None, None)
    assert has_vocabulary_head(name, architecture=architecture)
    ids = torch.arange(5, 25).view(2, 10)
    wide, stored = (
        load_model(name, architecture=architecture, with_head=True, stored=stored)
        for stored in (False, True)
    )
    with torch.no_grad():
        logits = [loaded(input_ids=ids).logits for loaded in (wide, stored)]
        states = [load_body(name, stored=s)(input_ids=ids)[0] for s in (False, True)]
    assert torch.equal(*logits)
    assert torch.equal(*states)
    assert all(torch.equal(wide.get_parameter(n), p.float()) for n, p in model.named_parameters())
    assert {p.dtype for p in stored.parameters() if p.dim() > 1} == {torch.bfloat16}


MEASURED = """
import sys
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_config, load_model
from limbeck.system.memory import peak_process_bytes
load_model(sys.argv[1], architecture=ARCHITECTURES["llama"], stored=True)
before = peak_process_bytes()
load_model(sys.argv[2], architecture=ARCHITECTURES["llama"], stored=True)
print(0 if before is None else peak_process_bytes() - before)
"""


def test_loading_shards_takes_their_size_once(tmp_path):
    make_model("llama").bfloat16().save_pretrained(tmp_path / "tiny")
    fields = {"hidden": 512, "layers": 8, "intermediate_size": 2048, "head_dim": 128}
    model = make_model("llama", vocabulary=8000, **fields).bfloat16()
    model.save_pretrained(tmp_path / "large", max_shard_size="20MB")
    size = sum(file.stat().st_size for file in (tmp_path / "large").glob("*.safetensors"))
    assert size > 70e6
    del model
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "tiny"), str(tmp_path / "large")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout.split()[-1]) < 1.4 * size


def test_weights_that_their_owner_alone_may_read(tmp_path, monkeypatch):
    """As safetensors writes them; it says that they are not there."""
    make_model().save_pretrained(tmp_path)
    opened = Path.open

    def denied(place, *mode, **options):
        if place.name == "model.safetensors":
            raise PermissionError(13, "Permission denied", str(place))
        return opened(place, *mode, **options)

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ModelError, match=r"model\.safetensors may be read by its owner alone"):
        load_model(str(tmp_path), architecture=BERT)

"""What `limbeck inspect` says, and the page of the guide that is made of the same."""

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import HEADS, LABELS, make_model, make_tokenizer
from gguf import GGMLQuantizationType as Kind
from gguf_files import write_gguf
from transformers import AutoConfig, AutoModelForMaskedLM

from limbeck.cli.main import main
from limbeck.errors import ModelError
from limbeck.models.families import ARCHITECTURES
from limbeck.models.families.abilities import abilities
from limbeck.models.families.inspection import inspect_model, inspection_tables
from limbeck.models.families.lookup import architecture_of
from limbeck.models.families.quirks import quirks
from limbeck.models.task_heads import listed
from limbeck.student.low_rank import Rank, chosen_layers, factorize_layers

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "models.md"


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_family_can_be_looked_at_by_its_name(family):
    found = inspect_model(None, model_type=family)
    assert found.row == "table" and found.missing == ()
    assert found.parameters > found.embeddings > 0
    assert found.works["hidden_states"] == "yes"
    json.dumps(found.to_json())
    assert all(len(row) == 2 for _, table in inspection_tables(found) for row in table)


def test_a_folder_says_its_precision_and_whether_its_head_is_trained(tmp_path):
    model = make_model().to(torch.bfloat16)
    model.save_pretrained(tmp_path / "whole")
    model.bert.save_pretrained(tmp_path / "body")
    whole, body = (inspect_model(str(tmp_path / name)) for name in ("whole", "body"))
    assert whole.works["logits"] == "yes"
    assert body.works["logits"] == "no trained head in its files"
    assert set(whole.precisions) == {"BF16"}
    assert whole.shape.hidden_size == 24
    assert whole.attending == [0, 1, 2]


def test_the_head_of_a_task_and_the_vectors_of_texts_are_shown(tmp_path):
    model = make_model()
    said = {}
    for name, head in HEADS.items():
        head.set_on(model.config)
        kind = "Sequence" if head.kind == "sequence" else "Token"
        model.save_pretrained(tmp_path / name)
        model.config.architectures = [f"BertFor{kind}Classification"]
        model.config.save_pretrained(tmp_path / name)
        found = inspect_model(str(tmp_path / name))
        assert found.task_head == head and not found.vectors
        said[name] = dict(inspection_tables(found)[0][1])["task head"]
    assert said["labels"] == f"a classification head, 3 labels: {listed(LABELS)}"
    assert said["several"] == f"a multi-label head, 3 labels: {listed(LABELS)}"
    assert said["scores"] == "a head that gives a number"
    assert said["tags"] == "a tagging head, 2 labels: 'B-X', 'O'"
    embedding = inspect_model("minilm-demo")
    assert embedding.task_head is None and embedding.vectors["pooling"] == "mean"
    assert inspection_tables(embedding)[1] == (
        "Sentence vectors",
        [["what", "value"], *map(list, embedding.vectors.items())],
    )


def test_a_run_folder_stands_for_its_student(tmp_path):
    make_model(layers=2).save_pretrained(tmp_path / "run" / "student")
    (tmp_path / "run" / "recipe.yaml").write_text("{}", encoding="utf-8")
    assert inspect_model(str(tmp_path / "run")).shape.num_hidden_layers == 2


def test_low_rank_layers_are_counted_as_what_they_are(tmp_path):
    model = make_model("llama")
    paths = chosen_layers(model, ARCHITECTURES["llama"], "feed_forward")
    factorize_layers(model, paths, Rank(number=4))
    model.save_pretrained(tmp_path)
    found = inspect_model(str(tmp_path))
    assert found.parameters == sum(weight.numel() for weight in model.parameters())
    assert found.works["copy"] == "not of a model with low-rank layers"


def test_either_a_model_or_a_type():
    for name, model_type in ((None, None), ("x", "bert")):
        with pytest.raises(ModelError, match="either a model, or a type"):
            inspect_model(name, model_type=model_type)


def test_layers_that_attend_are_named(tmp_path):
    make_model("qwen3_5_text").save_pretrained(tmp_path)
    found = inspect_model(str(tmp_path))
    assert found.attending == [0, 2]
    assert found.works["relations"] == "layers with attention"
    about = dict(inspection_tables(found)[0][1])
    assert about["layers with them"] == "0, 2"


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["limbeck", "inspect", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_the_command_shows_a_proposal_and_what_did_not_hold(monkeypatch, capsys, tmp_path):
    config = AutoConfig.for_model("deberta", hidden_size=24, num_attention_heads=4)
    config.num_hidden_layers, config.intermediate_size, config.vocab_size = 3, 48, 200
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    code, out, _ = run(monkeypatch, capsys, tmp_path)
    assert code == 0
    assert "deberta (proposed, and proven on a tiny model)" in out
    assert "What did not hold" in out and "relations" in out
    assert "teacher: {model: ..., architecture: {layers: encoder.layer" in out


def test_the_command_prints_json_and_refuses_with_the_proposal(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "--type", "phi", "--json")
    found = json.loads(out)
    assert code == 0 and found["row"] == "proposal"
    assert found["architecture"]["query"] == "self_attn.q_proj"
    assert found["works"]["generation"] == "yes"
    code, out, err = run(monkeypatch, capsys, "--type", "xlm")
    assert code == 1 and out == ""
    assert "architecture: {layers: ffns" in err.replace("\n", " ")


def test_the_page_has_a_line_for_every_family_and_says_what_is_said_here():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for family in ARCHITECTURES:
        config = AutoConfig.for_model(family)
        row = architecture_of(config)
        works = vars(abilities(row, config))
        heads = ["type", "kind", *(name.replace("_", " ") for name in works), "quirks"]
        cells = [f"`{family}`", "decoder" if row.causal else "encoder"]
        cells += [*(said or "-" for said in works.values()), ", ".join(quirks(row, family)) or "-"]
        for line in (heads, cells):
            assert "| " + " | ".join(line) + " |" in lines


def test_a_gguf_file_says_its_precisions(tmp_path):
    tokenizer = make_tokenizer("byte_bpe", 60)
    sizes = {"hidden": 64, "intermediate_size": 64, "head_dim": 16}
    model = make_model("llama", vocabulary=len(tokenizer), **sizes)
    model.config.pad_token_id = tokenizer.pad_token_id
    file = write_gguf(tmp_path / "model.gguf", model, tokenizer, kind=Kind.Q8_0)
    found = inspect_model(str(file))
    assert found.model_type == "llama" and found.works["logits"] == "yes"
    assert set(found.precisions) == {"Q8_0", "F32"}

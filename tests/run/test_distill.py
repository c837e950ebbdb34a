"""Whole runs on a tiny teacher: what they leave, and that nothing is lost when they are stopped."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import warm
import yaml
from conftest import losses, make_model, same_run, train
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer

from limbeck.errors import InterruptedRunError, RecipeError
from limbeck.evaluation.cost import measure_cost
from limbeck.run import costs
from limbeck.run.costs import kept_cost
from limbeck.run.distill import distill
from limbeck.system.locks import claim
from limbeck.training.interrupt import SharedFlag

CODE = """
import sys, yaml
from limbeck.run.distill import distill
distill(yaml.safe_load(open(sys.argv[1])), sys.argv[2])
"""


# So that a run has not ended before a busy machine has come to stop it.
SLOWLY = """
import time, limbeck.training.loop as loop
step = loop.train_step
loop.train_step = lambda *given: (time.sleep(0.03), step(*given))[1]
"""


def command(recipe: dict, folder: Path, before: str = "") -> list[str]:
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return [warm.PYTHON, "-c", before + CODE, str(file), str(folder)]


@pytest.fixture
def two_stages(raw_recipe) -> dict:
    objectives = [{"relations": {}, "hidden_states": {"weight": 0.1}}, {"labels": {}}]
    return {
        **raw_recipe,
        "student": {
            **raw_recipe["student"],
            "init_from_teacher": {"layers": "last", "width": "svd"},
        },
        "stages": [
            {
                "objectives": part,
                "max_steps": steps,
                "batch_size": 4,
                "micro_batch_size": 2,
                "dropout": True,
            }
            for part, steps in zip(objectives, (60, 20), strict=True)
        ],
        "training": {
            **raw_recipe["training"],
            "save_steps": 7,
            "eval_steps": 20,
            "logging_steps": 1,
        },
    }


def test_a_run_leaves_what_a_user_can_hold(raw_recipe, tmp_path):
    folder = tmp_path / "run"
    run = distill(raw_recipe, folder)
    student = AutoModel.from_pretrained(run.student)
    assert student.config.num_hidden_layers == 2 and student.config.hidden_size == 16
    assert type(student).__module__.startswith("transformers.")
    assert AutoTokenizer.from_pretrained(run.student).is_fast
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {
        "recipe.yaml",
        "log.jsonl",
        "student/config.json",
        "student/model.safetensors",
        "student/tokenizer.json",
        "student/README.md",
        "report/report.json",
        "report/report.md",
        "report/report.html",
    } <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".part"))]
    weights = load_file(run.student / "model.safetensors")
    assert not [name for name in weights if "cls" in name or "projection" in name]
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["training"]["tokens"] == 6 * 4 * 16
    assert report["held_out"]["relations"]["after"] < report["held_out"]["relations"]["before"]
    card = (run.student / "README.md").read_text(encoding="utf-8")
    assert "AutoModel.from_pretrained" in card and "relations, 6 steps" in card
    assert "import limbeck" not in card


def test_labels_alone_are_pretraining_and_keep_the_head(raw_recipe, teacher_folder, tmp_path):
    recipe = {key: value for key, value in raw_recipe.items() if key != "teacher"}
    recipe["student"] = {
        **raw_recipe["student"],
        "model_type": "distilbert",
        "tokenizer": str(teacher_folder),
    }
    recipe["stages"] = [{"objectives": {"labels": {}}, "max_steps": 4, "batch_size": 4}]
    run = distill(recipe, tmp_path / "run")
    model = AutoModelForMaskedLM.from_pretrained(run.student)
    assert model.config.model_type == "distilbert"
    stages = run.report["training"]["stages"]
    assert [(s["name"], s["steps"], s["tokens"]) for s in stages] == [("labels", 4, 4 * 4 * 16)]
    text = run.report["held_out_text"]
    assert text["bits_per_byte"] > 0 and "top_agreement" not in text


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_resumes_bit_by_bit(two_stages, tmp_path, trained, kill):
    broken = tmp_path / "broken"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command(two_stages, broken, SLOWLY), env=environment, stderr=subprocess.PIPE, text=True
    )
    while not list((broken / "state").glob("checkpoint-00?-0000000[1-9]*[0-9]")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    process.send_signal(kill)
    error = process.communicate()[1]
    assert process.returncode != 0
    assert not (broken / "student").exists(), "it was not stopped in time to show anything"
    if kill is signal.SIGINT:
        assert "Run the same command again to resume" in error
    distill(two_stages, broken)
    same_run(broken, trained(two_stages))


def test_a_run_that_was_stopped_tells_the_losses_of_all_steps(
    raw_recipe, tmp_path, trained, monkeypatch
):
    """Those between the last record and Ctrl-C were in none, and the next record was not theirs."""
    raw_recipe["training"] |= {"logging_steps": 4, "save_steps": 4}
    asked = itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setattr(SharedFlag, "raised", lambda *_, at_end: next(asked) == 3)
        with pytest.raises(InterruptedRunError, match="stopped at step 3"):
            train(raw_recipe, tmp_path / "run")
    train(raw_recipe, tmp_path / "run")
    found, whole = (
        {step: means["relations"] for _, step, _, means, _ in losses(folder) if means}
        for folder in (tmp_path / "run", trained(raw_recipe))
    )
    assert list(found) == [3, 4, 6] and list(whole) == [4, 6]
    assert (3 * found[3] + found[4]) / 4 == pytest.approx(whole[4], rel=1e-5)
    assert found[6] == whole[6]


def test_a_full_disk_leaves_a_whole_checkpoint(two_stages, tmp_path, trained):
    """Files larger than a limit fail to be written, as on a full disk, once training has begun."""
    broken = tmp_path / "broken"
    limit = (
        "import resource, limbeck.training.checkpoint as c; save = c.save_checkpoint; calls = []\n"
        "def limited(*a, **k):\n"
        "    calls.append(a)\n"
        "    if len(calls) == 2: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "    return save(*a, **k)\n"
        "import limbeck.training.loop as l; l.save_checkpoint = limited\n"
    )
    done = subprocess.run(
        command(two_stages, broken, limit), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "could not be written" in done.stderr and "Earlier checkpoints are whole" in done.stderr
    assert [p.name for p in (broken / "state").iterdir()] == ["checkpoint-000-000000007"]
    distill(two_stages, broken)
    same_run(broken, trained(two_stages))


def test_an_unknown_architecture_is_described_in_the_recipe(raw_recipe, tokenizer, tmp_path):
    config = AutoConfig.for_model("data2vec-text")  # in transformers, but not in our table
    config.update({"num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 4})
    config.update({"intermediate_size": 48, "vocab_size": len(tokenizer), "pad_token_id": 0})
    config.max_position_embeddings = 80
    folder = tmp_path / "teacher"
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    paths = {name: f"attention.self.{name}" for name in ("query", "key", "value")}
    architecture = {"layers": "encoder.layer", "head": ["lm_head"], **paths}
    raw_recipe["teacher"] = {"model": str(folder), "architecture": architecture}
    run = distill(raw_recipe, tmp_path / "run")
    assert AutoModel.from_pretrained(run.student).config.model_type == "data2vec-text"


def test_a_folder_with_another_run_is_refused(raw_recipe, tmp_path, trained):
    shutil.copytree(trained(raw_recipe), tmp_path / "run")
    other = {**raw_recipe, "seed": 1}
    with pytest.raises(RecipeError, match="different: seed: 0 before, 1 now.; use another"):
        distill(other, tmp_path / "run")


def test_a_run_of_an_older_version_resumes(raw_recipe, tmp_path, trained):
    """Its recipe lacks a field that has come since, which then had its default."""
    shutil.copytree(trained(raw_recipe), tmp_path / "run")
    file = tmp_path / "run" / "recipe.yaml"
    older = yaml.safe_load(file.read_text(encoding="utf-8"))
    del older["student"]["embedding_init"]
    file.write_text(yaml.safe_dump(older), encoding="utf-8")
    distill(raw_recipe, tmp_path / "run")
    assert "embedding_init" in yaml.safe_load(file.read_text(encoding="utf-8"))["student"]


def test_the_same_command_again_trains_nothing(raw_recipe, tmp_path):
    distill(raw_recipe, tmp_path / "run")
    weights = tmp_path / "run" / "student" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    distill(raw_recipe, tmp_path / "run")
    assert weights.stat().st_mtime_ns == before


def test_paths_in_the_home_folder(raw_recipe, tmp_path, monkeypatch):
    """Its student was not found after the training, and a text never."""
    shutil.copy(raw_recipe["data"]["text"], tmp_path / "corpus.txt")
    monkeypatch.setenv("HOME", str(tmp_path))
    raw_recipe["data"]["text"] = "~/corpus.txt"
    raw_recipe["stages"][0]["max_steps"] = 1
    raw_recipe["evaluation"] = {"cost": False, "teacher": False}
    run = distill(raw_recipe, "~/run")
    assert run.folder == tmp_path / "run" and run.student.is_dir()
    resolved = yaml.safe_load((run.folder / "recipe.yaml").read_text(encoding="utf-8"))
    assert resolved["data"]["text"][0]["path"] == str(tmp_path / "corpus.txt")


def test_a_run_that_was_stopped_before_its_student_was_written(two_stages, tmp_path, trained):
    shutil.copytree(trained(two_stages), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "student")
    distill(two_stages, tmp_path / "run")
    same_run(tmp_path / "run", trained(two_stages))


def test_tensorboard_when_asked(raw_recipe, tmp_path):
    pytest.importorskip("tensorboard")
    raw_recipe["training"]["report_to"] = ["tensorboard"]
    distill(raw_recipe, tmp_path / "run")
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


def test_what_was_measured_is_of_that_model(tmp_path, monkeypatch, warm_python):
    one = {"batches": (1,), "lengths": (16,), "seconds_each": 0.01}
    monkeypatch.setattr(costs, "measure_cost", partial(measure_cost, **one))
    small, kept = make_model(layers=1), tmp_path / "cost.json"
    for name, model in (("large", make_model()), ("small", small)):
        model.base_model.save_pretrained(tmp_path / name)
    sizes = [kept_cost(str(tmp_path / n), kept)["parameters"] for n in ("large", "small", "small")]
    assert sizes[0] > sizes[1] == sizes[2]


def test_the_card_says_what_was_scored(raw_recipe, tmp_path):
    rows = [json.dumps({"text": "old house", "label": label}) for label in ("x", "y") * 8]
    for split in ("train", "dev"):
        (tmp_path / f"toy.{split}.jsonl").write_text("\n".join(rows))
    settings = {"num_train_epochs": 1, "max_length": 16}
    raw_recipe["evaluation"] |= {
        "tasks": [str(tmp_path / "toy")],
        "finetuning": settings,
        "seeds": 2,
    }
    card = (distill(raw_recipe, tmp_path / "run").student / "README.md").read_text("utf-8")
    assert "## Quality" in card and "- toy (accuracy, x 100): " in card and "teacher 50.0" in card


def test_two_commands_do_not_train_in_one_folder(raw_recipe, tmp_path):
    with claim(tmp_path / "run", "training") as free:
        assert free
        with pytest.raises(RecipeError, match="another command is training in"):
            distill(raw_recipe, tmp_path / "run")
    assert distill(raw_recipe, tmp_path / "run").student.is_dir()

"""Runs that a launcher shares over processes: the same curve, and nothing lost when one dies."""

import os
import subprocess
import time

import psutil
import pytest
import warm
import yaml
from conftest import alike, launcher


@pytest.fixture
def recipe(raw_recipe):
    objectives = [{"relations": {}, "hidden_states": {"weight": 0.1}}, {"labels": {}, "logits": {}}]
    stage = {"max_steps": 8, "batch_size": 5, "micro_batch_size": 2}
    return {
        **raw_recipe,
        "stages": [
            {"objectives": objectives[0], **stage},
            {"objectives": objectives[1], "quantization_aware": "int8", **stage},
        ],
        "training": {**raw_recipe["training"], "save_steps": 4, "logging_steps": 1},
    }


def started(recipe, folder, processes, **options):
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    command, environment = launcher(processes, **options)
    command += ["-m", "limbeck", "distill", str(file), "-o", str(folder)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended_well(process):
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp2"])
def test_two_processes_give_the_curve_of_one(recipe, tmp_path, trained, fsdp):
    ended_well(started(recipe, tmp_path / "two", 2, fsdp=fsdp))
    alike(tmp_path / "two", trained(recipe))
    assert (tmp_path / "two" / "report" / "report.html").is_file()


def launched(command, folder):
    """Run a launcher to its end; it leaves a folder of logs among the short-lived files."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


ACCELERATE = {
    "ddp": {"distributed_type": "MULTI_GPU"},
    "fsdp2": {"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2}},
}


@pytest.mark.parametrize("kind", ACCELERATE)
def test_accelerate_launches_as_documented(recipe, tmp_path, trained, kind):
    """By the configuration of docs/guide/scaling.md, with as many processes as there are cores."""
    recipe["stages"] = [{**stage, "max_steps": 3} for stage in recipe["stages"]]
    text = yaml.safe_dump(recipe, sort_keys=False)
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    config = {"num_machines": 1, "num_processes": 2, "machine_rank": 0, **ACCELERATE[kind]}
    (tmp_path / "launch.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [warm.PYTHON, "-m", "accelerate.commands.accelerate_cli", "launch"]
    command += ["--config_file", str(tmp_path / "launch.yaml"), "--main_process_port", "0"]
    command += ["-m", "limbeck", "distill", str(tmp_path / "recipe.yaml")]
    launched([*command, "-o", str(tmp_path / "two")], tmp_path)
    alike(tmp_path / "two", trained(recipe))


MIXED = [{"mixed": {}}, {"objectives": {"labels": {}, "relations": {}}}]
ALIGNED = [{"alignment": "reduce", "objectives": {"logits": {}, "hidden_states": {}, "labels": {}}}]


@pytest.mark.parametrize(("stages", "fsdp"), [(MIXED, True), (ALIGNED, False)])
def test_two_vocabularies(recipe, vocabulary, tmp_path, trained, stages, fsdp):
    recipe["student"]["tokenizer"] = vocabulary
    length = {"max_steps": 4, "batch_size": 5, "micro_batch_size": 2}
    recipe["stages"] = [{**length, **stage} for stage in stages]
    ended_well(started(recipe, tmp_path / "two", 2, fsdp=fsdp))
    alike(tmp_path / "two", trained(recipe))


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp2"])
def test_text_that_is_generated(recipe, decoder, prompts, tmp_path, trained, fsdp):
    recipe["teacher"] = decoder
    recipe["data"] = {"prompts": prompts, "max_length": 40, "max_new_tokens": 16}
    stage = {"objectives": {"logits": {}, "labels": {}}, "max_steps": 4, "batch_size": 5}
    policy = {"kind": "switch", "replay_ratio": 0.3}
    recipe["stages"] = [{"policy": policy, **stage}]
    ended_well(started(recipe, tmp_path / "two", 2, fsdp=fsdp))
    alike(tmp_path / "two", trained(recipe))


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp2"])
def test_a_process_that_dies_ends_the_run_which_resumes_with_another_number(
    recipe, tmp_path, trained, fsdp
):
    recipe["stages"][0]["max_steps"] = 28
    broken = tmp_path / "broken"
    process = started(recipe, broken, 2, fsdp=fsdp)
    until = time.monotonic() + 120
    while not list((broken / "state").glob("checkpoint-000-*[0-9]")):
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
        time.sleep(0.01)
    workers = psutil.Process(warm.fork_of(process.pid)).children()
    assert len(workers) == 2
    workers[1].kill()
    began = time.monotonic()
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and time.monotonic() - began < 60
    assert "lost another" in said and "run the same command again" in " ".join(said.split()), said
    assert not (broken / "student").exists(), "it was not stopped in time to show anything"
    names = {file.name for file in (broken / "state").glob("checkpoint-*[0-9]/*")}
    shards = {name for name in names if name.startswith("shard-")}
    assert len(shards) == (2 if fsdp else 0)
    kept = {"checkpoint.json", *(() if fsdp else ("learner.safetensors", "optimizer.safetensors"))}
    assert names - shards == kept
    ended_well(started(recipe, broken, 3, fsdp=fsdp))
    alike(broken, trained(recipe))


def test_torchrun_launches_as_documented(recipe, tmp_path, trained):
    recipe["stages"] = [{**stage, "max_steps": 3} for stage in recipe["stages"]]
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    command = [warm.PYTHON, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "limbeck", "distill", str(file), "-o", str(tmp_path / "two")]
    launched(command, tmp_path)
    alike(tmp_path / "two", trained(recipe))


def test_a_study_is_not_for_several_processes(recipe, tmp_path):
    study = {
        "name": "study",
        "recipe": recipe,
        "arms": {"one": {}, "two": {"student.num_hidden_layers": 1}},
        "control": "one",
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study), encoding="utf-8")
    command, environment = launcher(2)
    command += ["-m", "limbeck", "compare", str(file), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "a study runs in one process, not 2" in " ".join(done.stderr.split())
    assert warm.PYTHON in command

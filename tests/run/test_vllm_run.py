"""Runs whose student generates on a vLLM server: a stand-in that is started as vLLM is."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch
import warm
import yaml
from conftest import TOKENS, alike, launcher, train
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from limbeck.errors import RecipeError, ServerError
from limbeck.generation.decoding import Generated
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.distill import distill
from limbeck.run.models import build_models
from limbeck.run.probe import probe
from limbeck.run.prompt_batches import generated_batches, prompt_batches
from limbeck.run.vllm import vllm_notes

STAND_IN = Path(__file__).parents[1] / "generation" / "vllm_stand_in.py"


@pytest.fixture
def program(tmp_path):
    """An executable that takes the arguments of vLLM."""
    file = tmp_path / "bin" / "vllm"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nexec "{warm.PYTHON}" "{STAND_IN}" "$@"\n')
    file.chmod(0o755)
    return file


@pytest.fixture
def raw(raw_recipe, decoder, prompts, program):
    raw_recipe["teacher"] = decoder
    raw_recipe["data"] = {"prompts": prompts, "max_length": 40, "max_new_tokens": 16}
    policy = {"kind": "student", "engine": "vllm", "vllm_command": str(program)}
    stage = {"policy": policy, "objectives": {"logits": {}}, "max_steps": 3, "batch_size": 4}
    raw_recipe["stages"] = [stage, {**stage, "policy": "corpus"}]
    raw_recipe["training"] |= {"logging_steps": 1}
    return raw_recipe


def servers():
    """Processes of the stand-in that are there."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(STAND_IN) in (process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_run_starts_a_server_for_its_stage_and_ends_it(raw, tmp_path):
    before = servers()
    run = distill(raw, tmp_path / "run")
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    steps = [record for record in log if "objectives" in record]
    assert [record.get("teacher_wrote") for record in steps] == [[0.0] * 3] * 3 + [None] * 3
    assert 1 <= steps[0]["written_length"] <= 16
    assert "serving\n" in (run.folder / "vllm.log").read_text(encoding="utf-8")
    assert not (run.folder / "vllm").exists()
    ends = time.monotonic() + 20
    while servers() != before and time.monotonic() < ends:
        time.sleep(0.1)
    assert servers() == before


def test_greedy_text_gives_the_student_of_the_engine_within(raw, tmp_path):
    raw["stages"][0]["policy"]["temperature"] = 0
    distill(raw, tmp_path / "vllm")
    raw["stages"][0]["policy"] = {"kind": "student", "temperature": 0}
    train(raw, tmp_path / "own")
    weights = [tmp_path / name / "student" / "model.safetensors" for name in ("vllm", "own")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("kind", ["factorize", "lora"])
def test_a_low_rank_student_is_sent_as_a_dense_one(raw, kind, tmp_path):
    """Its text is that of the engine within, whose layers are low-rank, in every batch."""
    raw["student"] = {
        "model": raw["teacher"],
        "low_rank": {"kind": kind, "rank": 2, "target_modules": "all"},
    }
    stage = {**raw["stages"][0], "trainable": "low_rank", "optimizer": {"learning_rate": 0.01}}
    raw["stages"] = [stage]
    stage["policy"]["temperature"] = 0
    one = distill(raw, tmp_path / "vllm")
    stage["policy"] = {"kind": "student", "temperature": 0}
    other = distill(raw, tmp_path / "own")
    logs = [(run.folder / "log.jsonl").read_text().splitlines() for run in (one, other)]
    assert len(logs[0]) == len(logs[1])
    for records in zip(*(map(json.loads, log) for log in logs), strict=True):
        lengths = [record.get("written_length") for record in records]
        assert lengths[0] == lengths[1]
        losses = [record["objectives"]["logits"] for record in records if "objectives" in record]
        assert losses == pytest.approx(losses[::-1], rel=1e-4)


class Recorded:
    """In the place of vLLM: notes which weights are there when text begins, and when it is read."""

    def __init__(self):
        self.began, self.read = [], []

    def begin(self, student, prompts, options, *, vocabulary, eos_token_id):
        self.began.append(student.get_input_embeddings().weight.sum().item())
        tokens = torch.full((len(prompts), options.max_new_tokens), 5)
        tokens[:, 1] = eos_token_id[0]
        count = torch.full((len(prompts),), 2)

        def finish():
            self.read.append(student.get_input_embeddings().weight.sum().item())
            return Generated(tokens, count, torch.zeros_like(tokens) > 0, count > 0)

        return finish


@pytest.mark.parametrize("behind", [False, True])
def test_text_is_of_the_weights_of_now_or_of_one_step_before(raw, behind):
    policy = {"kind": "student", "replay_ratio": 0.4, "one_step_behind": behind}
    raw["stages"][0]["policy"] |= policy
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, ".")
    student, _ = build_models(setup, accelerator)
    read = prompt_batches(setup, held_out=False, size=12, seed=setup.recipe.seed)
    vllm = Recorded()
    source = generated_batches(setup, 0, read, student, None, accelerator, vllm)
    weights, batches = [], []
    for step in range(3):
        weights.append(student.get_input_embeddings().weight.sum().item())
        batches.append(source.batch(step).compared.student.input_ids)
        with torch.no_grad():
            student.get_input_embeddings().weight.add_(1)
    assert vllm.read == weights
    assert vllm.began == ([weights[0], *weights[:2]] if behind else weights)
    # The same prompts, replayed ones too.
    raw["stages"][0]["policy"]["one_step_behind"] = not behind
    other = generated_batches(prepare(raw), 0, read, student, None, accelerator, Recorded())
    for step in range(3):
        assert torch.equal(other.batch(step).compared.student.input_ids, batches[step])


def test_a_run_one_step_behind_resumes(raw, tmp_path):
    raw["stages"] = [{**raw["stages"][0], "max_steps": 4}]
    raw["stages"][0]["policy"]["one_step_behind"] = True
    raw["training"] |= {"save_steps": 2}
    whole = distill(raw, tmp_path / "whole")
    assert any("one step behind" in note for note in whole.report["notes"])
    last = max((whole.folder / "state").glob("checkpoint-*"))
    shutil.rmtree(last)  # as after a kill
    shutil.rmtree(whole.folder / "student")
    again = distill(raw, tmp_path / "whole")
    assert (again.folder / "student" / "model.safetensors").is_file()


def test_a_server_that_ends_says_why(raw, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN", "ends")
    with pytest.raises(ServerError, match=r"ended with 1 .*vllm serve(.|\n)*No module named torch"):
        distill(raw, tmp_path / "run")


def test_a_server_that_dies_says_why(raw, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN", "dies")
    with pytest.raises(ServerError, match=r"vLLM has ended with 3; .*(.|\n)*out of memory"):
        distill(raw, tmp_path / "run")
    monkeypatch.setenv("STAND_IN", "")
    distill(raw, tmp_path / "run")


def test_a_plan_starts_no_server(raw, monkeypatch):
    monkeypatch.setenv("STAND_IN", "ends")
    setup = prepare(raw)
    assert probe(setup, 0).seconds_per_step > 0
    assert vllm_notes(setup) == ["the student's text of stage 0 is generated by vLLM"]
    raw["stages"][0]["policy"]["one_step_behind"] = True
    (note,) = vllm_notes(prepare(raw))
    assert note.endswith("generated by vLLM, one step behind")


def launched(raw, folder, **options):
    """Two processes, ended: their code, and what they have said."""
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    command, environment = launcher(2, **options)
    command += ["-m", "limbeck", "distill", str(file), "-o", str(folder)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_two_processes_learn_from_the_server_of_the_first(raw, tmp_path, trained):
    """Text comes from the weights of now, then from those of one step before."""
    raw["stages"][0] |= {"batch_size": 5, "micro_batch_size": 2}
    policy = {**raw["stages"][0]["policy"], "one_step_behind": True}
    raw["stages"][1] = {**raw["stages"][0], "policy": policy}
    code, said = launched(raw, tmp_path / "two")
    assert code == 0, said
    alike(tmp_path / "two", trained(raw))
    assert said.count("starting ") == 2  # one for each stage


def test_what_fails_on_the_server_of_the_first_ends_two_processes(raw, tmp_path, monkeypatch):
    for wrong, why in (("dies", "vLLM has ended with 3"), ("ends", "No module named torch")):
        monkeypatch.setenv("STAND_IN", wrong)
        code, said = launched(raw, tmp_path / wrong)
        assert code != 0 and why in said and "lost another" not in said, said


def test_processes_that_shard_the_weights_are_refused(raw, tmp_path):
    code, said = launched(raw, tmp_path / "two", fsdp=True)
    assert code != 0 and "vllm, which takes whole weights" in " ".join(said.split()), said


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"kind": "switch"}, "engine: is vllm, which generates the student's text alone"),
        ({"vllm_command": "no-such"}, "vllm_command: is 'no-such', which is no program here"),
        ({"vllm_server_base_url": "here"}, "vllm_server_base_url: is 'here'; give the"),
        ({"vllm_gpu_memory_utilization": 1.5}, "utilization: is 1.5; give more than 0"),
        ({"engine": "limbeck"}, "vllm_command: is for the engine vllm; say"),
        ({"engine": "sglang"}, "engine"),
        ({"one_step_behind": "perhaps"}, "one_step_behind: Input should be a valid boolean"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(raw, policy, said):
    raw["stages"][0]["policy"] |= policy
    with pytest.raises(RecipeError, match=said):
        prepare(raw)


def test_rounded_weights_are_refused(raw):
    raw["stages"][0]["quantization_aware"] = "int8"
    with pytest.raises(RecipeError, match="does not know rounded weights of the student"):
        prepare(raw)


def wide_decoder(folder, tokenizer):
    """A decoder whose heads are as wide as vLLM needs them."""
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=TOKENS,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.skipif(not os.environ.get("LIMBECK_VLLM"), reason="LIMBECK_VLLM names no program")
@pytest.mark.parametrize("low_rank", [None, {"rank": 16, "target_modules": "all"}])
def test_vllm_itself(raw, low_rank, tmp_path):
    """The program that the variable names: its first answers prove that it takes weights."""
    raw["stages"][0]["policy"]["vllm_command"] = os.environ["LIMBECK_VLLM"]
    raw["teacher"] = wide_decoder(tmp_path / "wide", raw["teacher"])
    raw["student"] = {"model": raw["teacher"], "low_rank": low_rank}
    run = distill(raw, tmp_path / "run")
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert len([record for record in log if "teacher_wrote" in record]) == 3

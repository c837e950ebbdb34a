"""Layers of a teacher in other places than the student's device give the same signals."""

import re
from types import SimpleNamespace

import pytest
import torch
from conftest import FAMILIES, all_needs, make_batch, make_model, same_run, train
from rich.console import Console

from limbeck.errors import DeviceError, TrainingError
from limbeck.models.families import ARCHITECTURES
from limbeck.models.modules import submodule
from limbeck.models.stored_weights import keep_stored
from limbeck.recipe.check import check, prepare
from limbeck.recipe.models_part import TeacherPart
from limbeck.run.distill import distill, train_run
from limbeck.run.launched import check_teacher_processes
from limbeck.teacher import placement
from limbeck.teacher.live import LiveTeacher, halve_weights
from limbeck.teacher.placement import bring_when_asked, keep_on, place_teacher
from limbeck.training.memory import expected_parts

CPU = torch.device("cpu")


@pytest.mark.parametrize("place", [bring_when_asked, keep_on])
@pytest.mark.parametrize("family", FAMILIES)
def test_signals_are_those_of_a_teacher_in_one_place(family, place):
    whole, moved = (make_model(family, seed=1) for _ in range(2))
    keep_stored(moved)
    halve_weights(moved)
    halve_weights(whole)
    layers = list(submodule(moved.base_model, ARCHITECTURES[family].layers).children())
    for layer in layers:
        place(layer, CPU)
    needs, batch = all_needs(family), make_batch()
    teachers = [LiveTeacher(model, ARCHITECTURES[family]) for model in (whole, moved)]
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(2):  # what a forward leaves behind is not what the next one reads
            found = [teacher.tensors(batch, needs.tensors()) for teacher in teachers]
            assert found[0].keys() == found[1].keys() and len(found[0]) > 3
            assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())
    if place is bring_when_asked:
        weights = [p for layer in layers for p in layer.parameters()]
        away = [weight.is_meta for weight in weights]
        assert sum(away) > 0.9 * len(away), "hardly any weight left the device"
        student = torch.nn.Linear(1, 1)
        sizes = [expected_parts(student, one, "adamw_torch")["teacher"] for one in teachers]
        assert sizes[1] < sizes[0]


@pytest.fixture
def elsewhere(monkeypatch):
    """Every place is taken to be another than the student's: there is one device here."""
    placed = []
    monkeypatch.setattr(placement, "_is_same", lambda place, device: placed.append(place))
    return placed


def test_a_run_gives_the_same_student(raw_recipe, tmp_path, elsewhere):
    raw_recipe["stages"][0]["objectives"] |= {"logits": {}, "hidden_states": {}}
    train(raw_recipe, tmp_path / "whole")
    assert not elsewhere
    raw_recipe["teacher"] = {"model": raw_recipe["teacher"], "device_map": "cpu"}
    distill(raw_recipe, tmp_path / "brought")
    assert elsewhere
    same_run(tmp_path / "brought", tmp_path / "whole")


def test_a_teacher_that_writes_gives_the_same_student(
    raw_recipe, decoder, prompts, tmp_path, elsewhere
):
    raw_recipe |= {"teacher": str(decoder), "data": {"prompts": [str(prompts)], "max_length": 48}}
    raw_recipe["data"]["max_new_tokens"] = 16
    raw_recipe["stages"] = [
        {"objectives": {"logits": {}}, "policy": {"kind": "adaptive"}, "max_steps": 3}
    ]
    train(raw_recipe, tmp_path / "whole")
    raw_recipe["teacher"] = {"model": raw_recipe["teacher"], "device_map": "cpu"}
    distill(raw_recipe, tmp_path / "brought")
    assert elsewhere
    same_run(tmp_path / "brought", tmp_path / "whole", rounding=1e-5)


def placed(model, device_map, max_memory):
    place_teacher(model, ARCHITECTURES["bert"], CPU, device_map=device_map, max_memory=max_memory)


def test_layers_that_fit_nowhere_are_an_error():
    with pytest.raises(
        DeviceError, match=r"of the teacher's \d layers .* raise teacher.max_memory"
    ):
        placed(make_model("bert"), "auto", {"cpu": "1KB"})


def test_layers_are_distributed_over_devices_in_order(monkeypatch):
    model = make_model("bert")
    layers = submodule(model.base_model, ARCHITECTURES["bert"].layers)
    one = sum(p.numel() * p.element_size() for p in layers[0].parameters())
    free = {0: 10 * one, "cpu": 10 * one}
    monkeypatch.setattr(placement, "get_max_memory", lambda given=None: given or free)
    # accelerate holds back room for the largest layer on the first GPU
    places = placement._distributed(layers, "sequential", {0: 2 * one})
    assert [place.type for place in places] == ["cuda"] + ["cpu"] * (len(layers) - 1)


@pytest.mark.parametrize("device_map", ["auto", 0])
def test_processes_do_not_share_devices(device_map):
    several = SimpleNamespace(num_processes=2, device=CPU)
    part = TeacherPart(model="any", device_map=device_map)
    with pytest.raises(TrainingError, match="the devices of one process.* set it to cpu"):
        check_teacher_processes(part, several)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("teacher", {"quantize": "int4"}, "a quantized teacher cannot be sharded"),
        ("stages", {"optimizer": {"optim": "adamw_torch_8bit"}}, "adamw_torch_8bit is for weights"),
    ],
)
def test_what_processes_cannot_share_is_told_first(
    raw_recipe, tmp_path, monkeypatch, part, value, message
):
    raw_recipe["teacher"] = {"model": raw_recipe["teacher"]}
    here = raw_recipe["teacher"] if part == "teacher" else raw_recipe["stages"][0]
    here |= value
    setup, several = prepare(raw_recipe), SimpleNamespace(num_processes=2, device=CPU)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match=message):
        train_run(setup, tmp_path / "run", Console(), several)
    assert not (tmp_path / "run").exists(), "no text was read, and nothing written"


@pytest.mark.parametrize(
    ("teacher", "field", "said"),
    [
        ({"device_map": "gpu"}, "device_map", "is 'gpu'; give auto, balanced.*or a device.*cpu"),
        ({"device_map": 7}, "device_map", "is 7; give auto"),
        ({"device_map": "auto", "max_memory": {"cpu": "much"}}, "max_memory", "'much'.*20GiB"),
        ({"device_map": "auto", "max_memory": {"gpu": 5}}, "max_memory", "names 'gpu'.*give cpu"),
        ({"max_memory": {"cpu": "1GB"}}, "max_memory", "is for `device_map`"),
        ({"device_map": "auto", "quantize": "int4"}, "device_map", "leave one of the two out"),
    ],
)
def test_what_cannot_be_is_refused(raw_recipe, teacher, field, said):
    raw_recipe["teacher"] = {"model": raw_recipe["teacher"], **teacher}
    _, problems = check(raw_recipe)
    assert [place for place, _ in problems] == [f"teacher.{field}"]
    assert re.search(said, problems[0][1])

"""Sharded weights in one process: their checkpoints, and when they are gathered.

Several processes: tests/run/test_launched.py.
"""

from collections import OrderedDict

import pytest
import torch
from accelerate import Accelerator
from conftest import make_model
from torch import nn
from torch.distributed import HashStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from limbeck.errors import TrainingError
from limbeck.training import processes, sharded_files
from limbeck.training.checkpoint import (
    Position,
    latest_checkpoint,
    load_learner,
    load_optimizer,
    read_position,
    save_checkpoint,
)
from limbeck.training.optimizer import build_optimizer
from limbeck.training.processes import whole
from limbeck.training.settings import OptimizerSettings

POSITION = Position(0, 3, 100, 1.5)


@pytest.fixture
def mesh():
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def learner(seed):
    torch.manual_seed(seed)
    return nn.Sequential(OrderedDict(student=nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))))


@pytest.fixture
def saved(mesh, tmp_path):
    """A learner of shards and its optimizer after a step, and their checkpoint."""
    model = learner(0)
    fully_shard(model, mesh=mesh)
    optimizer = build_optimizer(model, OptimizerSettings())
    for parameter in model.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()
    batches = {"kept": torch.arange(3)}
    save_checkpoint(tmp_path, POSITION, model, optimizer, batches)
    return model, optimizer, tmp_path


def test_what_shards_hold_is_read_whole(saved):
    sharded, of_shards, folder = saved
    checkpoint, problems = latest_checkpoint(folder)
    assert not problems and read_position(checkpoint) == POSITION
    names = {file.name for file in checkpoint.iterdir()}
    assert {"checkpoint.json", "batches.safetensors"} < names and len(names) == 3
    assert len(sharded_files.shard_files(checkpoint)) == 1
    plain = learner(1)
    optimizer = build_optimizer(plain, OptimizerSettings())
    load_learner(checkpoint, plain, student_only=True)
    load_optimizer(checkpoint, plain, optimizer)
    for mine, theirs in zip(plain.parameters(), sharded.parameters(), strict=True):
        assert torch.equal(mine, whole(theirs.detach()))
        states = optimizer.state[mine], of_shards.state[theirs]
        assert states[0].keys() == states[1].keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(states[0][k], whole(states[1][k])) for k in states[0])


def test_a_damaged_shard_and_another_student_are_refused(saved):
    _, _, folder = saved
    checkpoint, _ = latest_checkpoint(folder)
    other = nn.Sequential(OrderedDict(student=nn.Sequential(nn.Linear(5, 3))))
    with pytest.raises(TrainingError, match="is of another student: student.0.weight"):
        load_learner(checkpoint, other, student_only=True)
    [shards] = sharded_files.shard_files(checkpoint)
    content = bytearray(shards.read_bytes())
    content[-1] ^= 1
    shards.write_bytes(content)
    with pytest.raises(TrainingError, match="shard-.* does not have the checksum"):
        latest_checkpoint(folder)


def test_an_old_torch_says_what_it_lacks(saved, monkeypatch):
    _, _, folder = saved
    checkpoint, _ = latest_checkpoint(folder)
    monkeypatch.setattr(sharded_files, "_READER", None)
    with pytest.raises(TrainingError, match="written in shards, which torch .* cannot read"):
        load_learner(checkpoint, learner(1), student_only=True)


def test_of_a_teacher_one_layer_is_gathered_at_a_time(mesh, monkeypatch):
    monkeypatch.setattr(processes, "keeps_shards", lambda accelerator: True)
    monkeypatch.setattr(processes, "_mesh", lambda accelerator: mesh)
    model = make_model(layers=3).requires_grad_(False)
    layers = model.base_model.encoder.layer
    processes.shard_layers(layers, Accelerator(cpu=True))
    gathered = []

    def note(*_):
        gathered.append([not isinstance(next(layer.parameters()), DTensor) for layer in layers])

    for layer in layers:
        layer.attention.register_forward_hook(note)
    with torch.no_grad():
        model(torch.ones(1, 4, dtype=torch.long))
    assert gathered == [[number == layer for number in range(3)] for layer in range(3)]

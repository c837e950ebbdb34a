"""The memory of a step by what it holds: every byte once."""

import torch
from torch import nn

from limbeck.activations import Activations
from limbeck.training.memory import held_by_parts


class Model:
    """A teacher that runs here."""

    def __init__(self, model):
        self.models = (model,)

    def signals(self, batch, needs):
        return Activations()


def test_bytes_are_those_of_plain_loops():
    learner = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    learner[0].requires_grad_(False)
    teacher = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 16, dtype=torch.bfloat16))
    teacher[0].weight.data = learner[0].weight.data  # read from the student
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad])
    learner(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    found = held_by_parts(learner, Model(teacher), optimizer)
    gradients = 4 * (8 * 4 + 4)
    assert found == {
        "student": 4 * (4 * 8 + 8 + 8 * 4 + 4),
        "teacher": 4 * 8 + 2 * (8 * 16 + 16),
        "gradients": gradients,
        "optimizer": 2 * gradients + 2 * 4,  # two averages, and a count for each parameter
    }
    assert held_by_parts(learner, None, optimizer)["teacher"] == 0
    assert held_by_parts(learner, None, optimizer, caches=7)["caches"] == 7


def test_sparse_buffers_are_counted():
    learner = nn.Linear(4, 4)
    learner.register_buffer("links", torch.eye(8).to_sparse())
    optimizer = torch.optim.AdamW(learner.parameters())
    found = held_by_parts(learner, None, optimizer)["student"]
    coordinates = 2 * 8 * 8 + 4 * 8  # indices of 64 bits, values of 32
    assert found == 4 * (4 * 4 + 4) + coordinates

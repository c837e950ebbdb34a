"""A step that is not finite changes nothing, in any number of processes.

    skipping.py

Takes a step, then one whose loss is infinite, and another; fails unless the weights and the
optimizer's state after all of them are those after the first, to the bit.
"""

import math
import os
from dataclasses import replace

import torch
from accelerate import Accelerator
from conftest import make_batch
from gradients import learner_of

from limbeck.errors import DivergedError
from limbeck.training.checkpoint import Position
from limbeck.training.optimizer import build_optimizer, state_tensors
from limbeck.training.processes import Share, distribute, whole
from limbeck.training.settings import OptimizerSettings
from limbeck.training.stage import Stage
from limbeck.training.step import train_step
from limbeck.training.taken import Unread

NAME = "hidden_states"


def everything(learner, optimizer):
    """Copies of all weights and of all that the optimizer holds."""
    found = {}
    for name, parameter in learner.named_parameters():
        found[name] = whole(parameter.detach()).clone()
        for kind, tensor in state_tensors(optimizer, parameter).items():
            found[f"{name}/{kind}"] = whole(tensor).clone()
    return found


def skips(accelerator, optim="adamw_torch"):
    """The error that is told, after it was seen that nothing changed."""
    learner, objective, teacher = learner_of(NAME, "bert", accelerator)
    wrapped = distribute(learner, accelerator).train(False)
    settings = OptimizerSettings(learning_rate=1e-2, optim=optim)
    optimizer = build_optimizer(learner, settings)
    stage = Stage("all", {NAME: objective}, {NAME: 1.0}, 9, 4, 2, settings)
    endless = replace(stage, weights={NAME: math.inf})
    batch = make_batch().rows(*(_bounds(accelerator)))
    unread, states = Unread(accelerator.device), []
    for number, here in enumerate((stage, stage, endless, stage)):
        where, failed = Position(0, number, 0, 0.0), unread.failed
        unread.add(train_step(wrapped, teacher, here, batch, optimizer, accelerator, where, failed))
        states.append(everything(learner, optimizer))
    assert any(not tensor.equal(states[1][name]) for name, tensor in states[0].items())
    for later in states[2:]:
        assert later.keys() == states[1].keys()
        assert all(tensor.equal(later[name]) for name, tensor in states[1].items())
    assert len(unread.read()) == 4
    try:
        unread.check()
    except DivergedError as error:
        return str(error)
    raise AssertionError("a step that was not finite was not told")


def _bounds(accelerator):
    share = Share.of(4, accelerator).rows
    return share.start, share.stop


if __name__ == "__main__":
    accelerator = Accelerator(cpu=True)
    assert "not finite at batch 2 of stage 'all'" in skips(accelerator)
    torch.distributed.barrier()
    os._exit(0)  # as limbeck's own command leaves a process group

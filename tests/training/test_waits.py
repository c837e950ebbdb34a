"""A step does not wait for the device: proven with a stand-in for a GPU on the processor."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from conftest import FAMILIES, launcher, make_batch
from gradients import SEVERAL, batch_of, learner_of, objectives_of
from skipping import skips
from stand_in import StandIn, WaitedError

from limbeck.batch import Batch
from limbeck.recipe.check import prepare
from limbeck.run.batches import stage_batches
from limbeck.run.learner import build_learner
from limbeck.run.models import build_models
from limbeck.training.checkpoint import Position
from limbeck.training.optimizer import build_optimizer
from limbeck.training.settings import OptimizerSettings
from limbeck.training.stage import Stage
from limbeck.training.step import train_step

ACCELERATOR = Accelerator(cpu=True)
# The code of these families in transformers waits: linear attention asks the device whether there
# is padding; Falcon copies places of its keys and values from Python to the device.
WAITING = ("qwen3_5_text", "falcon")


def step_of(family, name, batch, stand_in, *, rows=4):
    """The losses of two steps, of two micro-batches each, read after both."""
    learner, objective, teacher = learner_of(name, family, ACCELERATOR)
    name = name.removesuffix(SEVERAL)
    for model in [learner, *([teacher.model] if teacher else [])]:
        stand_in.hold_model(model)
    stage = Stage(
        name="all",
        objectives={name: objective},
        weights={name: 1.0},
        steps=2,
        batch_size=rows,
        micro_batch_size=2 if objective.rows_together() <= 2 else rows,
        optimizer=OptimizerSettings(),
    )
    optimizer = build_optimizer(learner, stage.optimizer)
    failed = torch.zeros(())
    stand_in.hold(failed)
    taken = []
    with stand_in:
        for step in range(2):
            where = Position(0, step, 0, 0.0)
            given = learner, teacher, stage, batch, optimizer, ACCELERATOR, where, failed
            taken.append(train_step(*given))
    return [one.means[name] for one in taken]


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "full"])
@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family in FAMILIES for name in objectives_of(family)]
)
def test_a_step_waits_for_nothing(family, name, padded, monkeypatch):
    batch = batch_of(name, 4, length=12, padded=padded)
    stand_in = StandIn(monkeypatch)
    if family in WAITING:
        with pytest.raises(WaitedError):
            step_of(family, name, batch, stand_in)
        return
    first, second = step_of(family, name, batch, stand_in)
    assert first != second  # both were real steps


def test_documents_in_one_row_are_kept_apart_without_a_wait(monkeypatch):
    tokens = make_batch(padded=False).student
    positions = torch.arange(12).remainder(7).expand(4, -1).contiguous()
    tokens = replace(tokens, positions=positions)
    first, second = step_of("llama", "logits", Batch(tokens, tokens), StandIn(monkeypatch))
    assert first != second


@pytest.mark.parametrize(
    "alignment",
    [
        {"kind": "match"},
        {"kind": "match", "teacher_input": "masked"},
        {"kind": "reduce", "pool": "mean"},
        {"kind": "reduce", "columns": "mapped"},
    ],
    ids=str,
)
def test_two_vocabularies_are_compared_without_a_wait(
    raw_recipe, vocabulary, alignment, monkeypatch
):
    names = ("labels", "logits", "relations", "hidden_states", "attention_scores", "uld")
    raw_recipe["student"]["tokenizer"] = vocabulary
    part = {"alignment": alignment, "objectives": {name: {} for name in names}}
    raw_recipe["stages"] = [{**part, "max_steps": 4, "batch_size": 4, "micro_batch_size": 2}]
    setup = prepare(raw_recipe)
    student, teacher = build_models(setup, ACCELERATOR)
    learner, stage = build_learner(setup, student, 0), setup.stages[0]
    optimizer, stand_in = build_optimizer(learner, stage.optimizer), StandIn(monkeypatch)
    for model in (learner, teacher.model):
        stand_in.hold_model(model)
    batch, where = stage_batches(setup, 0).batch(0), Position(0, 0, 0, 0.0)
    with stand_in:
        taken = train_step(learner, teacher, stage, batch, optimizer, ACCELERATOR, where)
    assert taken.means.keys() == set(names)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu_is_not_waited_for():
    command, environment = launcher(1)
    script = str(Path(__file__).parent / "gpu_waits.py")
    done = subprocess.run(
        [*command, script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_8bit"])
def test_a_step_that_is_not_finite_changes_nothing_and_neither_do_later_ones(optim):
    with torch.compiler.set_stance("force_eager"):
        told = skips(ACCELERATOR, optim)
    assert "not finite at batch 2 of stage 'all'" in told and "gradient norm" in told


@pytest.mark.parametrize(
    "asked",
    [
        lambda values: float(values.sum()),
        lambda values: values[values > 0],
        lambda values: bool((values > 0).all()),
        lambda values: values.nonzero(),
        lambda values: values.tolist(),
        lambda values: values.cpu(),
        lambda values: values + torch.tensor([1.0, 2.0, 3.0]),
    ],
)
def test_the_stand_in_notices_waits(monkeypatch, asked):
    values = torch.tensor([1.0, -1.0, 2.0])
    stand_in = StandIn(monkeypatch)
    stand_in.hold(values)
    with stand_in, pytest.raises(WaitedError):
        asked(values * 2)

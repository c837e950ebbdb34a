import errno
import json
import math
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from conftest import make_batch, make_model, small_groups, with_task_head, with_vectors
from torch import nn

from limbeck.batch import Batch
from limbeck.errors import TrainingError
from limbeck.models.families import ARCHITECTURES
from limbeck.models.shapes import shape_of
from limbeck.models.task_heads import SCORE, TaskHead
from limbeck.objectives import OBJECTIVES
from limbeck.objectives.schedule import Ramp
from limbeck.student.projections import Projections
from limbeck.teacher.live import LiveTeacher
from limbeck.training.checkpoint import (
    Position,
    latest_checkpoint,
    load_batches,
    load_learner,
    load_optimizer,
    read_position,
    save_checkpoint,
)
from limbeck.training.learner import Learner
from limbeck.training.memory import held_by_parts
from limbeck.training.optimizer import build_optimizer, learning_rate, set_learning_rate
from limbeck.training.records import RunLog
from limbeck.training.settings import OptimizerSettings
from limbeck.training.stage import Stage
from limbeck.training.step import mean_values, train_step
from limbeck.training.taken import Taken, Unread

BERT = ARCHITECTURES["bert"]
START = Position(0, 0, 0, 0.0)


ALL = tuple(name for name in OBJECTIVES if name != "margin_mse")  # which needs another head
ROW_BY_ROW = tuple(name for name in ALL if name != "sentence_similarities")


def make_stage(*, micro: int = 5, learning_rate: float = 1e-3, names=ALL):
    models = make_model(seed=1), make_model(hidden=16, layers=2, seed=2)
    # Their logits stand for those of classes.
    labels = tuple(map(str, range(200)))
    if "margin_mse" in names:
        labels = (SCORE,)
        models = tuple(with_task_head(model, TaskHead("sequence", labels)) for model in models)
    teacher, student = LiveTeacher(models[0], BERT), models[1]
    with_vectors(teacher.model, student)
    shapes = [shape_of(m.config, BERT) for m in (student, teacher.model)]
    shapes = [replace(shape, labels=labels) for shape in shapes]
    objectives = {name: small_groups(OBJECTIVES[name]()).bound(*shapes) for name in names}
    maps = {
        name: Projections(objective.projection_sizes(*shapes), seed=0)
        for name, objective in objectives.items()
    }
    stage = Stage(
        name="all",
        objectives=objectives,
        weights={
            **dict.fromkeys(objectives, 1.0),
            "relations": 2.0,
            "hidden_states": Ramp(0.5, 0.25),
        },
        steps=10,
        batch_size=5,
        micro_batch_size=micro,
        optimizer=OptimizerSettings(learning_rate=learning_rate),
    )
    learner = Learner(student, maps, BERT, objectives)
    return teacher, stage, learner.train(False)


def steps(teacher, stage, learner, optimizer, count, first=0):
    accelerator = Accelerator(cpu=True)
    means = {}
    for number in range(first, first + count):
        batch = make_batch(rows=5, seed=number)
        position = replace(START, step=number)
        taken = train_step(learner, teacher, stage, batch, optimizer, accelerator, position)
        means = taken.means
    return means


@pytest.mark.parametrize(
    ("names", "micro"),
    [
        *((ROW_BY_ROW, micro) for micro in (1, 2, 4)),
        (("sentence_similarities",), 3),
    ],
    ids=str,
)
def test_a_step_does_not_depend_on_how_it_is_split(names, micro):
    """Rows have unequal numbers of real tokens, so a mean of means would show."""
    gradients, means = [], []
    for size in (5, micro):
        teacher, stage, learner = make_stage(micro=size, names=names)
        optimizer = build_optimizer(learner, stage.optimizer)
        means.append(steps(teacher, stage, learner, optimizer, 1))
        gradients.append([p.grad for p in learner.parameters() if p.grad is not None])
    assert means[0] == pytest.approx(means[1], rel=1e-5)
    for whole, split in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, split, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("most", [1e9, 0.01])
def test_a_step_has_the_clipped_gradient_of_the_weighted_means(most):
    """Weights and options that change over the stage are those of the step."""
    names = ("relations", "hidden_states", "logits")
    teacher, stage, learner = make_stage(micro=2, names=names)
    stage.objectives["logits"] = replace(stage.objectives["logits"], temperature=Ramp(4.0, 1.0))
    stage = replace(stage, optimizer=replace(stage.optimizer, max_grad_norm=most))
    batch, trained = make_batch(rows=5), list(learner.parameters())
    signals = teacher.signals(batch, stage.teacher_needs())
    totals = learner(batch, signals, 1 / 3)
    later = learner(batch, signals, 1.0)["logits"].item()
    assert totals["logits"].item() != pytest.approx(later, rel=0.01)
    weights = {"relations": 2.0, "hidden_states": 0.5 - 0.25 / 3, "logits": 1.0}
    means = {n: total / stage.objectives[n].count(batch) for n, total in totals.items()}
    loss = sum(weights[name] * mean for name, mean in means.items())
    expected = torch.autograd.grad(loss, trained, allow_unused=True)
    norm = math.sqrt(sum(float(g.square().sum()) for g in expected if g is not None))
    optimizer = build_optimizer(learner, stage.optimizer)
    given = (learner, teacher, stage, batch, optimizer, Accelerator(cpu=True))
    train_step(*given[:4], torch.optim.SGD(trained, lr=0.0), given[5], START)  # leaves gradients
    found = train_step(*given, replace(START, step=3)).means
    assert found == pytest.approx({name: mean.item() for name, mean in means.items()}, rel=1e-5)
    for parameter, gradient in zip(trained, expected, strict=True):
        if gradient is not None:
            gradient = gradient * min(1.0, most / norm)
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6 * most)


@pytest.mark.parametrize("training", [True, False])
def test_held_out_means_are_over_all_items_without_dropout(training):
    teacher, stage, learner = make_stage(names=("relations", "labels"))
    batches = [make_batch(rows=rows, seed=rows) for rows in (2, 5)]
    sums = dict.fromkeys(stage.objectives, 0.0)
    with torch.no_grad():
        for batch in batches:
            totals = learner(batch, teacher.signals(batch, stage.teacher_needs()))
            sums = {name: sums[name] + total.item() for name, total in totals.items()}
    learner.train(training)
    found = mean_values(learner, teacher, stage, batches, Accelerator(cpu=True))
    for name, value in found.items():
        items = sum(stage.count(name, batch) for batch in batches)
        assert value == pytest.approx(sums[name] / items, rel=1e-5)
    assert learner.training is training


def test_where_nothing_is_predicted_the_mean_is_0():
    teacher, stage, learner = make_stage(names=("labels",))
    tokens = make_batch(rows=5).student
    tokens = replace(tokens, predicted=torch.zeros_like(tokens.predicted))
    batch, accelerator = Batch(tokens, tokens), Accelerator(cpu=True)
    optimizer = build_optimizer(learner, stage.optimizer)
    taken = train_step(learner, teacher, stage, batch, optimizer, accelerator, START)
    assert taken.means == {"labels": 0.0}
    assert mean_values(learner, teacher, stage, [batch], accelerator) == {"labels": 0.0}


def test_dropout_depends_on_the_seed_and_the_step_alone():
    found = []
    for before, (seed, step) in enumerate(((0, 0), (0, 0), (0, 1), (1, 0))):
        teacher, stage, learner = make_stage(names=("labels",))
        optimizer = build_optimizer(learner.train(), stage.optimizer)
        torch.manual_seed(before)
        given = (learner, teacher, replace(stage, seed=seed), make_batch(rows=5), optimizer)
        taken = train_step(*given, Accelerator(cpu=True), replace(START, step=step))
        found.append(taken.means["labels"])
    assert found[0] == found[1] and len(set(found)) == 3


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_training_lowers_every_loss(name):
    teacher, stage, learner = make_stage(learning_rate=3e-3, names=[name])
    optimizer = build_optimizer(learner, stage.optimizer)
    accelerator, batch = Accelerator(cpu=True), make_batch(rows=5)
    means = [
        train_step(learner, teacher, stage, batch, optimizer, accelerator, START).means
        for _ in range(30)
    ]
    assert means[-1][name] < means[0][name]


def test_a_loss_that_is_not_finite_stops_before_the_step():
    teacher, stage, learner = make_stage()
    optimizer = build_optimizer(learner, stage.optimizer)
    with torch.no_grad():
        learner.student.bert.encoder.layer[0].attention.self.value.weight[0, 0] = math.inf
    before = {n: p.detach().clone() for n, p in learner.named_parameters()}
    with pytest.raises(TrainingError, match="not finite at batch 3 of stage 'all'.*learning rate"):
        steps(teacher, stage, learner, optimizer, 1, first=3)
    for name, parameter in learner.named_parameters():
        assert torch.equal(parameter, before[name])


def test_no_step_is_taken_where_a_gradient_alone_is_not_finite_nor_after_it():
    teacher, stage, learner = make_stage(names=("labels",))
    optimizer, failed = build_optimizer(learner, stage.optimizer), torch.zeros(())
    before = [p.detach().clone() for p in learner.parameters()]
    bias = learner.student.bert.encoder.layer[0].output.dense.bias
    broken = bias.register_hook(lambda gradient: gradient * math.inf)
    given = (learner, teacher, stage, make_batch(rows=5), optimizer, Accelerator(cpu=True))
    taken = train_step(*given, START, failed)
    broken.remove()
    train_step(*given, replace(START, step=1), failed)
    assert float(failed) == 1.0
    assert all(torch.equal(a, b) for a, b in zip(learner.parameters(), before, strict=True))
    with pytest.raises(TrainingError, match="gradient norm (inf|nan)"):
        taken.means  # noqa: B018


def test_a_checkpoint_restores_everything(tmp_path):
    """k steps, a checkpoint, n - k steps elsewhere: the same bits as n steps."""
    teacher, stage, learner = make_stage()
    optimizer = build_optimizer(learner, stage.optimizer)
    steps(teacher, stage, learner, optimizer, 3)
    save_checkpoint(tmp_path, replace(START, step=3), learner, optimizer)
    steps(teacher, stage, learner, optimizer, 3, first=3)

    teacher, stage, fresh = make_stage()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1.0)
    checkpoint, _ = latest_checkpoint(tmp_path)
    assert read_position(checkpoint) == replace(START, step=3)
    load_learner(checkpoint, fresh, student_only=False)
    again = build_optimizer(fresh, stage.optimizer)
    load_optimizer(checkpoint, fresh, again)
    steps(teacher, stage, fresh, again, 3, first=3)
    for name, parameter in learner.named_parameters():
        other = fresh.get_parameter(name)
        assert torch.equal(parameter, other), name
        for kind, value in optimizer.state.get(parameter, {}).items():
            assert torch.equal(value, again.state[other][kind]), (name, kind)


@pytest.mark.parametrize("system", ["windows", "shared", "broken"])
def test_checkpoints_are_flushed_as_far_as_a_system_can(tmp_path, monkeypatch, system):
    """Windows opens no folder, and flushes files that may be written to; shared folders may not."""
    opened, flushed, really_open, really_flush = {}, set(), os.open, os.fsync

    def open_(place, flags, *more):
        if system == "windows" and Path(place).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        number = really_open(place, flags, *more)
        opened[number] = Path(place), flags
        return number

    def flush(number):
        place, flags = opened[number]
        if system == "windows" and not flags & os.O_RDWR:
            raise OSError(errno.EBADF, "Bad file descriptor")
        if system != "windows" and place.is_dir():
            raise OSError(errno.EINVAL if system == "shared" else errno.EIO, "cannot be flushed")
        really_flush(number)
        flushed.add(place.name)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", flush)
    with pytest.raises(TrainingError) if system == "broken" else nullcontext():
        save_checkpoint(tmp_path, START, nn.Linear(2, 2), None)
    assert flushed == {"learner.safetensors", "checkpoint.json"}


@pytest.mark.parametrize("optim", ["adamw_torch_8bit", "adamw_torch_4bit"])
def test_quantized_averages_are_restored_to_the_bit(tmp_path, optim):
    settings = OptimizerSettings(learning_rate=1e-2, optim=optim)

    def taught(model, optimizer, numbers):
        for number in numbers:
            chance = torch.Generator().manual_seed(number)
            optimizer.zero_grad()
            model(torch.randn(4, 64, generator=chance)).square().sum().backward()
            set_learning_rate(optimizer, 1e-2 / (number + 1))
            optimizer.step()

    def made():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 8))
        return model, build_optimizer(model, settings)

    with torch.compiler.set_stance("force_eager"):
        model, optimizer = made()
        taught(model, optimizer, range(3))
        save_checkpoint(tmp_path, replace(START, step=3), model, optimizer)
        taught(model, optimizer, range(3, 6))
        fresh, again = made()
        checkpoint, _ = latest_checkpoint(tmp_path)
        load_learner(checkpoint, fresh, student_only=False)
        load_optimizer(checkpoint, fresh, again)
        taught(fresh, again, range(3, 6))
    for one, other in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other)
    plain = 2 * sum(p.nbytes for p in model.parameters())
    assert held_by_parts(model, None, optimizer)["optimizer"] < 0.6 * plain
    assert type(optimizer).__name__ == optim.replace("adamw_torch_", "AdamW")
    assert all(float(group["lr"]) == pytest.approx(1e-2 / 6) for group in again.param_groups)


def test_a_checkpoint_that_cannot_be_written_leaves_earlier_ones(tmp_path, monkeypatch):
    _, stage, learner = make_stage()
    optimizer = build_optimizer(learner, stage.optimizer)
    save_checkpoint(tmp_path, replace(START, step=1), learner, optimizer)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("limbeck.training.checkpoint.save_file", full)
    with pytest.raises(TrainingError, match="No space left.*Earlier checkpoints are whole"):
        save_checkpoint(tmp_path, replace(START, step=2), learner, optimizer)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000-000000001"]


def test_an_incomplete_checkpoint_is_not_used(tmp_path):
    _, _, learner = make_stage()
    save_checkpoint(tmp_path, replace(START, step=1), learner, None)
    part = tmp_path / "checkpoint-000-000000009.part"
    part.mkdir()
    (part / "left").touch()
    found, problems = latest_checkpoint(tmp_path)
    assert read_position(found).step == 1 and problems == []
    for _ in range(2):  # also where there is one of this step
        found = save_checkpoint(tmp_path, replace(START, step=9), learner, None)
    assert not (found / "left").exists()


def test_the_newest_whole_checkpoint_is_used(tmp_path):
    _, _, learner = make_stage(names=("labels",))
    for step in (1, 2, 10):
        rows = {"rows": torch.tensor([step])}
        save_checkpoint(tmp_path, replace(START, step=step), learner, None, rows, keep=2)
    newest, problems = latest_checkpoint(tmp_path)
    assert read_position(newest).step == 10 and problems == [] and len([*tmp_path.iterdir()]) == 2
    assert load_batches(newest)["rows"].tolist() == [10]
    weights = newest / "learner.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    older, [problem] = latest_checkpoint(tmp_path)
    assert read_position(older).step == 2 and "does not have the checksum" in problem
    facts = json.loads((older / "checkpoint.json").read_text())
    (older / "checkpoint.json").write_text(json.dumps({**facts, "blake2b": {}}))
    with pytest.raises(TrainingError, match="names no weights. No checkpoint before it is left"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize("layers", [2, 3])
def test_a_checkpoint_of_another_student_is_refused(tmp_path, layers):
    _, _, learner = make_stage()
    path = save_checkpoint(tmp_path, START, learner, None)
    other = Learner(make_model(hidden=24, layers=layers), {}, BERT, {})
    with pytest.raises(TrainingError, match="is of another student"):
        load_learner(path, other, student_only=True)
    _, _, maps = make_stage(names=("mean_hidden_states",))
    with pytest.raises(TrainingError, match="is of another student: projections"):
        load_learner(path, maps, student_only=False)
    load_learner(path, maps, student_only=True)


def test_the_first_step_that_was_not_finite_is_told():
    _, stage, _ = make_stage(names=("labels",))
    unread = Unread(torch.device("cpu"))
    for step, loss in enumerate((1.0, math.nan, 1.0)):
        unread.add(Taken(stage, replace(START, step=step), torch.tensor([loss, 1.0, 5.0])))
        unread.read()
    with pytest.raises(TrainingError, match="not finite at batch 1"):
        unread.check()


def test_tied_weights_stay_tied(tmp_path):
    _, _, learner = make_stage()
    path = save_checkpoint(tmp_path, START, learner, None)
    load_learner(path, learner, student_only=True)
    student = learner.student
    assert student.get_output_embeddings().weight is student.get_input_embeddings().weight


def test_learning_rates():
    settings = OptimizerSettings(learning_rate=1.0, warmup_ratio=0.1)
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == 1.0 and rates[-1] == pytest.approx(1 / 90)
    cosine = [
        learning_rate(s, 100, replace(settings, lr_scheduler_type="cosine")) for s in range(100)
    ]
    assert cosine[55] == pytest.approx(0.5) and cosine[-1] < 0.001
    assert learning_rate(99, 100, replace(settings, lr_scheduler_type="constant")) == 1.0
    assert [learning_rate(step, 7, settings) for step in (0, 1)] == [1.0, 1.0]  # a step of warmup


def test_matrices_alone_decay():
    _, _, learner = make_stage(names=("labels",))
    settings = OptimizerSettings(learning_rate=1.0, weight_decay=0.1, adam_beta2=0.9)
    optimizer = build_optimizer(learner, settings)
    for parameter in learner.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = [p.detach().clone() for p in learner.parameters()]
    optimizer.step()
    for parameter, was in zip(learner.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, was * (0.9 if was.dim() > 1 else 1.0))
    for group in optimizer.param_groups:
        assert group["betas"] == (0.9, 0.9) and group["eps"] == 1e-6


def test_a_record_is_a_line_whatever_its_texts_hold(tmp_path):
    log, record = RunLog(tmp_path / "log.jsonl"), {"stage": "a\u2028b\x85c", "step": 1}
    log.write(record)
    assert log.records() == [record]


def test_the_log_drops_records_after_the_checkpoint(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    for stage, step in ((0, 0), (0, 10), (0, 20), (1, 0), (1, 5)):
        log.write({"stage_number": stage, "step": step})
    with log.path.open("a") as file:
        file.write('{"stage_number": 1, "st')  # incomplete, because of a kill
    places = [(r["stage_number"], r["step"]) for r in log.records()]
    assert places == [(0, 0), (0, 10), (0, 20), (1, 0), (1, 5)]
    log.drop_after(Position(0, 10, 0, 0.0))
    assert [r["step"] for r in log.records()] == [0, 10]
    log.write({"stage_number": 1, "step": 0})
    log.drop_after(Position(1, 0, 0, 0.0))
    assert [r["step"] for r in log.records()] == [0, 10]
    assert json.loads(log.path.read_text().splitlines()[-1])["step"] == 10

import pytest
import torch
from accelerate import Accelerator
from conftest import make_batch, make_model

from limbeck.models.families import ARCHITECTURES
from limbeck.models.shapes import shape_of
from limbeck.objectives import OBJECTIVES
from limbeck.objectives.mapped import MappedObjective
from limbeck.student.projections import LeastSquares, MapSize, Projections
from limbeck.teacher.live import LiveTeacher
from limbeck.tokenization.batching import ALL_ROWS, BatchSource
from limbeck.training import fitted_maps as module
from limbeck.training.fitted_maps import fit_maps
from limbeck.training.learner import Learner
from limbeck.training.settings import OptimizerSettings
from limbeck.training.stage import Stage
from limbeck.training.step import mean_values

BERT = ARCHITECTURES["bert"]
MAPPED = ["embeddings", "hidden_states", "mean_hidden_states", "qkv"]
ACCELERATOR = Accelerator(cpu=True)


class Made(BatchSource):
    def batch(self, number, rows=ALL_ROWS):
        return make_batch(rows=5, seed=number)


def make(projections="fitted", micro=5, **options):
    teacher = LiveTeacher(make_model(seed=1), BERT)
    student = make_model(hidden=16, layers=2, seed=2)
    shapes = [shape_of(m.config, BERT) for m in (student, teacher.model)]
    objectives = {
        name: OBJECTIVES[name](**options.get(name, {})).bound(*shapes)
        for name in [*MAPPED, "relations", "labels"]
    }
    maps = {n: Projections(o.projection_sizes(*shapes), seed=0) for n, o in objectives.items()}
    stage = Stage(
        name="all",
        objectives=objectives,
        weights=dict.fromkeys(objectives, 1.0),
        steps=40,
        batch_size=5,
        micro_batch_size=micro,
        optimizer=OptimizerSettings(),
        projections=projections,
    )
    return teacher, stage, Learner(student, maps, BERT, objectives)


def weights_of(learner):
    return [weight.detach().clone() for weight in learner.projections.parameters()]


def test_the_objectives_with_a_map_are_the_mapped_ones():
    _, _, learner = make()
    has_maps = {n for n, m in zip(learner.objectives, learner.projections, strict=True) if m.sizes}
    mapped = {n for n, o in learner.objectives.items() if isinstance(o, MappedObjective)}
    assert has_maps == mapped == set(MAPPED)


@pytest.mark.parametrize("heads", [1, 3])
def test_least_squares_are_solved_for_every_head(heads):
    torch.manual_seed(0)
    states, targets = torch.randn(200, 12), torch.randn(200, 18)
    fit = LeastSquares(MapSize(12, 18, heads))
    fit.add(states[:70], targets[:70])
    fit.add(states[70:], targets[70:])
    fit.add(states[:0], targets[:0])  # a text may have no compared tokens
    assert fit.rows == 200
    for head, weight in enumerate(fit.weight()):
        mine = states.view(200, heads, -1)[:, head]
        theirs = targets.view(200, heads, -1)[:, head]
        expected = torch.linalg.lstsq(mine, theirs).solution.mT
        torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-3)


def test_few_rows_and_idle_coordinates_leave_a_small_map():
    fit = LeastSquares(MapSize(12, 18))
    states = torch.randn(3, 12)
    states[:, 4:] = 0
    fit.add(states, torch.randn(3, 18))
    weight = fit.weight()
    assert weight.isfinite().all() and not weight[0, :, 4:].any()
    nothing = LeastSquares(MapSize(2, 3))
    nothing.add(torch.zeros(4, 2), torch.ones(4, 3))
    assert not nothing.weight().any()


@pytest.mark.parametrize("measure", ["mse", "cosine"])
def test_fitted_maps_are_nearer_and_change_nothing_else(measure):
    options = {name: {"measure": measure} for name in MAPPED}
    teacher, stage, learner = make(**options)
    before = {name: weight.clone() for name, weight in learner.student.named_parameters()}
    batches = [make_batch(rows=5, seed=number) for number in range(100, 104)]
    random = mean_values(learner, teacher, stage, batches, ACCELERATOR)
    fit_maps(learner, teacher, stage, Made(), ACCELERATOR)
    fitted = mean_values(learner, teacher, stage, batches, ACCELERATOR)
    for name in MAPPED:
        assert fitted[name] < 0.95 * random[name]
    for name in ("relations", "labels"):
        assert fitted[name] == random[name]
    for name, weight in learner.student.named_parameters():
        assert torch.equal(weight, before[name])


def test_maps_are_fitted_to_the_first_batches_however_they_are_split(monkeypatch):
    monkeypatch.setattr(module, "_TOKENS", 40)
    teacher, stage, learner = make()
    fit_maps(learner, teacher, stage, Made(), ACCELERATOR)
    expected = LeastSquares(next(iter(learner.projections[1].sizes.values())))
    tokens = 0
    for number in range(stage.steps):
        batch = make_batch(rows=5, seed=number)
        with torch.no_grad():
            found = [
                model.base_model(
                    batch.student.input_ids, attention_mask=batch.student.mask.long()
                ).last_hidden_state[batch.student.mask]
                for model in (learner.student, teacher.model)
            ]
        expected.add(*found)
        tokens += len(found[0])
        if tokens >= 40:
            break
    (weight,) = learner.projections[1].parameters()
    torch.testing.assert_close(weight.detach(), expected.weight(), rtol=1e-3, atol=1e-4)

    monkeypatch.setattr(module, "_TOKENS", tokens)
    whole = weights_of(learner)
    _, stage, split = make(micro=2)
    fit_maps(split, teacher, stage, Made(), ACCELERATOR)
    for one, other in zip(whole, weights_of(split), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_maps_stay_random_where_the_stage_or_objective_says_so():
    teacher, stage, learner = make(projections="random")
    before = weights_of(learner)
    fit_maps(learner, teacher, stage, Made(), ACCELERATOR)
    assert all(torch.equal(*pair) for pair in zip(before, weights_of(learner), strict=True))

    teacher, stage, learner = make(mean_hidden_states={"trainable": False})
    before = {
        name: [w.clone() for w in m.parameters()]
        for name, m in zip(learner.objectives, learner.projections, strict=True)
    }
    fit_maps(learner, teacher, stage, Made(), ACCELERATOR)
    for name, maps in zip(learner.objectives, learner.projections, strict=True):
        same = [torch.equal(*pair) for pair in zip(before[name], maps.parameters(), strict=True)]
        assert all(same) if name == "mean_hidden_states" else not any(same)

"""Every option declares its range, and within the range every divergence is finite."""

import itertools
import math

import pytest
import torch

from limbeck.models.shapes import Shape
from limbeck.objectives.divergences import DIVERGENCES, Distribution, divergence_of
from limbeck.objectives.logits import Logits
from limbeck.objectives.measures import MEASURES, divergence_problems
from limbeck.objectives.relations import Relations
from limbeck.objectives.schedule import Ramp
from limbeck.objectives.span_likelihood import SpanLikelihood
from limbeck.recipe.check import check
from limbeck.recipe.parse_objective import parse_objective

SHAPE = Shape(2, 16, 2, 32, 200, max_position_embeddings=80)


def test_every_measure_is_declared_as_it_is():
    assert list(MEASURES) == list(DIVERGENCES)
    for name, measure in MEASURES.items():
        assert (DIVERGENCES[name].__doc__ or "").splitlines()[0] == measure.about
        assert all(option.allows(option.default) for option in measure.options.values())
    options = {name: measure.options.items() for name, measure in MEASURES.items()}
    assert {name: {o: known.default for o, known in some} for name, some in options.items()} == {
        "forward_kl": {},
        "reverse_kl": {},
        "total_variation": {},
        "jensen_shannon": {"beta": 0.5},
        "skewed_kl": {"alpha": 0.1},
        "skewed_reverse_kl": {"alpha": 0.1},
        "alpha_beta": {"alpha": 0.2, "beta": 0.7},
        "adaptive_kl": {"head": 0.5},
    }


@pytest.mark.parametrize("name", [name for name, known in MEASURES.items() if known.options])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, -1e-9, 5.0, 1e30])
def test_values_out_of_range_are_refused(name, value):
    for option in MEASURES[name].options:
        ((field, message),) = divergence_problems(name, {option: value})
        assert field == f"divergence_options.{option}"
        assert f"{value:g}" in message and name in message


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("jensen_shannon", {"beta": 0.0}, "is 0; jensen_shannon takes 0.01 to 0.99"),
        ("jensen_shannon", {"beta": 0.0}, "forward_kl, where beta is 0, and reverse_kl, where it"),
        ("jensen_shannon", {"beta": 1.0}, "is 1; jensen_shannon takes 0.01 to 0.99"),
        ("jensen_shannon", {"beta": 1.5}, "is 1.5; jensen_shannon takes 0.01 to 0.99"),
        ("jensen_shannon", {"beta": 1e-8}, "nothing is learned"),
        ("skewed_kl", {"alpha": 1.0}, "is 1; skewed_kl takes 0 to 0.95"),
        ("skewed_reverse_kl", {"alpha": 1.0}, "With 0 it is reverse_kl"),
        ("alpha_beta", {"alpha": -1.0}, "it is infinite where a probability is 0"),
        ("alpha_beta", {"beta": 1e-6}, "is 1e-06; alpha_beta takes 0, or 0.01 to 2"),
        ("adaptive_kl", {"head": 1.1}, "is 1.1; adaptive_kl takes 0 to 1"),
        ("forward_kl", {"alpha": 0.1}, "forward_kl has no options"),
    ],
)
def test_ends_at_which_nothing_is_learned_are_refused(name, options, message):
    ((_, said),) = divergence_problems(name, options)
    assert message in said
    problems = Logits(divergence=name, divergence_options=options).problems_with(SHAPE, SHAPE)
    assert problems == divergence_problems(name, options)


@pytest.mark.parametrize(
    ("name", "options", "same_as"),
    [
        ("skewed_kl", {"alpha": 0.0}, "forward_kl"),
        ("skewed_reverse_kl", {"alpha": 0.0}, "reverse_kl"),
        ("alpha_beta", {"alpha": 1.0, "beta": 0.0}, "forward_kl"),
        ("alpha_beta", {"alpha": 0.0, "beta": 1.0}, "reverse_kl"),
        ("adaptive_kl", {"head": 0.0}, "reverse_kl"),
        ("adaptive_kl", {"head": 1.0}, "forward_kl"),
    ],
)
def test_ends_that_are_other_measures(name, options, same_as):
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 20, 30)
    found, expected = (
        gradient_of(measure, given, *logits) for measure, given in ((name, options), (same_as, {}))
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "same_as"), [("skewed_kl", "forward_kl"), ("skewed_reverse_kl", "reverse_kl")]
)
@pytest.mark.parametrize("student", [(0.0, -100.0), (0.0, -85.0), (-200.0, 0.0)])
@pytest.mark.parametrize("teacher", [(-3.0, 0.0), (0.0, 0.0), (0.0, -100.0)])
def test_without_skew_they_learn_where_a_probability_vanishes(name, same_as, student, teacher):
    """In float32 q underflows, and forward_kl still has the whole of p as its gradient."""
    logits = [torch.tensor([side]) for side in (student, teacher)]
    expected = gradient_of(same_as, {}, *logits)
    assert torch.equal(gradient_of(name, {"alpha": 0.0}, *logits), expected)
    # The gradient does not jump where alpha is almost 0.
    nearly = gradient_of(name, {"alpha": 1e-40}, *logits)
    torch.testing.assert_close(nearly, expected, rtol=1e-4, atol=1e-5)


def test_the_worked_example_of_a_confident_student():
    logits = torch.tensor([[0.0, -100.0]]), torch.tensor([[-3.0, 0.0]])
    found = gradient_of("skewed_kl", {"alpha": 0.0}, *logits)
    assert found.tolist() == [pytest.approx([0.952574, -0.952574], abs=1e-5)]


def gradient_of(name, options, student, teacher):
    """The gradient by the student's logits, in the precision of its arguments."""
    mine = Distribution.of_logits(student.clone())
    value, slope = divergence_of(name, options)(mine, Distribution.of_logits(teacher.clone()))
    assert torch.isfinite(value).all() and torch.isfinite(slope).all(), (name, options)
    assert (value > -1e-3).all(), (name, options, value)
    return slope - mine.probabilities * slope.sum(-1, keepdim=True)


def with_ends(known):
    """Every combination of the least, the most and the default of a measure's options."""
    allowed = [
        sorted({o.least, o.most, o.default, *([0.0] if o.or_zero else [])}) for o in known.values()
    ]
    return [dict(zip(known, values, strict=True)) for values in itertools.product(*allowed)]


AT_THE_ENDS = [
    (name, options) for name in MEASURES for options in with_ends(MEASURES[name].options)
]


@pytest.mark.parametrize(("name", "options"), AT_THE_ENDS)
def test_every_measure_learns_at_the_ends_of_its_options(name, options):
    """In float32 as in float64, for students that are far from their teacher and near it."""
    torch.manual_seed(0)
    teacher = 3 * torch.randn(20, 30, dtype=torch.float64)
    for far in (3.0, 0.1):
        student = teacher + far * torch.randn(20, 30, dtype=torch.float64)
        exact = gradient_of(name, options, student, teacher)
        found = gradient_of(name, options, student.float(), teacher.float())
        assert exact.abs().amax() > 1e-9
        torch.testing.assert_close(
            found.double(), exact, rtol=0, atol=5e-3 * float(exact.abs().amax())
        )


@pytest.mark.parametrize(("name", "options"), AT_THE_ENDS)
def test_every_measure_is_finite_where_probabilities_are_zero(name, options):
    sure, split = -1e4 * torch.ones(3, 1000), -1e4 * torch.ones(3, 1000)
    sure[:, 0] = 1e4
    split[0, 1], split[1, 0], split[2, :2] = 1e4, 1e4, 1e4
    for student, teacher in ((sure, split), (split, sure), (torch.zeros(3, 1000), sure)):
        gradient = gradient_of(name, options, student, teacher)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 1e-30, 1e30])
@pytest.mark.parametrize("objective", [Logits, SpanLikelihood])
def test_temperatures_that_leave_nothing_to_compare(objective, value):
    ((field, message),) = objective(temperature=value).problems_with(SHAPE, SHAPE)
    assert (field, message) == ("temperature", f"is {value:g}; give 0.001 to 1000")


def test_ramps_of_temperatures_are_refused_by_their_end():
    (problem,) = Logits(temperature=Ramp(4.0, 0.0)).problems_with(SHAPE, SHAPE)
    assert problem == ("temperature.end", "is 0; give 0.001 to 1000")


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0, True, "much"])
def test_weights_are_finite_and_above_0(value):
    _, problems = parse_objective("labels", {"weight": value}, ("stages", "0"))
    assert [field for field, _ in problems] == ["stages.0.weight"]
    if isinstance(value, float):
        (problem,) = Relations(pairs={"QQ": value}).problems_with(SHAPE, SHAPE)
        assert problem[0] == "pairs.QQ"


@pytest.mark.parametrize(
    "ramp",
    [
        {"start": math.nan, "end": 1},
        {"start": 1, "end": math.inf},
        {"start": 1, "end": 0, "begins": 2},
    ],
)
def test_ramps_are_finite_and_within_their_stage(ramp):
    assert parse_objective("labels", {"weight": ramp}, ("stages", "0"))[1]
    assert parse_objective("logits", {"temperature": ramp}, ("stages", "0"))[1]


def test_a_recipe_is_refused_with_the_place_of_the_option(raw_recipe):
    options = {"divergence": "jensen_shannon", "divergence_options": {"beta": 0}}
    stage = {"objectives": {"logits": {**options, "temperature": math.inf}}, "max_steps": 2}
    _, problems = check({**raw_recipe, "stages": [stage]})
    place = "stages.0.objectives.logits"
    assert [field for field, _ in problems] == [
        f"{place}.divergence_options.beta",
        f"{place}.temperature",
    ]
    assert "jensen_shannon takes 0.01 to 0.99" in problems[0][1]

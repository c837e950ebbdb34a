"""Every divergence: its published value, its slope against autograd, and its signals."""

import math

import pytest
import torch

from limbeck.activations import Activations, Predictions
from limbeck.batch import Batch, Tokens
from limbeck.errors import ObjectiveError
from limbeck.models.shapes import Shape
from limbeck.objectives.divergences import DIVERGENCES, Distribution, alpha_beta, divergence_of
from limbeck.objectives.labels import Labels
from limbeck.objectives.logits import Logits
from limbeck.objectives.measures import MEASURES
from limbeck.student.projections import Projections

P = torch.tensor([[0.60, 0.25, 0.10, 0.05]])
Q = torch.tensor([[0.40, 0.20, 0.30, 0.10]])

GOLDEN = [
    ("forward_kl", {}, 0.1545463647986428),
    ("reverse_kl", {}, 0.19208365115031967),
    ("total_variation", {}, 0.25),
    ("jensen_shannon", {"beta": 0.1}, 0.01409164893084031),
    ("jensen_shannon", {"beta": 0.5}, 0.04186940077504665),
    ("jensen_shannon", {"beta": 0.9}, 0.01670028167520694),
    ("skewed_kl", {"alpha": 0.1}, 0.12856306501746334),
    ("skewed_reverse_kl", {"alpha": 0.1}, 0.1454573282654772),
    ("alpha_beta", {"alpha": 1.0, "beta": 0.0}, 0.15454636479864287),
    ("alpha_beta", {"alpha": 0.0, "beta": 1.0}, 0.19208365115031967),
    ("alpha_beta", {"alpha": 0.5, "beta": 0.5}, 0.17031797927137163),
    ("alpha_beta", {"alpha": 0.2, "beta": 0.7}, 0.21144766218629651),
    ("alpha_beta", {"alpha": 1.0, "beta": 1.0}, 0.0425),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.0}, 0.9507984865585327),
    ("alpha_beta", {"alpha": 0.5, "beta": 0.0}, 0.36323200561480884),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.5}, 0.41263840045013744),
    ("adaptive_kl", {"head": 0.5}, 0.17706873660964895),
]


def kl(p, q):
    return (p * (p / q).log()).sum()


def general_alpha_beta(p, q, alpha, beta):
    total = alpha + beta
    if alpha == 0 and beta == 0:
        return 0.5 * (p / q).log().square().sum()
    if alpha == 0:
        return ((q / p).log() * q**beta / beta - (q**beta - p**beta) / beta**2).sum()
    if beta == 0:
        return ((p / q).log() * p**alpha / alpha - (p**alpha - q**alpha) / alpha**2).sum()
    mixed = p**alpha * q**beta - (alpha * p**total + beta * q**total) / total
    return -mixed.sum() / (alpha * beta)


def adaptive(p, q, head):
    order, inside, before = p.argsort(descending=True).tolist(), [], 0.0
    for token in order:
        if before < head:
            inside.append(token)
        before += float(p[token])
    gaps = (p - q).abs().detach()
    share = float(gaps[inside].sum() / gaps.sum())
    return share * kl(p, q) + (1 - share) * kl(q, p)


def mixture(p, q, beta):
    return beta * p + (1 - beta) * q


# The published definitions, for one row of probabilities.
PLAIN = {
    "forward_kl": kl,
    "reverse_kl": lambda p, q: kl(q, p),
    "total_variation": lambda p, q: 0.5 * (p - q).abs().sum(),
    "jensen_shannon": lambda p, q, beta: (
        beta * kl(p, mixture(p, q, beta)) + (1 - beta) * kl(q, mixture(p, q, beta))
    ),
    "skewed_kl": lambda p, q, alpha: kl(p, mixture(p, q, alpha)),
    "skewed_reverse_kl": lambda p, q, alpha: kl(q, mixture(q, p, alpha)),
    "alpha_beta": general_alpha_beta,
    "adaptive_kl": adaptive,
}


def by_plain(name, student, teacher, options):
    rows = zip(teacher, student, strict=True)
    given = {option: known.default for option, known in MEASURES[name].options.items()} | options
    return sum(PLAIN[name](p, q, **given) for p, q in rows)


@pytest.mark.parametrize(("name", "options", "expected"), GOLDEN)
def test_the_published_values(name, options, expected):
    value, _ = divergence_of(name, options)(*map(Distribution.of_logs, (Q.log(), P.log())))
    assert float(value) == pytest.approx(expected, rel=2e-5)


def test_the_family_has_no_jump_at_its_limits():
    """Where a factor of the closed form is 0, another form takes over."""
    logs = [Distribution.of_logs(x.double().log()) for x in (Q, P)]
    for near, limit in (((1e-3, 0.5), (0, 0.5)), ((0.5, 1e-3), (0.5, 0)), ((1e-3, 1e-3), (0, 0))):
        values = [
            float(alpha_beta(*logs, alpha=float(a), beta=float(b))[0]) for a, b in (near, limit)
        ]
        assert values[0] == pytest.approx(values[1], rel=5e-3)


@pytest.mark.parametrize(("name", "options", "_expected"), GOLDEN)
def test_values_and_slopes_are_those_of_the_definition(name, options, _expected):
    torch.manual_seed(0)
    logits = torch.randn(6, 11, dtype=torch.float64, requires_grad=True)
    teacher = torch.log_softmax(2 * torch.randn(6, 11, dtype=torch.float64), -1)
    expected = by_plain(name, logits.softmax(-1), teacher.exp(), options)
    expected.backward()
    with torch.no_grad():
        student = Distribution.of_logits(logits.clone())
        value, slope = divergence_of(name, options)(student, Distribution.of_logs(teacher))
        by_logits = slope - student.probabilities * slope.sum(-1, keepdim=True)
    torch.testing.assert_close(value.sum(), expected.detach(), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(by_logits, logits.grad, rtol=1e-9, atol=1e-11)


def test_the_gradients_of_both_kullback_leibler_divergences():
    logits = Q.log().clone().requires_grad_(True)
    for name, expected in (
        ("forward_kl", Q - P),
        ("reverse_kl", Q * ((Q / P).log() - 0.19208365115031967)),
    ):
        total = logits_total(logits, P.log(), divergence=name)
        (gradient,) = torch.autograd.grad(total, logits)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_no_measure_is_infinite_where_one_side_excludes_a_token():
    certain = Distribution.of_logits(torch.tensor([[0.0, -200.0, -300.0]]))
    other = Distribution.of_logits(torch.tensor([[-250.0, 0.0, -300.0]]))
    for name in DIVERGENCES:
        value, slope = divergence_of(name, {})(certain, other)
        assert torch.isfinite(value).all() and torch.isfinite(slope).all(), name
        assert float(value) > 0, name


def test_unknown_measures_and_options_are_named():
    with pytest.raises(
        ObjectiveError, match="no measure is called 'kl'; known: adaptive_kl, alpha_beta"
    ):
        divergence_of("kl", {})
    with pytest.raises(ObjectiveError, match="skewed_kl has no such option; known: alpha"):
        divergence_of("skewed_kl", {"lambda": 0.1})


def logits_total(student_logits, teacher_logits, **options):
    """The objective on rows whose output map is the identity, so that features are logits."""
    rows, columns = student_logits.shape
    tokens = Tokens(
        input_ids=torch.zeros(1, rows, dtype=torch.long),
        mask=torch.ones(1, rows, dtype=torch.bool),
        labels=torch.zeros(1, rows, dtype=torch.long),
        predicted=torch.ones(1, rows, dtype=torch.bool),
    )

    def predictions(logits):
        return Activations(predictions=Predictions(logits, torch.eye(columns), None))

    return Logits(**options).total(
        predictions(student_logits),
        predictions(teacher_logits),
        Batch(tokens, tokens),
        Projections({}, seed=0),
    )


def test_top_k_keeps_the_rest_as_one_token():
    total = logits_total(Q.log(), P.log(), signal="top_k", top_k=2)
    assert float(total) == pytest.approx(0.15194056474169212, rel=2e-5)


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_top_k_gradients_are_those_of_autograd(divergence):
    torch.manual_seed(0)
    logits = torch.randn(5, 12, requires_grad=True)
    teacher = torch.randn(5, 12)
    total = logits_total(logits, teacher, signal="top_k", top_k=3, divergence=divergence)
    (gradient,) = torch.autograd.grad(total, logits)
    top = teacher.topk(3, -1).indices
    joined = []
    for raw in (logits, teacher):
        chosen = raw.softmax(-1).gather(-1, top)
        joined.append(torch.cat([chosen, 1 - chosen.sum(-1, keepdim=True)], -1))
    value = by_plain(divergence, *joined, {})
    torch.testing.assert_close(total, value, rtol=1e-4, atol=1e-5)
    (expected,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


def test_sampled_tokens_give_the_right_gradient_on_average():
    torch.manual_seed(0)
    rows = 4000
    logits = Q.log().repeat(rows, 1).requires_grad_(True)
    total = logits_total(logits, P.log().repeat(rows, 1), signal="sampled", num_samples=8)
    (gradient,) = torch.autograd.grad(total, logits)
    deviation = math.sqrt(0.6 * 0.4 / 8 / rows)  # of the mean of the top token's share
    torch.testing.assert_close(gradient.mean(0), (Q - P)[0], rtol=0.0, atol=4 * deviation)
    exact = 0.1545463647986428
    assert float(total.detach()) / rows == pytest.approx(exact, abs=0.01)


def test_temperatures_keep_the_size_of_the_gradients():
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 9, requires_grad=True), torch.randn(3, 9)
    total = logits_total(student, teacher, temperature=2.0)
    (gradient,) = torch.autograd.grad(total, student)
    log_q, log_p = (torch.log_softmax(x / 2, -1) for x in (student, teacher))
    value = 4 * (log_p.exp() * (log_p - log_q)).sum()
    torch.testing.assert_close(total, value, rtol=1e-5, atol=1e-6)
    (expected,) = torch.autograd.grad(value, student)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def shape(vocabulary, tokens=None):
    return Shape(2, 16, 2, 32, vocabulary, max_position_embeddings=80, tokens=tokens)


def test_padding_rows_of_the_table_do_not_count():
    torch.manual_seed(0)
    count, student, teacher = 7, torch.randn(4, 8, requires_grad=True), torch.randn(4, 12)
    bound = Logits().bound(shape(8, count), shape(12, count))
    assert Logits().problems_with(shape(8, count), shape(12, count)) == []
    tokens = Tokens(
        input_ids=torch.zeros(1, 4, dtype=torch.long),
        mask=torch.ones(1, 4, dtype=torch.bool),
        labels=torch.zeros(1, 4, dtype=torch.long),
        predicted=torch.ones(1, 4, dtype=torch.bool),
    )
    total = bound.total(
        Activations(predictions=Predictions(student, torch.eye(8), None)),
        Activations(predictions=Predictions(teacher, torch.eye(12), None)),
        Batch(tokens, tokens),
        Projections({}, seed=0),
    )
    expected = 0.0
    for row in range(4):
        p, q = (x[row, :count].double().softmax(-1) for x in (teacher, student.detach()))
        expected += float((p * (p / q).log()).sum())
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(total, student)
    assert not gradient[:, count:].any() and gradient[:, :count].any()


def test_labels_and_distributions_are_over_the_same_rows():
    """Where the teacher is certain, the divergence from it is the cross-entropy."""
    torch.manual_seed(0)
    logits, certain = torch.randn(1, 8), torch.full((1, 12), -1e4)
    logits[0, 7] = 9.0  # a row without a token: neither objective may count it
    certain[0, 0] = 0.0
    one = torch.ones(1, 1, dtype=torch.bool)
    ids = torch.zeros(1, 1, dtype=torch.long)
    tokens = Tokens(input_ids=ids, mask=one, labels=ids, predicted=one)
    shapes = shape(8, 7), shape(12, 7)
    found = [
        objective.bound(*shapes).total(
            Activations(predictions=Predictions(logits, torch.eye(8), None)),
            Activations(predictions=Predictions(certain, torch.eye(12), None)),
            Batch(tokens, tokens),
            Projections({}, seed=0),
        )
        for objective in (Logits(), Labels())
    ]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[1], -logits[0, :7].log_softmax(-1)[0])


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        ({"divergence": "kl"}, "divergence", "no measure is called 'kl'; known: adaptive_kl"),
        ({"divergence": "skewd_kl"}, "divergence", "did you mean 'skewed_kl'?"),
        ({"temperature": 0.0}, "temperature", "is 0; give 0.001 to 1000"),
        ({"signal": "top_k", "top_k": 200}, "top_k", "give 1 to 199"),
        ({"signal": "sampled", "num_samples": 200}, "num_samples", "give 1 to 199"),
        ({"signal": "sampled", "divergence": "reverse_kl"}, "signal", "unbiased for forward_kl"),
        ({"vocabulary": 300}, "vocabulary", "give 1 to 200"),
    ],
)
def test_problems_name_their_field(options, place, message):
    problems = Logits(**options).problems_with(shape(200), shape(200))
    assert [field for field, _ in problems] == [place]
    assert message in problems[0][1]


def test_vocabularies_that_differ_say_what_applies():
    ((field, message),) = Logits().problems_with(shape(200, 200), shape(300, 299))
    assert field == "" and "200 tokens and the teacher 299" in message and "alignment" in message

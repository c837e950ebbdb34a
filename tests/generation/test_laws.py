"""Every rule against its exact law: the probability of each text, enumerated, on four tokens."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from conftest import make_model

from limbeck.data.corpus import SeededOrder
from limbeck.generation.batches import GeneratedBatches, Policy, PolicyOptions
from limbeck.generation.decoding import DecodingOptions, generate
from limbeck.generation.noise import gumbel_noise, row_keys
from limbeck.generation.rules import RULES, Adaptive, Speculative, Student, Switch, Teacher
from limbeck.recipe.parse_policy import KINDS
from limbeck.tokenization.prompts import PromptBatches, PromptTable

TOKENS, END, LONGEST, ROWS = 4, 3, 3, 8_000
DEVIATIONS = 4.5  # standard errors; of some thousand counts none is further off by chance
RARE = 10  # texts that are expected less often are counted together


def reader_of(table):
    """A decoder that expects row `token` of a table of probabilities after that token."""
    tokens = len(table)
    model = make_model("llama", vocabulary=tokens, layers=1, hidden=8)
    body = model.model
    with torch.no_grad():
        for layer in body.layers:  # so that only the last token counts
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        body.embed_tokens.weight.copy_(torch.eye(tokens, 8))
        seen = body(torch.arange(tokens)[:, None]).last_hidden_state[:, 0]
        model.lm_head.weight.zero_()
        scale = seen.diagonal()[:, None]
        model.lm_head.weight[:, :tokens] = (torch.tensor(table).log() / scale).T
    return model


# After token 0 the two differ as in the worked example of `speculative`, after 1 they are the same,
# after 2 they share nearly nothing; what follows the end is never read.
TEACHER = [
    [0.57, 0.285, 0.095, 0.05],
    [0.11, 0.2, 0.6, 0.09],
    [0.93, 0.03, 0.025, 0.015],
    [0.25, 0.25, 0.25, 0.25],
]
STUDENT = [
    [0.19, 0.19, 0.57, 0.05],
    [0.11, 0.2, 0.6, 0.09],
    [0.01, 0.2, 0.69, 0.1],
    [0.25, 0.25, 0.25, 0.25],
]


def at(temperature, probabilities):
    if temperature == 0:
        return np.eye(TOKENS)[np.argmax(probabilities)]
    powers = np.array(probabilities) ** (1 / temperature)
    return powers / powers.sum()


def divergence(p, q):
    p, q = np.array(p), np.array(q)
    middle = (p + q) / 2
    return float((p * np.log(p / middle) + q * np.log(q / middle)).sum() / 2)


def switched(rule, p, q, history, place):
    if rule.decay == "exponential":
        rate = math.log(10) / LONGEST if rule.rate is None else rule.rate
        threshold = rule.tau * math.exp(-rate * place)
    elif rule.decay == "linear":
        threshold = rule.tau * max(0.0, 1 - 0.9 / LONGEST * place)
    else:
        threshold = rule.tau
    return divergence(p, q) > threshold or threshold == 0


def taken_over(rule, p, q, history, place):
    apart = [divergence(*pair) for pair in [*history, (p, q)]]
    return any(
        apart[n] > rule.times * sum(apart[:n]) / n for n in range(rule.first, len(apart)) if n
    )


def by_prefix(fires):
    """The law of a rule that looks at the text before alone: one of the two models draws."""

    def law(rule, p, q, history, place, temperature):
        return at(temperature, p if fires(rule, p, q, history, place) else q)

    return law


def speculative(rule, p, q, history, place, temperature):
    top = np.zeros(TOKENS, dtype=bool)
    top[np.argsort(p)[::-1][: rule.top_k]] = True
    of_teacher, of_student = at(temperature, p), at(temperature, q)
    return of_student * top + of_teacher * of_student[~top].sum()


LAWS = {
    "student": by_prefix(lambda rule, p, q, history, place: False),
    "teacher": by_prefix(lambda rule, p, q, history, place: True),
    "switch": by_prefix(switched),
    "speculative": speculative,
    "adaptive": by_prefix(taken_over),
}
CASES = [
    Student(),
    Teacher(),
    Switch(tau=0.25),
    Switch(tau=0.25, decay="linear"),
    Switch(tau=0.05, decay="constant"),
    Switch(tau=0.0),
    Switch(tau=math.log(2), decay="constant"),
    Speculative(top_k=1),
    Speculative(top_k=2),
    Speculative(top_k=3),
    Speculative(top_k=25),
    Adaptive(times=1.5, first=1),
    Adaptive(times=0.5, first=2),
]


def texts_by_law(rule, first, temperature):
    """Every text after a token, and its probability."""
    law = LAWS[next(name for name, kind in RULES.items() if isinstance(rule, kind))]
    found = {}

    def further(text, probability, history):
        if len(text) == LONGEST or text[-1:] == [END]:
            found[tuple(text)] = found.get(tuple(text), 0.0) + probability
            return
        before = text[-1] if text else first
        p, q = TEACHER[before], STUDENT[before]
        following = law(rule, p, q, history, len(text), temperature)
        for token, share in enumerate(following):
            further([*text, token], probability * share, [*history, (p, q)])

    further([], 1.0, [])
    return found


def generated(rule, first, temperature, block=3, rows=ROWS, seed=5):
    found = generate(
        reader_of(STUDENT),
        reader_of(TEACHER),
        [[first]] * rows,
        rule,
        options=DecodingOptions(LONGEST, temperature, block, seed=seed),
        vocabulary=TOKENS,
        eos_token_id=[END],
    )
    rows = zip(found.tokens.tolist(), found.lengths.tolist(), strict=True)
    return [tuple(text[:length]) for text, length in rows]


def agree(counted, expected, rows):
    """Whether counts are those of probabilities, by the standard error of a binomial count."""
    assert sum(expected.values()) == pytest.approx(1.0)
    assert set(counted) <= {text for text, share in expected.items() if share > 0}
    rare = {text for text, share in expected.items() if rows * share < RARE}
    for some in [rare, *({text} for text in expected.keys() - rare)]:
        share = sum(expected[text] for text in some)
        found = sum(counted[text] for text in some)
        error = math.sqrt(max(RARE, rows * share * (1 - share)))
        assert abs(found - rows * share) <= DEVIATIONS * error * (0 < share < 1), some


def test_every_rule_has_a_law_and_a_case():
    assert LAWS.keys() == RULES.keys()
    assert {type(rule) for rule in CASES} == set(RULES.values())
    assert set(KINDS) == {"corpus", "mixed", *RULES}


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
@pytest.mark.parametrize("rule", CASES, ids=str)
def test_texts_have_the_probabilities_of_the_law(rule, temperature):
    rows = ROWS if temperature else 5  # which are all alike
    for first in (0, 2):
        texts = generated(rule, first, temperature, rows=rows)
        agree(Counter(texts), texts_by_law(rule, first, temperature), rows)


def test_the_worked_example_of_speculative():
    p, q = [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]
    models = reader_of([q] * 3), reader_of([p] * 3)
    rows = 20_000
    arguments = {
        "options": DecodingOptions(2, seed=11),
        "vocabulary": 3,
        "eos_token_id": [],
    }
    tokens = generate(*models, [[0]] * rows, Speculative(top_k=1), **arguments).tokens
    law = dict(enumerate((0.68, 0.24, 0.08)))
    for place in range(2):
        agree(Counter(tokens[:, place].tolist()), law, rows)
    pairs = {(a, b): law[a] * law[b] for a, b in product(law, repeat=2)}
    agree(Counter(map(tuple, tokens.tolist())), pairs, rows)


def test_both_draws_of_a_place_are_independent():
    """Every pair of drafted and replaced token as often as the product of both probabilities."""
    rows, logs = ROWS, torch.tensor(STUDENT[0]).log()
    places = torch.arange(rows) % 7
    one, other = (
        (logs + gumbel_noise(row_keys(3, torch.arange(rows), second=some), places, TOKENS))
        .argmax(-1)
        .tolist()
        for some in (False, True)
    )
    pairs = product(enumerate(STUDENT[0]), repeat=2)
    expected = {(a, b): p * q for (a, p), (b, q) in pairs}
    agree(Counter(zip(one, other, strict=True)), expected, rows)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_the_ends_of_the_switch_are_the_two_models_token_for_token(temperature):
    for tau, alone in ((0.0, Teacher()), (math.log(2), Student())):
        for first in range(3):  # after 1 both expect the same
            rule = Switch(tau=tau, decay="constant")
            assert generated(rule, first, temperature, rows=500) == generated(
                alone, first, temperature, rows=500
            )


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_mixed_policy_follows_its_fraction(share):
    reference = np.array([1, 2, END])
    rows = 4000
    table = PromptTable([np.array([0])], [reference], 0, 0)
    batches = GeneratedBatches(
        PromptBatches(table, SeededOrder((1,), (1.0,), 0), rows, pad=0),
        Policy(Student(), PolicyOptions(fraction=share)),
        reader_of(STUDENT),
        None,
        max_new_tokens=LONGEST,
        vocabulary=TOKENS,
        eos_token_id=(END,),
        steps=2,
        seed=4,
        apart=False,
    )
    tokens = batches.batch(1).student
    texts = [
        tuple(labels[real].tolist())
        for labels, real in zip(tokens.labels, tokens.predicted, strict=True)
    ]
    expected = {text: share * p for text, p in texts_by_law(Student(), 0, 1.0).items()}
    expected[tuple(reference.tolist())] += 1 - share
    agree(Counter(texts), expected, rows)

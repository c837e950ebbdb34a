"""Drafts checked in one forward, against the rule applied token by token without caches."""

import functools
import math

import pytest
import torch
from conftest import make_model, with_full_attention

from limbeck.errors import ModelError
from limbeck.generation import readers as readers_module
from limbeck.generation.cuda_graphs import ReplayReader
from limbeck.generation.decoding import DecodingOptions, generate
from limbeck.generation.noise import gumbel_noise, row_keys
from limbeck.generation.reader import Reader
from limbeck.generation.readers import Readers
from limbeck.generation.rules import (
    RULES,
    Adaptive,
    Seen,
    Speculative,
    Student,
    Switch,
    Teacher,
    jensen_shannon,
)
from limbeck.models.families import ARCHITECTURES
from limbeck.token_ids import TokenIds

TOKENS, ENDS, LONGEST = 40, (7, 23), 20
CASES = {
    "student": Student(),
    "teacher": Teacher(),
    "switch": Switch(tau=0.2),
    "linear": Switch(tau=0.2, decay="linear"),
    "constant": Switch(tau=0.1, decay="constant"),
    "by step": Switch(tau=0.2, by="step", rate=0.05),
    "speculative": Speculative(top_k=3),
    "adaptive": Adaptive(times=1.5, first=2),
}


@pytest.fixture(scope="module", params=[("llama", 0.3, 5), ("gpt2", 0.5, 3)], ids=["llama", "gpt2"])
def models(request):
    """A teacher, and a student that half agrees with it."""
    family, share, scale = request.param
    teacher, other = (
        make_model(family, vocabulary=TOKENS + 3, layers=2, seed=seed).double() for seed in (0, 1)
    )
    student = make_model(family, vocabulary=TOKENS + 3, layers=2, seed=0).double()
    with torch.no_grad():
        for mine, theirs in zip(student.parameters(), other.parameters(), strict=True):
            mine.lerp_(theirs, share)
        for model in (student, teacher):  # so that they expect something
            model.get_output_embeddings().weight.mul_(scale)
    return student, teacher


@functools.cache  # of three ways to generate
def token_by_token(student, teacher, prompts, rule, options, progress=0.0):
    """The rule in plain words: one token after another, the whole text read again each time."""
    rows = len(prompts)
    keys = row_keys(options.seed, torch.arange(rows))
    second = row_keys(options.seed, torch.arange(rows), second=True)
    own = second if isinstance(rule, Speculative) else keys
    text, wrote = [list(p) for p in prompts], [[] for _ in prompts]
    memory = [[] for _ in prompts]
    over = [False] * rows
    open_ = list(range(rows))
    for place in range(options.max_new_tokens):
        if not open_:
            break
        ids = torch.tensor([text[row] for row in open_])
        with torch.no_grad():
            p, q = (
                torch.log_softmax(m(ids, use_cache=False).logits[:, -1, :TOKENS].float(), -1)
                for m in (teacher, student)
            )
        both = [
            gumbel_noise(some[open_], torch.full((len(open_),), place), TOKENS)
            for some in (own, keys)
        ]
        for n, row in enumerate(list(open_)):
            draw = [
                int((logs[n] / options.temperature + noise[n]).argmax())
                if options.temperature
                else int(logs[n].argmax())
                for logs, noise in zip((p, q), both, strict=True)
            ]
            mine, theirs = q[n].exp(), p[n].exp()
            middle = (mine + theirs) / 2
            apart = float(
                ((mine * (mine / middle).log()).sum() + (theirs * (theirs / middle).log()).sum())
                / 2
            )
            if isinstance(rule, Switch):
                t = progress * options.max_new_tokens if rule.by == "step" else place
                if rule.decay == "exponential":
                    rate = math.log(10) / options.max_new_tokens if rule.rate is None else rule.rate
                    fires = apart > rule.tau * math.exp(-rate * t)
                elif rule.decay == "linear":
                    fires = apart > rule.tau * (1 - 0.9 * t / options.max_new_tokens)
                else:
                    fires = apart > rule.tau
            elif isinstance(rule, Speculative):
                fires = draw[1] not in p[n].topk(rule.top_k).indices.tolist()
            elif isinstance(rule, Adaptive):
                before = memory[row]
                if len(before) >= rule.first and apart > rule.times * sum(before) / len(before):
                    over[row] = True
                before.append(apart)
                fires = over[row]
            else:
                fires = isinstance(rule, Teacher)
            token = draw[0] if fires else draw[1]
            text[row].append(token)
            wrote[row].append(fires)
            if token in ENDS:
                open_.remove(row)
    return [row[len(p) :] for row, p in zip(text, prompts, strict=True)], wrote


def as_lists(found):
    return [
        (row[:length].tolist(), by[:length].tolist())
        for row, by, length in zip(found.tokens, found.by_teacher, found.lengths, strict=True)
    ]


@pytest.mark.parametrize("kind", ["growing", "static", "direct"])
@pytest.mark.parametrize("rule", CASES.values(), ids=CASES)
def test_drafts_give_exactly_the_text_of_token_by_token_generation(models, rule, kind, monkeypatch):
    student, teacher = models
    monkeypatch.setattr(readers_module, "can_replay", lambda model: kind == "static")
    readers = Readers(direct=kind == "direct")
    readers.expect(rows=20, places=0)  # as where some of a batch are left to the corpus
    generator = torch.Generator().manual_seed(0)
    decided = fired = 0
    for case in range(6):
        length, block = 1 + case % 5, 1 + 3 * (case % 4)
        prompts = torch.randint(1, TOKENS, (16, length), generator=generator).tolist()
        options = DecodingOptions(LONGEST, (1.0, 0.7, 0.0)[case % 3], block, seed=case)
        found = generate(
            student,
            teacher,
            prompts,
            rule,
            options=options,
            vocabulary=TOKENS,
            eos_token_id=ENDS,
            progress=0.4,
            readers=readers,
        )
        given = tuple(map(tuple, prompts))
        texts, wrote = token_by_token(student, teacher, given, rule, options, progress=0.4)
        assert as_lists(found) == list(zip(texts, wrote, strict=True))
        assert found.ended.tolist() == [text[-1] in ENDS for text in texts]
        decided += sum(map(len, texts))
        fired += sum(map(sum, wrote))
    assert decided > 1000
    if isinstance(rule, (Student, Teacher)):
        assert fired == decided * isinstance(rule, Teacher)
    else:
        assert 0.05 < fired / decided < 0.95


@pytest.mark.parametrize("name", ["switch", "speculative", "adaptive", "student"])
def test_a_row_is_generated_alike_whatever_rows_are_beside_it(models, name):
    student, teacher = models
    generator = torch.Generator().manual_seed(1)
    prompts = [
        torch.randint(1, TOKENS, (length,), generator=generator).tolist()
        for length in (1, 9, 4, 4, 17, 2)
    ]
    arguments = {"vocabulary": TOKENS, "eos_token_id": ENDS}
    options = DecodingOptions(LONGEST, 1.0, 6, seed=3)
    together = as_lists(
        generate(student, teacher, prompts, CASES[name], options=options, **arguments)
    )
    for number in range(len(prompts)):
        # The same place among the rows, so the same noise.
        alone = [prompts[number]] * (number + 1)
        found = generate(student, teacher, alone, CASES[name], options=options, **arguments)
        assert as_lists(found)[number] == together[number]


def test_the_ends_of_the_switch_are_the_two_models(models):
    student, teacher = models
    prompts = [[5], [6, 8], [9, 9, 9]]
    arguments = {"options": DecodingOptions(LONGEST), "vocabulary": TOKENS, "eos_token_id": ENDS}
    for tau, alone in ((0.0, Teacher()), (math.log(2), Student())):
        switch = generate(student, teacher, prompts, Switch(tau=tau, decay="constant"), **arguments)
        assert torch.equal(
            switch.tokens, generate(student, teacher, prompts, alone, **arguments).tokens
        )


def test_the_teacher_generates_more_and_more_at_the_same_divergence():
    logs = torch.log_softmax(torch.randn(2, 1, TOKENS), -1)
    student, teacher = (some.expand(1, 30, TOKENS) for some in logs[:, None].unbind(0))
    seen = Seen(
        torch.zeros(1, 30, dtype=torch.long), student, teacher, torch.arange(30)[None], 30, 0.0
    )
    apart = float(jensen_shannon(student, teacher)[0, 0])
    for decay in ("exponential", "linear"):
        rule = Switch(tau=min(1.5 * apart, 0.69), decay=decay)
        fires, _ = rule.teacher_generates(seen, rule.begin(1))
        first = int(fires[0].int().argmax())
        assert 0 < first < 30 and bool(fires[0, first:].all())
        threshold = rule.threshold(seen)[0]
        assert float(threshold[0]) == pytest.approx(rule.tau)
        assert float(threshold[-1]) == pytest.approx(0.1 * rule.tau, rel=0.4)


@pytest.mark.parametrize("by", ["position", "step"])
@pytest.mark.parametrize("decay", ["exponential", "linear", "constant"])
@pytest.mark.parametrize("rate", [None, 0.3])
def test_thresholds_fall_as_their_formulas_say(decay, rate, by):
    """With a rate they may fall to 0, from where on the teacher generates whatever it expects."""
    same = torch.log_softmax(torch.randn(TOKENS), -1).expand(1, 20, TOKENS)
    places = torch.arange(20)[None]
    seen = Seen(torch.zeros_like(places), same, same, places, 20, progress=0.45)
    rule = Switch(tau=0.5, decay=decay, rate=rate, by=by)
    expected = []
    for token in range(20):
        place = token if by == "position" else 0.45 * 20
        left = {
            "exponential": math.exp(-place * (math.log(10) / 20 if rate is None else rate)),
            "linear": max(0.0, 1 - place * (0.9 / 20 if rate is None else rate)),
            "constant": 1.0,
        }
        expected.append(0.5 * left[decay])
    assert rule.threshold(seen)[0].tolist() == pytest.approx(expected, abs=1e-7)
    fires, _ = rule.teacher_generates(seen, rule.begin(1))
    assert fires[0].tolist() == [threshold <= 0 for threshold in expected]


def test_divergences_are_from_0_to_ln_2():
    logs = torch.log_softmax(torch.randn(500, TOKENS), -1)
    assert (jensen_shannon(logs, logs + 1e-7 * torch.randn(500, TOKENS)) >= 0).all()
    one, other = torch.full((2, 500, TOKENS), -math.inf).unbind(0)  # nothing in common
    one[:, :7], other[:, 7:] = (
        torch.log_softmax(logs[:, :7], -1),
        torch.log_softmax(logs[:, 7:], -1),
    )
    apart = jensen_shannon(one, other)
    assert apart.tolist() == pytest.approx([math.log(2)] * 500)
    places = torch.arange(500)[None]
    rule = Switch(tau=math.log(2), decay="constant")
    seen = Seen(torch.zeros_like(places), one[None], other[None], places, 500, 0.0)
    assert not rule.teacher_generates(seen, rule.begin(1))[0].any()


def test_drawn_tokens_have_the_probabilities_of_the_model(models):
    student, _ = models
    prompts = [[5, 11]] * 4000
    found = generate(
        student,
        None,
        prompts,
        Student(),
        options=DecodingOptions(1, seed=9),
        vocabulary=TOKENS,
        eos_token_id=ENDS,
    )
    with torch.no_grad():
        logits = student(torch.tensor([[5, 11]])).logits[0, -1, :TOKENS]
    expected = torch.softmax(logits, -1)
    shares = torch.bincount(found.tokens[:, 0], minlength=TOKENS) / 4000
    assert float((shares - expected).abs().max()) < 0.03
    assert len(shares.nonzero()) > 5


def test_noise_is_that_of_gumbel():
    noise = gumbel_noise(row_keys(1, torch.arange(200)), torch.arange(200), 500)
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.05)
    centred = noise - noise.mean()
    for shifted in (centred.roll(1, 0), centred.roll(1, 1)):
        assert abs(float((centred * shifted).mean())) < 0.02


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Switch(tau=0.8), "give 0 to ln 2"),
        (Switch(tau=-0.1), "give 0 to ln 2"),
        (Switch(rate=-1.0), "give 0 or more"),
        (Speculative(top_k=0), "give 1 or more"),
        (Adaptive(times=0.0), "more than 0"),
        (Adaptive(times=math.nan), "more than 0"),
        (Adaptive(first=0), "give 1 or more"),
    ],
)
def test_options_out_of_range(rule, message):
    assert message in rule.problems()[0][1]
    assert not RULES["switch"]().problems()


# Bloom and Gemma 2 compute attention in ways of their own, which are never replayed.
DECODERS = [f for f, row in ARCHITECTURES.items() if row.causal and f not in ("bloom", "gemma2")]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", DECODERS)
def test_a_static_cache_gives_every_family_the_same_text(family, device, monkeypatch):
    student, teacher = (
        with_full_attention(family, vocabulary=TOKENS, seed=n).double().to(device) for n in (0, 1)
    )
    prompts = [[5], [6, 8, 4], [9, 9, 9, 9, 9]]
    arguments = {"options": DecodingOptions(LONGEST), "vocabulary": TOKENS, "eos_token_id": ENDS}
    plain = generate(student, teacher, prompts, Switch(), **arguments)
    monkeypatch.setattr(readers_module, "can_replay", lambda model: True)
    readers = Readers()
    for _ in range(2):
        found = generate(student, teacher, prompts, Switch(), readers=readers, **arguments)
        assert as_lists(found) == as_lists(plain)


@pytest.mark.parametrize("coarse", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("device", DEVICES)
def test_what_is_replayed_follows_the_weights(device, coarse):
    model = make_model("llama").to(device)
    table = ReplayReader(model, 200, rows=4, places=40)
    ids = torch.randint(1, 200, (2, 12), device=device)
    places, seen = torch.arange(12, device=device).expand(2, -1), torch.ones_like(ids).bool()
    near, before = 0.02 if coarse else 1e-4, None
    for _ in range(3):
        plain = Reader(model, 200)
        table.begin(2)
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=coarse):
            for reader in (plain, table):
                reader.remember(ids[:, :5], places[:, :5], seen[:, :5])
            for start, end in ((5, 6), (6, 7), (7, 11), (11, 12)):
                now = slice(start, end)
                mine, expected = (
                    reader.read(ids[:, now], places[:, now], seen[:, :end])
                    for reader in (table, plain)
                )
                assert float((mine - expected).abs().mean()) < near
        assert before is None or float((mine - before).abs().mean()) > 3 * near
        before = mine
        for weight in model.parameters():
            weight.data.mul_(0.8)
    assert table.replays == (device == "cuda")


def test_models_that_forget_are_refused():
    message = "LinearAttentionLayer, and .* whose layers all keep keys and values"
    with pytest.raises(ModelError, match=message):
        Reader(make_model("qwen3_5_text"), 200)
    model = make_model("llama")
    model.config.layer_types = ["chunked_attention"] * 3
    model.config.attention_chunk_size = 8
    with pytest.raises(ModelError, match="chunks of a text"):
        Reader(model, 200)


@pytest.mark.parametrize("temperature", [1.0, 100.0])
@pytest.mark.parametrize("rule", [Student(), Teacher(), Speculative(top_k=1)])
def test_ids_without_a_token_are_drawn_at_no_temperature(models, temperature, rule):
    absent = (3, 11, 12, 30, 39)
    options = DecodingOptions(LONGEST, temperature, seed=1)
    found = generate(
        *models,
        [[1, n] for n in range(2, 34)],
        rule,
        options=options,
        vocabulary=TokenIds(TOKENS, absent=absent),
        eos_token_id=(),
    )
    drawn = set(found.tokens.flatten().tolist())
    assert not drawn & set(absent) and max(drawn) < TOKENS and len(drawn) > 10

"""What a server gives is believed only once a few requests have shown that it is right."""

import math

import numpy as np
import pytest
import torch
from conftest import TOKENS, make_model, make_text
from served import Changed, LogprobServer, Watched, serving
from transformers import AutoTokenizer

from limbeck.errors import ServerError
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_model
from limbeck.teacher.servers.client import ServerClient, served_model
from limbeck.teacher.servers.log_probabilities import read_places, top_tokens
from limbeck.teacher.servers.probe import probe_server
from limbeck.teacher.servers.settings import ServerSettings
from limbeck.token_ids import TokenIds
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer

TOP = 6


@pytest.fixture(scope="module")
def reader(decoder):
    return AutoTokenizer.from_pretrained(decoder)


def probed(server, reader, *, longest=40, top_k=TOP, **settings):
    texts = [reader(text)["input_ids"][:20] for text in make_text(3, seed=5)]
    with serving(server) as url, ServerClient(ServerSettings(url=url, **settings)) as client:
        return probe_server(client, reader, texts, top_k=top_k, longest=longest)


def test_a_server_of_the_model_is_believed(decoder, reader):
    found = probed(LogprobServer(decoder, name="served"), reader)
    assert found.model == "served" and found.tokens_checked > 40
    assert found.bytes_a_token > 100 and found.seconds > 0


def test_the_numbers_are_those_of_the_model(decoder, reader):
    ids = reader(make_text(1, seed=9)[0])["input_ids"][:40]
    with serving(LogprobServer(decoder)) as url, ServerClient(ServerSettings(url=url)) as client:
        served_model(client)
        found = top_tokens(read_places(client, ids, TOP), TOP, TokenIds(TOKENS), url)
    model = load_model(decoder, architecture=ARCHITECTURES["llama"], with_head=True)
    with torch.no_grad():
        logs = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1).numpy()
    best = -np.sort(-logs, axis=-1)
    np.testing.assert_allclose(found.logs, best[:, :TOP], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(logs, found.ids, -1), found.logs, atol=1e-5)
    rest = np.log(np.exp(best[:, TOP:].astype(np.float64)).sum(-1))
    np.testing.assert_allclose(found.log_rest(TOKENS), rest, atol=1e-4)


def place(*logs):
    return {str(number): {"logprob": log} for number, log in enumerate(logs)}


def test_what_is_left_is_never_more_than_the_last_token_allows():
    """One minus what is known would be nothing but rounding errors here."""
    found = top_tokens(
        [place(-1e-9, -30.0), place(math.log(0.5), math.log(0.3))], 2, TokenIds(9), ""
    )
    assert found.log_rest(9)[0] == pytest.approx(-30 + math.log(7), abs=1e-4)
    assert found.log_rest(9)[1] == pytest.approx(math.log(0.2), abs=1e-4)
    assert found.ids.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([place(-1.0)], "gives 1 log-probabilities at a place, and 2 are needed.*max-logprobs 2"),
        ([place(-1.0, -2.0), place(-1.0, -9999.0)], "gives 1 log-probabilities"),
        ([place(-1.0, -math.inf)], "gives 1 log-probabilities"),
        ([place(3.0, 1.0)], "no log-probabilities: those of a place add up to"),
        ([place(-0.1, -0.2)], "add up to 1.72"),
        ([{"7": {"logprob": -1.0}, "9": {"logprob": -2.0}}], "gives the token 9, .*9 tokens"),
        ([{"x": {"logprob": -1.0}, "9": {"logprob": -2.0}}], "in another form"),
        ([{"1": -1.0, "2": -2.0}], "in another form"),
        ([{"1": {"logprob": None}, "2": {"logprob": -2.0}}], "in another form"),
        ([place(math.nan, -1.0, -2.0)], r"is no number \(NaN\).*--dtype"),
    ],
)
def test_what_is_no_distribution(places, message):
    with pytest.raises(ServerError, match=message):
        top_tokens(places, 2, TokenIds(9), "http://x")


class Scaling(Watched):
    """Divides logits by the temperature of the request."""

    heat = 1.0

    def completion(self, path, body):
        self.heat = body["temperature"]
        return super().completion(path, body)


def noisy(places, _):
    chance = np.random.default_rng()

    def change(found):
        logs = chance.normal(size=len(found)) * 3
        logs -= np.log(np.exp(logs).sum())
        return {
            t: {**s, "logprob": float(x)} for (t, s), x in zip(found.items(), logs, strict=True)
        }

    return [None, *map(change, places[1:])]


def each(change):
    return lambda places, _: [None, *({t: change(s) for t, s in p.items()} for p in places[1:])]


WRONG = {
    "gives no log-probabilities of the tokens of a prompt": lambda places, _: None,
    "give log-probabilities at 0 places|at 0 places of a text of": lambda places, _: [],
    "places of a text of .* and add none": lambda places, _: [None, *places],
    "gives no log-probability of the token": lambda places, _: [
        None,
        *(dict(list(place.items())[1:]) for place in places[1:]),
    ],
    "gives 3 log-probabilities at a place, and 6": lambda places, _: [
        None,
        *(dict(list(place.items())[:3]) for place in places[1:]),
    ],
    "no log-probabilities: those of a place": each(lambda s: {**s, "logprob": s["logprob"] + 12}),
    "other log-probabilities for the same text": noisy,
    "another model is served": each(lambda s: {**s, "decoded_token": s["decoded_token"] + "x"}),
    "says the text of no token": each(lambda s: {"logprob": s["logprob"]}),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_server_that_gives_what_is_wrong(decoder, reader, message):
    with pytest.raises(ServerError, match=message):
        probed(Changed(decoder, WRONG[message]), reader)


def test_a_server_that_divides_by_the_temperature(decoder, reader):
    server = Scaling(decoder)
    server.model.lm_head.register_forward_hook(lambda _, __, logits: logits / server.heat)
    with pytest.raises(ServerError, match="divides logits by the temperature: at 0.1"):
        probed(server, reader)


def test_a_server_of_another_model(tmp_path, decoder, reader):
    """Its vocabulary has the same size, and other tokens."""
    other = learn_tokenizer(
        make_text(300, seed=8), blank_tokenizer("bytes", lowercase=False), vocab_size=TOKENS
    )
    other.save_pretrained(tmp_path)
    make_model("llama", vocabulary=TOKENS, seed=1).save_pretrained(tmp_path)
    with pytest.raises(ServerError, match="another model is served; name its folder"):
        probed(LogprobServer(tmp_path), reader)


class Retokenizing(LogprobServer):
    def answer(self, path, body):
        status, answer = super().answer(path, body)
        if path == "/tokenize":
            answer["tokens"] = answer["tokens"][:3] + answer["tokens"][4:]
        return status, answer


def test_a_server_that_tokenizes_otherwise(decoder, reader):
    with pytest.raises(ServerError, match="tokenizes a text in .* differently from place 3 "):
        probed(Retokenizing(decoder), reader)


class Silent(LogprobServer):
    """Has no /tokenize, which is of vLLM alone, and says nothing of its context."""

    def answer(self, path, body):
        if path == "/v1/models":
            return 200, {"data": [{"id": self.name}]}
        return (404, {}) if path == "/tokenize" else super().answer(path, body)


def test_what_servers_need_not_have(decoder, reader):
    assert probed(Silent(decoder), reader).tokens_checked > 40


def test_a_context_that_is_too_short(decoder, reader):
    with pytest.raises(ServerError, match="reads 80 tokens, .* up to 80; .*--max-model-len 81"):
        probed(LogprobServer(decoder), reader, longest=80)
    with pytest.raises(ServerError, match=r"refuses .* of 80 token ids.*400.*--max-model-len 81"):
        probed(Silent(decoder), reader, longest=80)
    assert probed(LogprobServer(decoder), reader, longest=79).seconds > 0


def test_a_limit_of_log_probabilities(decoder, reader):
    with pytest.raises(ServerError, match=r"prompt_logprobs of 1 to 5.*--max-logprobs 6"):
        probed(LogprobServer(decoder, max_logprobs=5), reader)


class WithoutCompletions(LogprobServer):
    def answer(self, path, body):
        if path == "/v1/completions":
            return 404, {"detail": "Not Found"}
        return super().answer(path, body)


def test_servers_that_cannot_are_told_from_those_that_can(decoder, reader):
    with pytest.raises(ServerError, match=r"has no /v1/completions.*vLLM gives them.*llama-server"):
        probed(WithoutCompletions(decoder), reader)


class Failing(LogprobServer):
    """Answers /v1/completions with a status."""

    status = 500

    def answer(self, path, body):
        if path == "/v1/completions":
            return self.status, {"error": "boom"}
        return super().answer(path, body)


def test_which_servers_can_is_said_only_where_that_may_be_the_reason(decoder, reader):
    with pytest.raises(ServerError, match=r"answers 500 .*boom.*vLLM gives them.*llama-server"):
        probed(Failing(decoder), reader, max_retries=0)
    for status, said in ((503, "answers 503"), (401, "set `api_key_env`")):
        server = Failing(decoder)
        server.status = status
        with pytest.raises(ServerError, match=said) as found:
            probed(server, reader, max_retries=0)
        assert "vLLM gives them" not in str(found.value)


def test_the_probe_is_a_few_requests(decoder, reader):
    server = Watched(decoder)
    probed(server, reader)
    assert len(server.asked) == 8 and len(server.asked[-1]) == 40

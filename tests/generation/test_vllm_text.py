"""A student's text from a server that gets its weights, against text that is generated here."""

import threading
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from conftest import make_model
from transformers import PreTrainedModel
from vllm_stand_in import Server

from limbeck.errors import ServerError
from limbeck.generation.decoding import DecodingOptions, generate
from limbeck.generation.rules import Student
from limbeck.generation.vllm_text import VllmText, log_probabilities
from limbeck.teacher.servers.client import ServerClient
from limbeck.teacher.servers.settings import ServerSettings
from limbeck.token_ids import TokenIds

TOKENS, ENDS = TokenIds(61, absent=(5, 11)), (7, 23)
PROMPTS = [[3, 1, 4], [15, 9], [2, 6, 5, 3, 5], [8]]


def decoder(seed):
    model = make_model("llama", vocabulary=64, seed=seed).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(4)
    return model


@contextmanager
def text_of(model, tmp_path, *, wrong="", longest=64):
    """What generates on a server that has other weights of the same shape."""
    model.save_pretrained(tmp_path / "start")
    server = Server(
        tmp_path / "start", host="127.0.0.1", port=0, name="s", longest=longest, wrong=wrong
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = ServerSettings(url=f"http://127.0.0.1:{server.server_port}", max_retries=0)
    try:
        with ServerClient(settings, through_proxies=False) as client:
            client.model = "s"
            yield VllmText(client, tmp_path / "weights", PreTrainedModel.save_pretrained), server
    finally:
        server.shutdown()
        server.server_close()


def options(temperature=0.0, seed=0, length=12):
    return DecodingOptions(length, temperature, seed=seed)


def generated(text, student, prompts=PROMPTS, *, vocabulary=TOKENS, ends=ENDS, **given):
    asked = options(**given)
    return text.begin(student, prompts, asked, vocabulary=vocabulary, eos_token_id=ends)()


def test_greedy_text_is_that_of_the_students_weights_of_now(tmp_path):
    with text_of(decoder(0), tmp_path) as (text, server):
        for seed in (1, 2):
            student = decoder(seed)
            found = generated(text, student)
            here = generate(
                *(student, None, PROMPTS, Student()),
                options=options(),
                vocabulary=TOKENS,
                eos_token_id=ENDS,
            )
            assert torch.equal(found.tokens, here.tokens)
            assert torch.equal(found.lengths, here.lengths)
            assert torch.equal(found.ended, here.ended)
            assert not found.by_teacher.any()
        assert len(server.loaded) == 2
        assert (tmp_path / "weights" / "model.safetensors").is_file()


def test_tokens_are_drawn_with_the_students_probabilities(tmp_path):
    student, rows, some = decoder(3), 500, [[3, 1, 4]] * 12
    with text_of(student, tmp_path) as (text, _):
        found = generated(text, student, [[3, 1, 4]] * rows, temperature=1.5, length=1)
        one, again, other = (
            generated(text, student, some, temperature=1.5, length=4, seed=seed)
            for seed in (0, 0, 1)
        )
    assert torch.equal(one.tokens, again.tokens) and not torch.equal(one.tokens, other.tokens)
    with torch.no_grad():
        logits = student(torch.tensor([[3, 1, 4]])).logits[0, -1] / 1.5
    logits[[*TOKENS.absent, 61, 62, 63]] = -torch.inf
    expected = logits.softmax(-1)
    counts = Counter(found.tokens[:, 0].tolist())
    drawn = torch.tensor([counts[token] / rows for token in range(64)])
    assert not {*TOKENS.absent, 61, 62, 63} & counts.keys()
    deviation = (expected * (1 - expected) / rows).sqrt()
    assert bool(((drawn - expected).abs() <= 4.5 * deviation + 2 / rows).all())


def test_log_probabilities_are_those_of_one_forward():
    student, ids = decoder(1), [3, 1, 4, 1, 5, 9]
    with torch.no_grad():
        logs = student(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = torch.stack([logs[place - 1, ids[place]] for place in (2, 3, 4, 5)])
    torch.testing.assert_close(log_probabilities(student, ids[:2], ids[2:]), expected)


@pytest.mark.parametrize(
    ("wrong", "longest", "said"),
    [
        ("ignores", 64, "differ from the student's by .* it has other weights"),
        ("refuses", 64, "takes no weights; start it with VLLM_SERVER_DEV_MODE=1"),
        ("text", 64, "without token ids and log-probabilities: .*; use vLLM"),
        ("short", 64, "gives 12 tokens and 11 log-probabilities"),
        ("", 8, "400 .*too long"),
    ],
)
def test_a_server_that_is_wrong_is_refused(tmp_path, wrong, longest, said):
    with (
        text_of(decoder(0), tmp_path, wrong=wrong, longest=longest) as (text, _),
        pytest.raises(ServerError, match=said),
    ):
        generated(text, decoder(1), ends=(63,))


def test_weights_that_are_no_longer_taken_are_found_out(tmp_path):
    with text_of(decoder(0), tmp_path) as (text, server):
        generated(text, decoder(1))
        server.wrong = "ignores"
        with pytest.raises(ServerError, match="it has other weights"):
            generated(text, decoder(2))


def test_many_tokens_without_a_meaning_are_refused(tmp_path):
    student = make_model("llama", vocabulary=900).eval()
    with (
        text_of(student, tmp_path) as (text, _),
        pytest.raises(ServerError, match="839 tokens that its tokenizer has not"),
    ):
        generated(text, student, vocabulary=TokenIds(61))

"""A teacher on a server: its cache is that of the same teacher here, and a run learns from it."""

import json
import re
import shutil
import threading
from contextlib import suppress

import pytest
import torch
import yaml
from conftest import TOKENS, losses, make_model, same_run, train
from safetensors.torch import load_file
from served import Answer, LogprobServer, Watched, serving
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.errors import CacheError, RecipeError, ServerError
from limbeck.recipe.check import prepare
from limbeck.recipe.json_schema import recipe_schema
from limbeck.run.accelerator import build_accelerator
from limbeck.run.cache import open_cache, write_cache
from limbeck.run.distill import distill
from limbeck.run.plan import plan_tables
from limbeck.run.probe import probe
from limbeck.teacher.manifest import Kind
from limbeck.teacher.servers import client as clients

TOP = 6


@pytest.fixture
def raw(raw_recipe, decoder):
    raw_recipe["teacher"] = {"model": decoder}
    raw_recipe["stages"] = [{"objectives": {"logits": {}}, "max_steps": 5, "batch_size": 4}]
    raw_recipe["training"] |= {"logging_steps": 1}
    return raw_recipe


@pytest.fixture(scope="module")
def weightless(decoder, tmp_path_factory):
    """The folder of the teacher without its weights."""
    folder = tmp_path_factory.mktemp("folder") / "teacher"
    shutil.copytree(decoder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return str(folder)


def on_server(raw, folder, url, **server):
    return {**raw, "teacher": {"model": folder, "server": {"url": url, "top_k": TOP, **server}}}


def keep(raw, folder, top_k=TOP):
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, folder)
    return write_cache(setup, folder, Kind("top_k", top_k), accelerator)


def records(folder, name):
    """The records of a signal by key."""
    found = {}
    for file in sorted((folder / name).glob("*.safetensors")):
        shard = load_file(file)
        parts = torch.split(shard["signal"], shard["ends"].diff(prepend=torch.tensor([0])).tolist())
        found |= dict(zip(shard["keys"].tolist(), parts, strict=True))
    return found


def same_cache(one, other):
    """Log-probabilities to the rounding of 16 bits; tokens where these are clearly different."""
    ours, theirs = records(one, "top_logs-0"), records(other, "top_logs-0")
    assert ours.keys() == theirs.keys() and ours
    tokens = records(one, "top_tokens-0"), records(other, "top_tokens-0")
    for key, logs in ours.items():
        torch.testing.assert_close(logs.float(), theirs[key].float(), rtol=1e-3, atol=2e-3)
        next_to = logs[:, 1:-1] - logs[:, :-2] if logs.shape[1] > 2 else None
        clear = (next_to < -0.01).all(-1)
        assert torch.equal(tokens[0][key][clear][:, :-1], tokens[1][key][clear][:, :-1])
    assert any((logs[:, 1:-1] - logs[:, :-2] < -0.01).all(-1).any() for logs in ours.values())


@pytest.mark.parametrize("what", ["text", "documents apart", "prompts"])
def test_a_cache_is_that_of_the_teacher_that_runs_here(
    raw, decoder, weightless, prompts, tmp_path, what
):
    if what == "documents apart":
        raw["data"]["isolate_documents"] = True
    if what == "prompts":
        raw["data"] = {"prompts": prompts, "max_length": 40, "max_new_tokens": 16}
        raw["stages"][0]["policy"] = "corpus"
    keep(raw, tmp_path / "here")
    with serving(LogprobServer(decoder, name="m")) as url:
        keep(on_server(raw, weightless, url), tmp_path / "served")
    same_cache(tmp_path / "here", tmp_path / "served")
    manifest = json.loads((tmp_path / "served" / "manifest.json").read_text())
    assert manifest["server"] == {"url": url, "model": "m", "top_k": TOP}
    if what != "text":
        open_cache(prepare({**raw, "teacher": {"cache": str(tmp_path / "served")}}), "cpu")
        return
    # The server is gone, and the signals are read as those of any teacher.
    train({**raw, "teacher": {"cache": str(tmp_path / "here")}}, tmp_path / "one")
    run = distill({**raw, "teacher": {"cache": str(tmp_path / "served")}}, tmp_path / "two")
    assert any("was served at" in note for note in run.report["notes"])
    for ours, theirs in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        for mine, yours in zip(ours[3:], theirs[3:], strict=True):
            assert yours is None or mine == pytest.approx(yours, rel=1e-3)


def test_a_run_on_a_server_is_one_from_its_cache(raw, decoder, weightless, tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_TEST_KEY", "secret-7")
    server = Watched(decoder)
    with serving(server) as url:
        served = on_server(raw, weightless, url, api_key_env="LIMBECK_TEST_KEY")
        keep(served, tmp_path / "kept")
        train({**served, "teacher": {"cache": str(tmp_path / "kept")}}, tmp_path / "cached")
        server.asked.clear()
        distill(served, tmp_path / "live")
        asked = server.asked[8:]  # without those of the probe
        assert len(asked) == len({tuple(ids) for ids in asked}) == 5 * 4 + 8  # each row once
    same_run(tmp_path / "live", tmp_path / "cached")
    texts = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(b"secret-7" in text for text in texts)


def test_the_student_may_generate(raw, decoder, weightless, prompts, tmp_path):
    raw["data"] = {"prompts": prompts, "max_length": 40, "max_new_tokens": 16}
    raw["stages"][0] |= {"policy": "student", "max_steps": 2}
    with serving(LogprobServer(decoder)) as url:
        distill(on_server(raw, weightless, url), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])


def test_requests_at_once_are_bounded(raw, decoder, weightless, tmp_path):
    server, gate = Watched(decoder), threading.Barrier(3, timeout=20)
    real = server.completion

    def together(path, body) -> Answer:
        if len(body["prompt"]) == 16 and len(server.asked) > 8:
            with suppress(threading.BrokenBarrierError):
                gate.wait()  # three requests do run at once
            if len(server.asked) > 12:
                gate.abort()
        return real(path, body)

    server.completion = together
    with serving(server) as url:
        keep(on_server(raw, weightless, url, concurrency=3), tmp_path / "c")
    assert server.most == 3


class Dying(Watched):
    """Breaks after some requests, until it is mended."""

    lives = 10**9

    def completion(self, path, body) -> Answer:
        if self.lives <= 0:
            return 500, {"error": "CUDA error"}
        self.lives -= 1
        return super().completion(path, body)


def test_what_a_dying_server_said_is_kept_and_not_asked_again(
    raw, decoder, weightless, tmp_path, monkeypatch
):
    monkeypatch.setattr(clients, "_FIRST_PAUSE", 0.001)
    server = Dying(decoder)
    server.lives = 8 + 15
    with serving(server) as url:
        served = on_server(raw, weightless, url, max_retries=2, concurrency=2)
        with pytest.raises(CacheError) as told:
            keep(served, tmp_path / "c")
        message = str(told.value)
        assert re.search(r"gave up at batch \d of 6: .* answers 500 .*CUDA error", message)
        assert "is not asked again: run the same command to resume" in message
        kept = records(tmp_path / "c", "top_logs-0")
        assert 13 <= len(kept) <= 15
        with pytest.raises(CacheError, match="lacks predictions of layer 0 for 5 of the 5 steps"):
            distill({**raw, "teacher": {"cache": str(tmp_path / "c")}}, tmp_path / "run")
        server.lives = 10**9
        server.asked.clear()
        keep(served, tmp_path / "c")
        assert len(server.asked) - 8 == 28 - len(kept)
        server.asked.clear()
        keep(served, tmp_path / "c")
        assert len(server.asked) == 8
    keep(raw, tmp_path / "here")
    same_cache(tmp_path / "here", tmp_path / "c")


def test_a_run_whose_server_dies_resumes(raw, decoder, weightless, tmp_path, monkeypatch):
    monkeypatch.setattr(clients, "_FIRST_PAUSE", 0.001)
    raw["training"]["save_steps"] = 1
    server = Dying(decoder)
    with serving(server) as url:
        served = on_server(raw, weightless, url, max_retries=1)
        train(served, tmp_path / "whole")
        server.lives = 8 + 8 + 10
        with pytest.raises(ServerError, match="CUDA error"):
            distill(served, tmp_path / "broken")
        server.lives = 10**9
        distill(served, tmp_path / "broken")
    same_run(tmp_path / "whole", tmp_path / "broken")


def test_a_cache_of_another_served_model_is_refused(raw, decoder, weightless, tmp_path):
    with serving(LogprobServer(decoder, name="one")) as url:
        keep(on_server(raw, weightless, url), tmp_path / "c")
    other_model = pytest.raises(CacheError, match=r"teacher.server.model is two and was one")
    with serving(LogprobServer(decoder, name="two")) as url, other_model:
        keep(on_server(raw, weightless, url), tmp_path / "c")
    with serving(LogprobServer(decoder, name="one")) as other:  # at another address
        keep(on_server(raw, weightless, other), tmp_path / "c")
    named = on_server(raw, weightless, url, model="two")
    named["teacher"]["cache"] = str(tmp_path / "c")
    with pytest.raises(CacheError, match=r"teacher.server.model is two and was one"):
        distill(named, tmp_path / "run")
    nameless = on_server(raw, weightless, url)
    nameless["teacher"]["cache"] = str(tmp_path / "c")
    open_cache(prepare(nameless), "cpu")


def problems_of(raw):
    with pytest.raises(RecipeError) as told:
        prepare(raw)
    return str(told.value)


def test_what_a_server_cannot_give_is_said_before_it_is_asked(raw, weightless, decoder):
    url = "http://127.0.0.1:9"
    stage = {"max_steps": 2, "batch_size": 4}
    raw["stages"] = [
        {**stage, "objectives": {"hidden_states": {}, "relations": {}, "logits": {}}},
        {**stage, "objectives": {"uld": {}}},
        {**stage, "objectives": {"logits": {"signal": "top_k", "top_k": 9}}},
    ]
    raw["student"] |= {"init_from_teacher": {"layers": "uniform"}, "hidden_size": 24}
    told = problems_of(on_server(raw, weightless, url))
    for expected in (
        "stages.0.objectives.hidden_states: needs hidden, and a server gives predictions alone",
        "stages.0.objectives.relations: needs keys, queries, values, and a server",
        "stages.1.objectives.uld: needs every logit, and a server gives some; run the teacher here",
        "stages.2.objectives.logits: needs 9 tokens; give as large a server.top_k",
        "student.init_from_teacher: needs the teacher's weights, and",
    ):
        assert expected in told
    assert "stages.0.objectives.logits" not in told
    told = problems_of(on_server(raw, decoder, url))  # whose weights are there
    assert "init_from_teacher" not in told


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"server": "localhost:8000"}, "teacher.server.url: is 'localhost:8000'; give the server"),
        ({"server": {"url": "http://a:1", "api_key_env": "sk-1"}}, "api_key_env: is no name of an"),
        ({"server": {"url": "http://a:1", "topk": 3}}, "teacher.server.topk: unknown key.*top_k"),
        ({"server": {"url": "http://a:1", "top_k": 0}}, "teacher.server.top_k"),
        (
            {"server": "http://a:1", "quantize": "int8"},
            "teacher.quantize: is for teachers that run",
        ),
        ({"server": {"url": "http://a:1", "top_k": TOKENS}}, f"compares {TOKENS} tokens; give a"),
    ],
)
def test_settings_of_a_recipe(raw, weightless, teacher, message):
    assert re.search(message, problems_of({**raw, "teacher": {"model": weightless, **teacher}}))


def test_a_policy_of_the_teacher(raw, weightless, prompts):
    raw["data"] = {"prompts": prompts, "max_length": 40, "max_new_tokens": 16}
    raw["stages"][0]["policy"] = "switch"
    told = problems_of(on_server(raw, weightless, "http://127.0.0.1:9"))
    assert "stages.0.policy: lets the teacher read every text while it is generated" in told


def test_encoders(raw_recipe, teacher_folder):
    raw_recipe["stages"] = [{"objectives": {"logits": {}}, "max_steps": 2, "batch_size": 4}]
    told = problems_of(on_server(raw_recipe, str(teacher_folder), "http://127.0.0.1:9"))
    assert "teacher.server: gives log-probabilities of decoders, and the teacher is an enc" in told


def test_other_kinds_of_predictions_are_refused(raw, weightless, tmp_path):
    setup = prepare(on_server(raw, weightless, "http://127.0.0.1:9"))
    accelerator = build_accelerator(setup.recipe.training, tmp_path)
    with pytest.raises(RecipeError, match="a server gives the most likely tokens alone, which ex"):
        write_cache(setup, tmp_path / "c", Kind(), accelerator)
    assert not (tmp_path / "c").exists()


def test_a_plan_asks_no_server(raw, weightless):
    setup = prepare(on_server(raw, weightless, "http://127.0.0.1:9"))
    assert probe(setup, 0).seconds_per_step > 0
    tables = dict(plan_tables(setup, None))
    [_, row] = tables["Size of the teacher's signals, if cached (limbeck cache)"]
    assert row[:2] == [f"top_k, {TOP}", f"{TOP * 4 + (TOP + 1) * 2:.1f}"]


def test_the_command(raw, decoder, weightless, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**raw, "teacher": weightless}), encoding="utf-8")
    command = ["cache", str(recipe), "-o", str(tmp_path / "c")]
    with serving(LogprobServer(decoder, name="m")) as url:
        done = CliRunner().invoke(app, [*command, "--server", url, "--top-k", str(TOP)])
    assert done.exit_code == 0, done.output
    assert f"{url} serves m: " in done.output and "41 requests" in done.output
    keep(raw, tmp_path / "here")
    same_cache(tmp_path / "here", tmp_path / "c")
    # Without a server the folder needs weights.
    done = CliRunner().invoke(app, [*command[:-1], str(tmp_path / "d")])
    assert isinstance(done.exception, RecipeError) and "holds no weights" in str(done.exception)


def test_a_vocabulary_with_rows_of_no_token(raw, decoder, weightless, tmp_path):
    """As real models have, whose probabilities are next to nothing; here they are not."""
    folder = tmp_path / "padded"
    shutil.copytree(weightless, folder)
    make_model("llama", vocabulary=TOKENS + 20).save_pretrained(folder)
    told = "which the tokenizer of `teacher.model` does not"
    with serving(LogprobServer(folder)) as url, pytest.raises(ServerError, match=told):
        keep(on_server(raw, str(folder), url), tmp_path / "c")


def test_the_schema_has_the_short_form():
    forms = recipe_schema()["$defs"]["TeacherPart"]["properties"]["server"]["anyOf"]
    assert {"type": "string"} in forms and len(forms) == 3


def test_a_run_resumes_at_another_address_with_the_same_model_alone(
    raw, decoder, weightless, tmp_path, monkeypatch
):
    monkeypatch.setattr(clients, "_FIRST_PAUSE", 0.001)
    raw["training"]["save_steps"] = 1
    with serving(Dying(decoder, name="one")) as url:
        train(on_server(raw, weightless, url), tmp_path / "whole")
    dying = Dying(decoder, name="one")
    dying.lives = 8 + 8 + 10
    with serving(dying) as url, pytest.raises(ServerError, match="CUDA error"):
        distill(on_server(raw, weightless, url, max_retries=1), tmp_path / "broken")
    refused = pytest.raises(ServerError, match="serves 'two', and this run has learned from 'one'")
    with serving(LogprobServer(decoder, name="two")) as url, refused:
        distill(on_server(raw, weightless, url), tmp_path / "broken")
    with serving(LogprobServer(decoder, name="one")) as other:
        with pytest.raises(RecipeError, match=r"another recipe .different: teacher"):
            distill(on_server(raw, weightless, other, top_k=TOP - 1), tmp_path / "broken")
        distill(on_server(raw, weightless, other, model="one"), tmp_path / "broken")
    same_run(tmp_path / "whole", tmp_path / "broken")

"""A teacher that was run once: training from what was kept is training beside the teacher."""

import json
import re
import subprocess
import sys

import pytest
import torch
import yaml
from conftest import launcher, losses, train
from rich.console import Console
from safetensors.torch import load_file

from limbeck.cli.main import main
from limbeck.errors import CacheError, RecipeError
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import stage_batches
from limbeck.run.cache import open_cache, write_cache
from limbeck.run.cacheable import cache_size
from limbeck.run.distill import distill
from limbeck.run.models import build_models
from limbeck.run.plan import plan_tables
from limbeck.run.probe import probe
from limbeck.system.locks import alone
from limbeck.teacher.manifest import Kind
from limbeck.teacher.store import SignalStore


@pytest.fixture
def raw(raw_recipe):
    raw_recipe["stages"] = [
        {"objectives": {"relations": {}, "hidden_states": {}}, "max_steps": 6, "batch_size": 4},
        {"objectives": {"logits": {}, "labels": {}}, "max_steps": 6, "batch_size": 4},
    ]
    raw_recipe["training"] |= {"logging_steps": 1}
    return raw_recipe


def keep(raw, folder, **kind):
    setup = prepare(raw)
    return write_cache(
        setup, folder, Kind(**kind), build_accelerator(setup.recipe.training, folder)
    )


def cached(raw, folder):
    return {**raw, "teacher": {"cache": str(folder)}}


def close(left, right, tolerance):
    for ours, theirs in zip(losses(left), losses(right), strict=True):
        for mine, yours in zip(ours[3:], theirs[3:], strict=True):
            if yours is not None:
                assert mine == pytest.approx(yours, rel=tolerance), ours[:3]


def test_a_plan_refuses_a_cache_of_something_else(raw, tmp_path, monkeypatch, capsys):
    keep(raw, tmp_path / "c")
    for seed, code in ((raw.get("seed", 0), 0), (77, 1)):
        file = tmp_path / f"{seed}.yaml"
        file.write_text(yaml.safe_dump(cached(raw, tmp_path / "c") | {"seed": seed}))
        monkeypatch.setattr(sys, "argv", ["limbeck", "plan", str(file), "--no-timed"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == code
    assert "holds signals of something else: seed" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_exact_signals_give_the_losses_of_the_live_teacher(raw, tmp_path, precision):
    raw["training"]["precision"] = precision
    raw["stages"][1]["micro_batch_size"] = 3  # split otherwise than when it was kept
    keep({**raw, "stages": [{**s, "micro_batch_size": 2} for s in raw["stages"]]}, tmp_path / "c")
    train(raw, tmp_path / "live")
    distill(cached(raw, tmp_path / "c"), tmp_path / "cached")
    close(tmp_path / "cached", tmp_path / "live", 1e-3 if precision == "bfloat16" else 1e-5)
    if precision == "float32":
        one, two = (
            load_file(tmp_path / n / "student/model.safetensors") for n in ("live", "cached")
        )
        for name in one:
            torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_decoders(raw, decoder, prompts, text_file, tmp_path, family):
    raw["teacher"] = decoder
    raw["stages"][0] |= {"objectives": {"relations": {"heads": 2}, "embeddings": {}}}
    if family == "llama":
        raw["data"] = {"prompts": prompts, "max_length": 40, "max_new_tokens": 16}
        raw["stages"] = [{**stage, "policy": "corpus"} for stage in raw["stages"]]
    keep(raw, tmp_path / "c")
    train(raw, tmp_path / "live")
    distill(cached(raw, tmp_path / "c"), tmp_path / "cached")
    close(tmp_path / "cached", tmp_path / "live", 1e-5)


def test_two_vocabularies(raw, vocabulary, tmp_path):
    raw["student"]["tokenizer"] = vocabulary
    raw["stages"] = [
        {"alignment": kind, "objectives": {"logits": {}, "relations": {}}, "max_steps": 4}
        for kind in ("match", "reduce")
    ]
    keep(raw, tmp_path / "c")
    train(raw, tmp_path / "live")
    distill(cached(raw, tmp_path / "c"), tmp_path / "cached")
    close(tmp_path / "cached", tmp_path / "live", 1e-4)


def test_all_tokens_of_top_k_are_exact_and_fewer_are_what_the_objective_takes(raw, tmp_path):
    """The tail is one more token for `signal: top_k`, so nothing that it reads is missing."""
    del raw["stages"][0]
    raw["stages"][0]["objectives"]["logits"] = {"signal": "top_k", "top_k": 16}
    keep(raw, tmp_path / "c", logits="top_k", tokens=16)
    train(raw, tmp_path / "live")
    distill(cached(raw, tmp_path / "c"), tmp_path / "cached")
    close(tmp_path / "cached", tmp_path / "live", 5e-3)  # log-probabilities are kept in 16 bits


def test_samples_give_the_gradient_on_average(raw, tmp_path):
    del raw["stages"][0]
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, tmp_path)
    _, live = build_models(setup, accelerator)
    keep(raw, tmp_path / "c", logits="sampled", tokens=2000)
    teacher = open_cache(prepare(cached(raw, tmp_path / "c")), "cpu")
    batch = stage_batches(setup, 0).batch(0)
    needs = setup.stages[0].teacher_needs()
    exact = live.signals(batch, needs).predictions.logits().softmax(-1)
    given = teacher.signals(batch, needs).predictions
    drawn = given.selected.logits(slice(0, len(exact)), exact.shape[1]).exp()
    assert drawn.sum(-1) == pytest.approx(1.0, abs=1e-4)
    # Each share is a mean of 2000 draws: five standard deviations hold all of them.
    assert bool(((drawn - exact).abs() < 5 * (exact * (1 - exact) / 2000).sqrt() + 2e-3).all())
    distill(cached(raw, tmp_path / "c"), tmp_path / "run")


def test_what_is_kept_can_be_less_than_a_third(raw, tmp_path):
    """Queries, keys and values are made again from what entered them."""
    del raw["stages"][1]
    raw["stages"][0]["objectives"] = {"relations": {}}
    size = keep(raw, tmp_path / "c")
    assert {path.name for path in (tmp_path / "c").iterdir() if path.is_dir()} == {"entered-2"}
    expected = cache_size(prepare(raw), Kind())
    assert size.bytes_a_token == pytest.approx(expected.bytes_a_token, rel=0.8)  # and held-out text
    assert expected.bytes_a_token == 24 * 4
    tables = dict(plan_tables(prepare(raw), None))
    assert tables["Size of the teacher's signals, if cached (limbeck cache)"][1][:2] == [
        "exact",
        "96.0",
    ]


def test_a_folder_of_something_else_is_refused_with_what_differs(raw, text_file, tmp_path):
    keep(raw, tmp_path / "c")
    other = tmp_path / "other.txt"
    other.write_text(text_file.read_text(encoding="utf-8") + "\none more line", encoding="utf-8")
    first, second = raw["stages"]
    changes = {
        "seed": {"seed": 5},
        "data.text.0": {"data": {**raw["data"], "text": str(other)}},
        "data ": {"data": {**raw["data"], "max_length": 24}},
        "stages.1.masking": {"stages": [first, {**second, "masking": {"mlm_probability": 0.3}}]},
        "of layer 2 for 1 of the 7 steps": {"stages": [{**first, "max_steps": 7}, second]},
        "lacks keys of layer 1": {
            "stages": [{**first, "objectives": {"relations": {"teacher_layer": 1}}}, second]
        },
        "training.precision": {"training": {**raw["training"], "precision": "bfloat16"}},
    }
    for named, change in changes.items():
        with pytest.raises(CacheError, match=re.escape(named)):
            distill({**cached(raw, tmp_path / "c"), **change}, tmp_path / "run")
        if "lacks" not in named and "steps" not in named:
            with pytest.raises(CacheError, match="Use another folder"):
                keep({**raw, **change}, tmp_path / "c")
    with pytest.raises(CacheError, match="predictions are kept as"):
        keep(raw, tmp_path / "c", logits="top_k")
    with pytest.raises(RecipeError, match="teacher.cache.*holds no cached signals"):
        distill(cached(raw, tmp_path / "nowhere"), tmp_path / "run")
    # How many processes prepare the text says nothing of the text.
    keep({**raw, "data": {**raw["data"], "num_proc": 2}}, tmp_path / "c")
    # A longer recipe adds to the same folder, and a shorter one removes nothing from it.
    keep({**raw, **changes["of layer 2 for 1 of the 7 steps"]}, tmp_path / "c")
    keep(raw, tmp_path / "c")
    longer = {**cached(raw, tmp_path / "c"), **changes["of layer 2 for 1 of the 7 steps"]}
    train(longer, tmp_path / "longer")
    # Fewer steps, and a part of the objectives, are served.
    raw["stages"][0]["max_steps"], raw["stages"][0]["objectives"] = 3, {"hidden_states": {}}
    train(cached(raw, tmp_path / "c"), tmp_path / "less")
    assert probe(prepare(cached(raw, tmp_path / "c")), 0).seconds_per_step > 0


def test_an_interrupted_cache_is_resumed(raw, tmp_path, monkeypatch):
    whole = keep(raw, tmp_path / "whole")
    monkeypatch.setattr("limbeck.teacher.store._SHARD", 20_000)
    real, calls = SignalStore.flush, []

    def dying(self):
        real(self)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(SignalStore, "flush", dying)
    with pytest.raises(KeyboardInterrupt):
        keep(raw, tmp_path / "broken")
    with pytest.raises(CacheError, match="lacks .* of layer 2 for 6 of the 6 steps of stages.0"):
        distill(cached(raw, tmp_path / "broken"), tmp_path / "run")
    shards = {p: p.stat().st_mtime_ns for p in (tmp_path / "broken").rglob("*/*.safetensors")}
    assert shards
    monkeypatch.undo()
    keep(raw, tmp_path / "broken")
    assert all(p.stat().st_mtime_ns == before for p, before in shards.items())
    assert whole.total > 0
    train(cached(raw, tmp_path / "broken"), tmp_path / "one")
    train(cached(raw, tmp_path / "whole"), tmp_path / "two")
    assert [r[3:] for r in losses(tmp_path / "one")] == [r[3:] for r in losses(tmp_path / "two")]


def test_recipes_that_share_a_folder_take_nothing_from_each_other(raw, tmp_path):
    folder, stage = tmp_path / "c", {"max_steps": 3, "batch_size": 4}
    relations = {**raw, "stages": [{"objectives": {"relations": {}}, **stage}]}
    hidden = {**raw, "stages": [{"objectives": {"hidden_states": {}}, **stage, "max_steps": 6}]}
    longer = {**raw, "stages": [{"objectives": {"relations": {}}, **stage, "max_steps": 6}]}
    keep(relations, folder)
    keep(hidden, folder)
    train(cached(relations, folder), tmp_path / "one")
    train(cached(hidden, folder), tmp_path / "two")
    with pytest.raises(CacheError, match="lacks keys of layer 2 for 3 of the 6 steps of stages.0"):
        distill(cached(longer, folder), tmp_path / "three")
    keep(longer, folder)
    train(cached(longer, folder), tmp_path / "three")


@pytest.mark.parametrize("damage", ["a byte", "truncated"])
def test_a_damaged_shard_is_found_and_rewritten(raw, tmp_path, damage, capsys):
    keep(raw, tmp_path / "c")
    file = next((tmp_path / "c").glob("hidden-*/*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data if damage == "a byte" else data[:-9])
    with pytest.raises(CacheError, match="is damaged.*Run the `limbeck cache` command again"):
        distill(cached(raw, tmp_path / "c"), tmp_path / "run")
    setup = prepare(raw)
    console = Console(width=1000)
    write_cache(
        setup,
        tmp_path / "c",
        Kind(),
        build_accelerator(setup.recipe.training, "."),
        console=console,
    )
    assert f"{file} is damaged and is made again" in capsys.readouterr().out
    train(cached(raw, tmp_path / "c"), tmp_path / "run")


def test_damaged_maps_are_computed_again(raw, tmp_path):
    keep(raw, tmp_path / "c")
    maps = tmp_path / "c" / "maps.safetensors"
    maps.write_bytes(maps.read_bytes()[:-9])
    with pytest.raises(CacheError, match="maps.safetensors cannot be read"):
        distill(cached(raw, tmp_path / "c"), tmp_path / "run")
    keep(raw, tmp_path / "c")
    train(cached(raw, tmp_path / "c"), tmp_path / "run")


def test_two_processes_share_the_writing(raw, tmp_path):
    one = keep(raw, tmp_path / "one")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(raw), encoding="utf-8")
    command, environment = launcher(2)
    command += ["-m", "limbeck", "cache", str(recipe), "-o", str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    held = SignalStore(tmp_path / "two", 0)
    assert held.held_bytes == pytest.approx(one.total, rel=0.1) and held.damaged() == []
    assert len({p.name[:3] for p in (tmp_path / "two").rglob("*/*.safetensors")}) == 2
    train(cached(raw, tmp_path / "one"), tmp_path / "a")
    train(cached(raw, tmp_path / "two"), tmp_path / "b")
    close(tmp_path / "a", tmp_path / "b", 1e-6)


def test_one_of_several_processes_reads_it(raw, tmp_path):
    keep(raw, tmp_path / "c")
    device = torch.device("cpu", 0)  # as accelerate names it to the processes of a launcher
    assert open_cache(prepare(cached(raw, tmp_path / "c")), device)


def test_two_commands_do_not_write_one_cache(raw, tmp_path):
    setup, folder = prepare(raw), tmp_path / "c"
    accelerator = build_accelerator(setup.recipe.training, folder)
    with (
        alone(folder, "writing"),
        pytest.raises(RecipeError, match="another command is writing in"),
    ):
        write_cache(setup, folder, Kind(), accelerator)
    assert [place.name for place in folder.iterdir()] == ["writing.lock"]
    write_cache(setup, folder, Kind(), accelerator)
    open_cache(prepare(cached(raw, folder)), "cpu")


def test_no_process_writes_before_all_have_looked(raw, tmp_path, monkeypatch):
    setup, folder = prepare(raw), tmp_path / "c"
    folder.mkdir()
    (folder / "manifest.json.part").write_text("half of it")  # as another one, or a kill, leaves it
    accelerator, waits = build_accelerator(setup.recipe.training, folder), []
    monkeypatch.setattr(
        accelerator,
        "wait_for_everyone",
        lambda: waits.append({place.name for place in folder.iterdir()}),
    )
    write_cache(setup, folder, Kind(), accelerator)
    assert waits[0] == {"manifest.json.part"}
    assert "manifest.json" in waits[1]
    open_cache(prepare(cached(raw, folder)), "cpu")


@pytest.mark.parametrize(
    ("objectives", "kind", "named"),
    [
        ({"labels": {}}, "exact", "asks nothing of a teacher"),
        ({"uld": {}}, "top_k", "needs every logit"),
        ({"logits": {"signal": "top_k", "top_k": 80}}, "top_k", "needs 80 tokens"),
        ({"logits": {"temperature": 2.0}}, "sampled", "forward_kl at temperature 1 alone"),
    ],
)
def test_what_cannot_be_kept_is_said(raw, tmp_path, objectives, kind, named):
    raw["stages"] = [{"objectives": objectives, "max_steps": 2}]
    with pytest.raises(RecipeError, match=named):
        keep(raw, tmp_path / "c", logits=kind)
    assert not (tmp_path / "c").exists()


def test_a_manifest_that_is_none(raw, tmp_path):
    folder = tmp_path / "c"
    keep(raw, folder)
    good = json.loads((folder / "manifest.json").read_text())
    for text, named in [
        ("{", "is not JSON"),
        ("[]", "is not a manifest"),
        (json.dumps({**good, "steps": "no"}), "steps"),
        (json.dumps({**good, "format": 9}), "format 9"),
    ]:
        (folder / "manifest.json").write_text(text)
        with pytest.raises(RecipeError, match=named):
            distill(cached(raw, folder), tmp_path / "run")

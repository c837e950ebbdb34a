"""More than ten thousand broken inputs: each ends in success or a LimbeckError, and never hangs.

Inputs are good ones with a few places changed: values of other types, numbers out of any range,
bytes that were flipped, removed or added.
"""

import copy
import csv
import faulthandler
import gzip
import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import make_model, make_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from limbeck.data.prompts import read_prompts
from limbeck.data.text import TextSource, check_source, read_documents
from limbeck.errors import LimbeckError
from limbeck.evaluation.task_files import load_task
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_config, load_model
from limbeck.recipe.check import check
from limbeck.recipe.parse import parse_recipe
from limbeck.recipe.read import read_recipe
from limbeck.run.sources import check_sources
from limbeck.teacher.manifest import FORMAT, Kind, Manifest, read_manifest
from limbeck.teacher.store import SignalStore
from limbeck.tokenization.load import load_tokenizer
from limbeck.training.checkpoint import Position, latest_checkpoint, load_learner, save_checkpoint

HANG = 3600  # seconds for a whole test: no measure of speed, and beyond any that does not hang
BERT = ARCHITECTURES["bert"]


def many(count):
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def ended_where_it_hangs():
    """A test that never ends kills its process, and reports the line."""
    faulthandler.dump_traceback_later(HANG, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30, -(10**18)]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["../..", "/etc/passwd", "\0", "~", "..", "a" * 5000, "\ud800"[:0], "é🙂"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=4,
)
CHANGES = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["set", "delete", "add"]), VALUES),
    min_size=1,
    max_size=4,
)
DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "remove", "insert", "set"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=4,
)


def places(value, path=()):
    yield path
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in children:
        yield from places(inner, (*path, key))


def changed(value, changes):
    """A copy with some values changed, deleted or added."""
    value = copy.deepcopy(value)
    for number, how, new in changes:
        every = list(places(value))
        path = every[number % len(every)]
        if not path:
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        if how == "set":
            parent[path[-1]] = new
        elif how == "delete":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[str(new)[:9]] = new
        else:
            parent.append(new)
    return value


def damaged(data, damages):
    """A copy of some bytes with damages."""
    data = bytearray(data)
    for how, place, new in damages:
        at = int(place * len(data))
        if how == "flip" and at < len(data):
            data[at] ^= new[0] or 1
        elif how == "remove":
            del data[at:]
        elif how == "insert":
            data[at:at] = new
        else:
            data[at : at + len(new)] = new
    return bytes(data)


def refused_or_fine(action):
    """Run an action that may raise a LimbeckError; any other error fails the test."""
    with suppress(LimbeckError):
        action()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def model(place):
    folder = place / "model"
    make_model(hidden=8, layers=1, vocabulary=200).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(model, text_file):
    """A recipe with values of every kind."""
    return {
        "name": "run",
        "seed": 0,
        "teacher": {"model": str(model)},
        "student": {
            "num_hidden_layers": 1,
            "hidden_size": 8,
            "num_attention_heads": 4,
            "intermediate_size": 16,
            "init_from_teacher": {"layers": "uniform", "width": "cut"},
            "low_rank": {"rank": 2, "target_modules": "feed_forward"},
        },
        "data": {
            "text": [{"path": str(text_file), "weight": 1.0}],
            "max_length": 16,
            "held_out": {"fraction": 0.1, "sequences": 8},
        },
        "stages": [
            {
                "objectives": {
                    "relations": {"heads": 4, "weight": {"start": 1.0, "end": 0.5}},
                    "logits": {"divergence": "forward_kl", "temperature": 2.0},
                    "labels": {},
                },
                "tokens": 1000,
                "batch_size": 4,
                "micro_batch_size": 2,
                "masking": {"mlm_probability": 0.15},
                "optimizer": {"learning_rate": 0.001, "lr_scheduler_type": "linear"},
            }
        ],
        "training": {"precision": "float32", "device": "cpu", "save_steps": 10},
        "evaluation": {"tasks": [], "seeds": 1, "finetuning": {"num_train_epochs": 1.0}},
    }


@many(300)
@given(changes=CHANGES)
def test_recipes(recipe, changes):
    setup, problems = check(changed(recipe, changes))
    assert setup is not None or problems


@many(1000)
@given(damages=DAMAGES)
def test_recipes_as_files(recipe, place, damages):
    file = place / "recipe.yaml"
    file.write_bytes(damaged(yaml.safe_dump(recipe).encode(), damages))
    refused_or_fine(lambda: read_recipe(file))


GOOD = Manifest(FORMAT, "model", Kind(), {"seed": "0", "data": "{}"}, {"hidden-2": [3, 4]})


@many(2000)
@given(changes=CHANGES)
def test_manifests(place, changes):
    GOOD.write(place)
    raw = json.loads((place / "manifest.json").read_text())
    text = json.dumps(changed(raw, changes))
    (place / "manifest.json").write_text(text, encoding="utf-8")

    def read():
        manifest = read_manifest(place)
        manifest.differing(GOOD), manifest.steps_of(("hidden", 2), 1)
        GOOD.differing(manifest)

    refused_or_fine(read)


@many(500)
@given(damages=DAMAGES)
def test_manifests_as_bytes(place, damages):
    GOOD.write(place)
    file = place / "manifest.json"
    file.write_bytes(damaged(file.read_bytes(), damages))
    refused_or_fine(lambda: read_manifest(place))


@pytest.fixture(scope="module")
def checkpoint(place):
    learner = torch.nn.Linear(3, 2)
    path = save_checkpoint(place / "state", Position(0, 5, 10, 1.0), learner, None)
    return path, learner


@many(1000)
@given(changes=CHANGES, damages=st.none() | DAMAGES)
def test_checkpoints(checkpoint, place, changes, damages):
    path, learner = checkpoint
    folder = place / "other-state"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(path.parent, folder)
    file = folder / path.name / "checkpoint.json"
    if damages is None:
        file.write_text(json.dumps(changed(json.loads(file.read_text()), changes)))
    else:
        other = folder / path.name / "learner.safetensors"
        other.write_bytes(damaged(other.read_bytes(), damages))

    def read():
        found, _ = latest_checkpoint(folder)
        load_learner(found, learner, student_only=False)

    refused_or_fine(read)


@pytest.fixture(scope="module")
def shard(place):
    store = SignalStore(place / "signals", 10**9)
    keys = torch.arange(4).numpy()
    store.put(("hidden", 1), keys, list(torch.ones(4, 5, 3)))
    store.flush()
    return next((place / "signals").rglob("*.safetensors")).read_bytes(), keys


@many(1000)
@given(damages=DAMAGES, number=st.integers(0, 10**9))
def test_shards(shard, place, damages, number):
    """A shard that is read without an error has the original bytes of its records."""
    data, keys = shard
    folder = place / f"shard-{number}"
    (folder / "hidden-1").mkdir(parents=True, exist_ok=True)
    (folder / "hidden-1" / "000-000000.safetensors").write_bytes(damaged(data, damages))
    store = SignalStore(folder, 0, strict=True)

    def read():
        found = store.get(("hidden", 1), keys)
        assert found is None or all(torch.equal(one, torch.ones(5, 3)) for one in found)

    refused_or_fine(read)
    shutil.rmtree(folder)


def copied(model, place, name):
    folder = place / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)
    return folder


@pytest.mark.filterwarnings("ignore:.*has a part of a vocabulary head")
@many(700)
@given(damages=DAMAGES)
def test_weights(model, place, damages):
    folder = copied(model, place, "weights")
    file = folder / "model.safetensors"
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    data = file.read_bytes()
    file.write_bytes(damaged(data[:header], damages) + data[header:])
    refused_or_fine(lambda: load_model(str(folder), architecture=BERT, with_head=None))


@many(300)
@given(
    names=st.dictionaries(
        st.sampled_from(["bert.embeddings.word_embeddings.weight", "../../x", "bert.x", ""]),
        st.sampled_from(
            ["model.safetensors", "../escaped.safetensors", "/etc/passwd", "", "a.bin"]
        ),
        min_size=1,
    ),
    more=VALUES,
)
def test_indices_of_shards(model, place, names, more):
    """No path in an index leads out of its folder."""
    folder = copied(model, place, "indexed")
    save_file({"bert.x": torch.ones(1)}, place / "escaped.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"metadata": more, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(LimbeckError):
        load_model(str(folder), architecture=BERT, with_head=None)


@many(700)
@given(changes=CHANGES)
def test_configurations(model, place, changes):
    folder = copied(model, place, "configuration")
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(changed(raw, changes)))
    raw = {
        "teacher": str(folder),
        "student": {"num_hidden_layers": 1},
        "data": {"text": []},
        "stages": [],
    }

    def load():
        load_config(str(folder))
        check(raw)

    refused_or_fine(load)


@many(800)
@given(changes=CHANGES, other=st.booleans())
def test_tokenizers(model, place, changes, other):
    folder = copied(model, place, "tokenizer")
    file = folder / ("tokenizer_config.json" if other else "tokenizer.json")
    file.write_text(json.dumps(changed(json.loads(file.read_text()), changes)))

    def load():
        tokenizer = load_tokenizer(str(folder))
        tokenizer.backend_tokenizer.encode_batch(["the old house", ""], add_special_tokens=False)

    refused_or_fine(load)


@many(1000)
@given(changes=CHANGES, damages=st.none() | DAMAGES, kind=st.sampled_from(["a", "b", "c"]))
def test_lines(place, changes, damages, kind):
    rows = [
        {"text": "one two", "label": "x", "text_pair": "three"},
        {"prompt": "one", "references": ["two", "three"]},
        {"tokens": ["one", "two"], "tags": ["B-X", "O"], "label": 1},
    ]
    lines = "\n".join(json.dumps(row) for row in changed(rows, changes))
    data = lines.encode() if damages is None else damaged(lines.encode(), damages)
    for split in ("train", "dev"):
        (place / f"task{kind}.{split}.jsonl").write_bytes(data)
    if kind == "a":
        refused_or_fine(lambda: load_task(str(place / "taska")))
    elif kind == "b":
        refused_or_fine(lambda: list(read_prompts(str(place / "taskb"))))
    else:
        source = TextSource(str(Path(place / "taskc.train.jsonl")))
        refused_or_fine(lambda: list(read_documents(source)))


@pytest.fixture(scope="module")
def tables(place):
    texts = ["one, two", 'three "four"', "five\nsix", "семь", "eight"]
    with (place / "good.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("n", "text"), *enumerate(texts)])
    pq.write_table(pa.table({"n": range(len(texts)), "text": texts}), place / "good.parquet")
    return {kind: (place / f"good{kind}").read_bytes() for kind in (".csv", ".parquet")}


@many(700)
@given(damages=DAMAGES, kind=st.sampled_from([".csv", ".parquet", ".csv.gz"]))
def test_tables(tables, place, damages, kind):
    good = tables[kind.removesuffix(".gz")]
    if kind.endswith(".gz"):
        good = gzip.compress(good, mtime=0)
    file = place / f"bad{kind}"
    file.write_bytes(damaged(good, damages))
    refused_or_fine(lambda: check_source(TextSource(str(file))))


@many(100)
@given(changes=CHANGES)
def test_records_of_the_sources_of_a_run(recipe, place, changes):
    made_of, _ = parse_recipe(recipe)
    note = place / "sources.json"
    note.unlink(missing_ok=True)
    check_sources(made_of, place, write=True)
    note.write_text(json.dumps(changed(json.loads(note.read_text()), changes)))
    refused_or_fine(lambda: check_sources(made_of, place, write=True))

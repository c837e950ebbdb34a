"""A teacher whose signals are kept gives what the live one gives, and survives what may happen."""

import pytest
import torch
from conftest import make_batch, make_model

from limbeck.activations import Needs
from limbeck.families import ANATOMIES
from limbeck.teacher.contract import Teacher
from limbeck.teacher.kept import KeptTeacher, SignalStore
from limbeck.teacher.live import LiveTeacher

NEEDS = Needs(predictions=True, embeddings=True, hidden=frozenset({0, 2}), queries=frozenset({1}))


class CountingTeacher(LiveTeacher):
    def tensors(self, batch, wanted):
        asked.append(set(wanted))
        return super().tensors(batch, wanted)


asked: list[set] = []


@pytest.fixture
def live():
    asked.clear()
    return CountingTeacher(make_model(), ANATOMIES["bert"])


def same(left, right):
    assert torch.equal(left.predictions.features, right.predictions.features)
    assert torch.equal(left.embeddings, right.embeddings)
    for kind in ("hidden", "queries"):
        mine, theirs = getattr(left, kind), getattr(right, kind)
        assert mine.keys() == theirs.keys()
        for layer in mine:
            assert torch.equal(mine[layer], theirs[layer])


def test_what_is_kept_is_what_was_computed(live, tmp_path):
    store = SignalStore(tmp_path / "signals", 10**9)
    teacher, batch = KeptTeacher(live, store, worth=NEEDS.tensors()), make_batch()
    assert isinstance(teacher, Teacher)
    expected = live.signals(batch, NEEDS)
    asked.clear()
    first, second = teacher.signals(batch, NEEDS), teacher.signals(batch, NEEDS)
    assert asked == [NEEDS.tensors()]
    same(expected, first)
    same(first, second)
    teacher.signals(make_batch(seed=1), NEEDS)
    assert len(asked) == 2


def test_hidden_states_are_shared_between_maskings_of_the_same_tokens_only(live, tmp_path):
    store = SignalStore(tmp_path / "signals", 10**9)
    teacher = KeptTeacher(live, store, worth=NEEDS.tensors())
    batch = make_batch()
    teacher.signals(batch, NEEDS)
    batch.teacher.predicted[0] = ~batch.teacher.predicted[0] & batch.teacher.mask[0]
    teacher.signals(batch, NEEDS)
    assert asked[1:] == [{("predictions", 0)}]
    batch.teacher.input_ids[0, 1] += 1
    teacher.signals(batch, NEEDS)
    assert asked[2] == NEEDS.tensors()


def test_only_what_later_runs_ask_for_is_kept(live, tmp_path):
    store = SignalStore(tmp_path / "signals", 10**9)
    teacher = KeptTeacher(live, store, worth={("hidden", 2)})
    teacher.signals(make_batch(), NEEDS)
    (file,) = (tmp_path / "signals").rglob("*.safetensors")
    assert file.name == "hidden-2.safetensors" and store.held_bytes == file.stat().st_size
    store.drop_all_but({("queries", 1)})
    assert not list((tmp_path / "signals").rglob("*.safetensors")) and store.held_bytes == 0


def test_no_more_is_kept_than_there_is_room_for(live, tmp_path):
    room = 2 * (4 * 12 * 24 * 4 + 256)
    store = SignalStore(tmp_path / "signals", room)
    teacher = KeptTeacher(live, store, worth=NEEDS.tensors())
    for seed in range(4):
        same(
            live.signals(make_batch(seed=seed), NEEDS),
            teacher.signals(make_batch(seed=seed), NEEDS),
        )
    held = SignalStore(tmp_path / "signals", room).held_bytes  # counted from the files
    assert room // 2 < held == store.held_bytes <= room
    store.remove()
    assert not (tmp_path / "signals").exists() and store.held_bytes == 0


def test_a_damaged_file_is_computed_again(live, tmp_path):
    store = SignalStore(tmp_path / "signals", 10**9)
    teacher, batch = KeptTeacher(live, store, worth=NEEDS.tensors()), make_batch()
    first = teacher.signals(batch, NEEDS)
    for number, file in enumerate(sorted((tmp_path / "signals").rglob("*.safetensors"))):
        file.write_bytes(b"" if number % 2 else file.read_bytes()[:-7])
    same(first, teacher.signals(batch, NEEDS))
    asked.clear()
    same(first, teacher.signals(batch, NEEDS))
    assert asked == []


def test_a_full_disk_stops_keeping_and_nothing_else(live, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("limbeck.teacher.kept.save_file", full)
    store = SignalStore(tmp_path / "signals", 10**9)
    teacher = KeptTeacher(live, store, worth=NEEDS.tensors())
    same(live.signals(make_batch(), NEEDS), teacher.signals(make_batch(), NEEDS))
    assert store.held_bytes == 0 and store.most_bytes == 0


def test_kept_or_not_is_the_same_in_bfloat16(live, tmp_path):
    batch = make_batch()
    found = []
    for bytes_ in (0, 10**9, 10**9):
        store = SignalStore(tmp_path / "signals", bytes_)
        teacher = KeptTeacher(live, store, worth=NEEDS.tensors())
        with torch.autocast("cpu", torch.bfloat16):
            found.append(teacher.signals(batch, NEEDS))
    same(found[0], found[1])
    same(found[0], found[2])
    assert found[0].hidden[0].dtype == torch.bfloat16


def test_nothing_is_run_where_nothing_is_needed(live, tmp_path):
    teacher = KeptTeacher(live, SignalStore(tmp_path, 10**9), worth=set())
    assert not teacher.signals(make_batch(), Needs()).hidden and asked == []

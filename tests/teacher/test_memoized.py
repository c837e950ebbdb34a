"""A teacher that stores its signals gives those of the live one, whatever happens to the files."""

import pytest
import torch
from conftest import make_batch, make_model

from limbeck.activations import Needs
from limbeck.models.families import ARCHITECTURES
from limbeck.teacher.contract import Teacher
from limbeck.teacher.live import LiveTeacher
from limbeck.teacher.memoized import MemoizedTeacher
from limbeck.teacher.shards import write_shard
from limbeck.teacher.store import SignalStore

NEEDS = Needs(predictions=True, embeddings=True, hidden=frozenset({0, 2}), queries=frozenset({1}))


class CountingTeacher(LiveTeacher):
    def tensors(self, batch, wanted):
        computed.append(set(wanted))
        return super().tensors(batch, wanted)


computed: list[set] = []


@pytest.fixture
def live():
    computed.clear()
    return CountingTeacher(make_model(), ARCHITECTURES["bert"])


def memoized(live, folder, room=10**9):
    """A store in a folder, and a teacher that keeps all of its signals there."""
    store = SignalStore(folder / "signals", room)
    return store, MemoizedTeacher(live, store, worth=NEEDS.tensors(), identity=b"one")


MASK = make_batch().teacher.mask


def same(left, right):
    """Equal at real tokens; the values at padding are not specified."""
    assert torch.equal(left.predictions.features, right.predictions.features)
    assert torch.equal(left.embeddings[MASK], right.embeddings[MASK])
    for kind in ("hidden", "queries"):
        mine, theirs = getattr(left, kind), getattr(right, kind)
        assert mine.keys() == theirs.keys()
        for layer in mine:
            assert torch.equal(mine[layer][MASK], theirs[layer][MASK])


def test_stored_signals_are_those_that_were_computed(live, tmp_path):
    (_, teacher), batch = memoized(live, tmp_path), make_batch()
    assert isinstance(teacher, Teacher) and teacher.models == (live.model,)
    expected = live.signals(batch, NEEDS)
    computed.clear()
    first, second = teacher.signals(batch, NEEDS), teacher.signals(batch, NEEDS)
    assert computed == [NEEDS.tensors()]
    same(expected, first)
    same(first, second)
    teacher.signals(make_batch(seed=1), NEEDS)
    assert len(computed) == 2


def test_hidden_states_are_shared_between_maskings_of_the_same_tokens_only(live, tmp_path):
    (_, teacher), batch = memoized(live, tmp_path), make_batch()
    teacher.signals(batch, NEEDS)
    batch.teacher.predicted[0] = ~batch.teacher.predicted[0] & batch.teacher.mask[0]
    teacher.signals(batch, NEEDS)
    assert computed[1:] == [{("predictions", 0)}]
    batch.teacher.input_ids[0, 1] += 1
    teacher.signals(batch, NEEDS)
    assert computed[2] == NEEDS.tensors()


def test_only_what_later_runs_need_is_stored(live, tmp_path):
    store = SignalStore(tmp_path / "signals", 10**9)
    teacher = MemoizedTeacher(live, store, worth={("hidden", 2)}, identity=b"one")
    teacher.signals(make_batch(), NEEDS)
    store.flush()
    (file,) = (tmp_path / "signals").rglob("*.safetensors")
    assert file.parent.name == "hidden-2" and store.held_bytes == file.stat().st_size
    store.drop_all_but({("queries", 1)})
    assert not list((tmp_path / "signals").rglob("*.safetensors")) and store.held_bytes == 0


def test_no_more_is_stored_than_there_is_room_for(live, tmp_path):
    room = 2 * 36 * 24 * 4
    store, teacher = memoized(live, tmp_path, room)
    for seed in range(4):
        same(
            live.signals(make_batch(seed=seed), NEEDS),
            teacher.signals(make_batch(seed=seed), NEEDS),
        )
    assert room // 2 < store.held_bytes <= room
    store.flush()
    held = SignalStore(tmp_path / "signals", room).held_bytes  # counted from the files
    assert room // 2 < held == store.held_bytes
    store.remove()
    assert not (tmp_path / "signals").exists() and store.held_bytes == 0


def damage(folder):
    for number, file in enumerate(sorted(folder.rglob("*.safetensors"))):
        data = bytearray(file.read_bytes())
        if number % 3 == 0:
            file.write_bytes(b"")
        elif number % 3 == 1:
            file.write_bytes(data[:-7])
        else:
            data[-7] ^= 1
            file.write_bytes(data)


def test_a_damaged_file_is_computed_again(live, tmp_path):
    (store, teacher), batch = memoized(live, tmp_path), make_batch()
    first = teacher.signals(batch, NEEDS)
    store.flush()
    damage(tmp_path / "signals")
    assert len(store.damaged()) == len(NEEDS.tensors())
    same(first, teacher.signals(batch, NEEDS))
    store.flush()
    computed.clear()
    same(first, teacher.signals(batch, NEEDS))
    assert computed == [] and store.damaged() == []


def test_a_new_shard_takes_the_place_of_none_that_is_whole(live, tmp_path):
    store, teacher = memoized(live, tmp_path)
    for seed in range(3):
        teacher.signals(make_batch(seed=seed), NEEDS)
        store.flush()
    for file in (tmp_path / "signals").glob("*/*000000.safetensors"):
        file.unlink()
    for seed in (0, 3):
        teacher.signals(make_batch(seed=seed), NEEDS)
    store.flush()
    computed.clear()
    for seed in range(4):
        teacher.signals(make_batch(seed=seed), NEEDS)
    assert computed == []


def test_rows_are_found_however_a_batch_is_split(live, tmp_path):
    (store, teacher), batch = memoized(live, tmp_path), make_batch()
    whole = teacher.signals(batch, NEEDS)
    store.flush()
    computed.clear()
    parts = [teacher.signals(batch.rows(a, b), NEEDS) for a, b in ((0, 1), (1, 4))]
    assert computed == []
    assert torch.equal(torch.cat([p.hidden[2] for p in parts]), whole.hidden[2])
    features = torch.cat([p.predictions.features for p in parts])
    assert torch.equal(features, whole.predictions.features)


def test_a_full_disk_stops_storing_and_nothing_else(live, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("limbeck.teacher.shards.save_file", full)
    store, teacher = memoized(live, tmp_path)
    same(live.signals(make_batch(), NEEDS), teacher.signals(make_batch(), NEEDS))
    store.flush()
    assert store.held_bytes == 0 and store.most_bytes == 0


def test_stored_or_not_is_the_same_in_bfloat16(live, tmp_path):
    batch = make_batch()
    found = []
    for bytes_ in (0, 10**9, 10**9):
        _, teacher = memoized(live, tmp_path, bytes_)
        with torch.autocast("cpu", torch.bfloat16):
            found.append(teacher.signals(batch, NEEDS))
    same(found[0], found[1])
    same(found[0], found[2])
    assert found[0].hidden[0].dtype == torch.bfloat16


def test_the_teacher_does_not_run_where_nothing_is_needed(live, tmp_path):
    teacher = MemoizedTeacher(live, SignalStore(tmp_path, 10**9), worth=set(), identity=b"one")
    assert not teacher.signals(make_batch(), Needs()).hidden and computed == []


def test_a_shard_that_replaces_another_is_read_again(live, tmp_path):
    store = SignalStore(tmp_path / "signals", 10**9)
    keys = torch.arange(2).numpy()
    for value in (1.0, 2.0):
        store.put(("hidden", 0), keys, [torch.full((3, 2), value)] * 2)
        store.flush()
        assert store.get(("hidden", 0), keys)[1].eq(value).all()
        store.remove()


def test_what_another_process_stores_is_found_at_once(tmp_path):
    one, other = (SignalStore(tmp_path / "signals", 10**9, writer=n) for n in range(2))
    name, keys, ends = ("hidden", 0), torch.arange(6).numpy(), [0, 2, 5, 6]
    for number, store in enumerate((one, other, one)):
        some = keys[ends[number] : ends[number + 1]]
        assert one.get(name, some) is None and other.get(name, some) is None
        store.put(name, some, [torch.full((3, 2), float(key)) for key in some])
        store.flush()
        for reader in (one, other):
            found = reader.get(name, keys[: ends[number + 1]])
            assert [int(record[0, 0]) for record in found] == [*range(ends[number + 1])]
    assert len(list((tmp_path / "signals").rglob("*.safetensors"))) == 3
    file = min((tmp_path / "signals").rglob("*.safetensors"))
    write_shard(file, {9: torch.zeros(5, 2)})  # a shard of the same name with other records
    assert other.get(name, keys[:1]) is None and other.get(name, keys[2:]) is not None


def test_teachers_that_share_a_store_do_not_share_signals(live, tmp_path):
    (store, teacher), batch = memoized(live, tmp_path), make_batch()
    teacher.signals(batch, NEEDS)
    store.flush()
    torch.manual_seed(1)
    other = LiveTeacher(make_model(), ARCHITECTURES["bert"])
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.1)
    expected = other.signals(batch, NEEDS)
    found = MemoizedTeacher(other, store, worth=NEEDS.tensors(), identity=b"two").signals(
        batch, NEEDS
    )
    same(expected, found)
    assert not torch.equal(live.signals(batch, NEEDS).hidden[2], found.hidden[2])

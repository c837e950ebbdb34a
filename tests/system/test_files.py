"""Files appear completely or not at all, with the permissions of the umask."""

import errno
import os
import resource
import shutil
import stat
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from limbeck.augmentation.augment import augment
from limbeck.augmentation.settings import AugmentSettings
from limbeck.errors import ModelError
from limbeck.models.locate import locate
from limbeck.recipe.check import prepare
from limbeck.recipe.draft.answers import Answers, Size
from limbeck.recipe.draft.draft import write_recipe
from limbeck.run.accelerator import build_accelerator
from limbeck.run.cache import write_cache
from limbeck.run.distill import distill
from limbeck.run.generate_samples import generate_samples
from limbeck.run.trim import trim_model
from limbeck.system.checkup.places import places
from limbeck.system.files import (
    check_can_be_made,
    expanded,
    whole_file,
    whole_folder,
    write_text,
)
from limbeck.system.fingerprints import cache_folder
from limbeck.teacher.manifest import Kind
from limbeck.tokenization.folders import learn_vocabulary, trim_vocabulary


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder):
    """The modes of files and folders."""
    found = {"file": set(), "folder": set()}
    for place in folder.rglob("*"):
        found["folder" if place.is_dir() else "file"].add(stat.S_IMODE(place.stat().st_mode))
    return found


def test_files_have_the_mode_that_the_umask_gives(tmp_path, umask):
    tensors = {"a": torch.zeros(2)}
    with whole_file(tmp_path / "one.safetensors") as part:
        save_file(tensors, part)
    with whole_folder(tmp_path / "folder") as part:
        (part / "inner").mkdir()
        save_file(tensors, part / "inner" / "two.safetensors")
        (part / "card.md").write_text("x")
    assert modes(tmp_path) == {"file": {0o666 & ~umask}, "folder": {0o777 & ~umask}}
    names = sorted(place.name for place in tmp_path.rglob("*") if place.is_file())
    assert names == ["card.md", "one.safetensors", "two.safetensors"]


def test_a_folder_is_replaced_and_the_remains_of_a_killed_process_too(tmp_path):
    folder, remains = tmp_path / "model", tmp_path / "model.limbeck.part"
    for place in (folder, remains):
        place.mkdir()
        (place / "old").write_text("x")
    with whole_folder(folder) as part:
        assert part == remains and list(part.iterdir()) == []
        (part / "new").write_text("x")
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_full_disk_is_the_same_error_whatever_writes(tmp_path, tokenizer):
    """safetensors raises an error of its own, and tokenizers a plain Exception."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError) as first, whole_file(tmp_path / "a.safetensors") as part:
            save_file({"a": torch.zeros(1000)}, part)
        with pytest.raises(OSError) as second, whole_folder(tmp_path / "folder") as part:
            tokenizer.save_pretrained(part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for found in (first.value, second.value):
        assert found.errno == errno.EFBIG and str(tmp_path) in str(found)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_somebody_else_stays(tmp_path):
    (tmp_path / "files.part").mkdir()
    (tmp_path / "files.part" / "own").write_text("x")
    with whole_folder(tmp_path / "files") as part:
        (part / "new").write_text("x")
    assert (tmp_path / "files.part" / "own").read_text() == "x"


def test_what_is_put_into_a_folder_meanwhile_stays(tmp_path):
    folder = tmp_path / "files"
    for meanwhile in (False, True):
        folder.mkdir()
        refused = pytest.raises(OSError, match="files") if meanwhile else nullcontext()
        with refused, whole_folder(folder, replaces=False) as part:
            (part / "new").write_text("x")
            if meanwhile:
                (folder / "notes").write_text("x")
        assert [file.name for file in folder.iterdir()] == ["notes" if meanwhile else "new"]
        assert list(tmp_path.iterdir()) == [folder]
        shutil.rmtree(folder)


@pytest.mark.parametrize("umask", [0o027], indirect=True)
def test_all_files_of_a_run_and_a_cache(raw_recipe, tmp_path, umask):
    raw_recipe["training"]["save_steps"] = 3
    setup = prepare(raw_recipe)
    accelerator = build_accelerator(setup.recipe.training, tmp_path)
    write_cache(setup, tmp_path / "cache", Kind(), accelerator)
    distill(raw_recipe, tmp_path / "run")
    names = {place.name for place in tmp_path.rglob("*")}
    assert {"learner.safetensors", "optimizer.safetensors", "model.safetensors"} <= names
    assert modes(tmp_path) == {"file": {0o640}, "folder": {0o750}}


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tmp_path, monkeypatch, text_file
):
    """None of the models is there, and no text is read."""
    closed, real = tmp_path / "closed", os.access
    closed.mkdir()
    monkeypatch.setattr(
        os,
        "access",
        lambda place, mode: not (place == closed and mode & os.W_OK) and real(place, mode),
    )
    new, text = closed / "inner" / "new", str(text_file)
    rows = [{"path": text}]
    for work in (
        lambda: learn_vocabulary([text], new, vocab_size=100),
        lambda: trim_vocabulary("none", [text], new, vocab_size=100),
        lambda: trim_model("none", [text], new, vocab_size=100),
        lambda: generate_samples("none", new, rows=2),
        lambda: augment(rows, f"{new}.jsonl", AugmentSettings(spans=True)),
        lambda: write_recipe(Answers("none", "student", Size(10.0, "MB"), (text,)), new),
    ):
        with pytest.raises(PermissionError) as refused:
            work()
        assert refused.value.filename == str(closed)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        check_can_be_made(tmp_path / "file" / "new")


def test_modes_are_left_where_none_may_be_changed(tmp_path, monkeypatch):
    """Where a file system has one mode for all files, changing it is not permitted."""

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "chmod", refuse)
    with whole_file(tmp_path / "one") as part:
        part.write_text("x")
    assert (tmp_path / "one").read_text() == "x"


def test_lines_of_files_end_alike_on_all_systems(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")
    write_text(tmp_path / "lines", "one\ntwo\n")
    assert (tmp_path / "lines").read_bytes() == b"one\ntwo\n"


def test_a_home_that_is_not_known_is_left_as_it_is(monkeypatch):
    """The system does not know the user of some containers."""

    def unknown(place):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    monkeypatch.delenv("LIMBECK_CACHE", raising=False)
    assert expanded("~other/model") == Path("~other/model")
    assert cache_folder() == Path(tempfile.gettempdir(), "limbeck")
    with pytest.raises(ModelError, match="'~other/model' does not exist"):
        locate("~other/model")
    assert places()[0].path == str(cache_folder())

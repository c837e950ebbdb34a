"""What a release contains: one version everywhere, and every file that the package needs."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import limbeck
from limbeck.cli.app import app

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "limbeck"


def test_one_version_stands_in_the_source_and_everything_else_follows():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in pyproject and "limbeck.__version__" in pyproject
    assert not re.search(r'^version = "', pyproject, re.MULTILINE)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == limbeck.__version__ and cited["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+),", changes, re.MULTILINE)
    assert newest and newest[1] == limbeck.__version__


def test_every_command_stands_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [c.name or c.callback.__name__.rstrip("_") for c in app.registered_commands]
    assert [name for name in commands if f"limbeck {name}" not in text] == []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and an sdist, built from a copy without network."""
    pytest.importorskip("setuptools", minversion="77")
    folder, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    (folder / "tests").mkdir()
    shutil.copy(__file__, folder / "tests")
    shutil.copytree(
        SOURCE, folder / "src" / "limbeck", ignore=shutil.ignore_patterns("__pycache__")
    )
    program = (
        "import sys; from setuptools import build_meta as build; out = sys.argv[1];"
        " build.build_wheel(out); build.build_sdist(out)"  # which change sys.argv
    )
    subprocess.run(
        [sys.executable, "-c", program, str(out)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ""},
        check=True,
        capture_output=True,
    )
    return out


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built):
    [wheel] = built.glob("*.whl")
    assert wheel.name == f"limbeck-{limbeck.__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    packed = {name.removeprefix("limbeck/") for name in names if name.startswith("limbeck/")}
    there = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert packed == there and "py.typed" in packed
    assert {name.split("/")[0] for name in names} == {
        "limbeck",
        f"limbeck-{limbeck.__version__}.dist-info",
    }


def test_the_metadata_of_the_wheel(built):
    [wheel] = built.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    info = f"limbeck-{limbeck.__version__}.dist-info"
    said = archive.read(f"{info}/METADATA").decode()
    for line in (
        f"Version: {limbeck.__version__}",
        "License-Expression: Apache-2.0",
        "Classifier: Typing :: Typed",
        "Requires-Python: >=3.11",
        "Provides-Extra: onnx",
    ):
        assert line in said
    assert "limbeck = limbeck.cli.main:main" in archive.read(f"{info}/entry_points.txt").decode()


def test_the_sdist_can_be_built_from(built):
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/limbeck/py.typed"} <= names
    assert "src/limbeck/demo/novels.txt.gz" in names
    assert not [name for name in names if name.startswith("tests")]  # a part of them would not run

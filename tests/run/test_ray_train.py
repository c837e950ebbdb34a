"""A run that Ray Train shares over workers: the same student, also when one of them is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
import yaml
from conftest import alike, train

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_train.py"


@pytest.fixture
def short():
    """A folder for Ray's own files; the paths of its sockets may have a hundred letters."""
    with TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        yield folder


def test_workers_of_ray_give_the_student_of_one_process(raw_recipe, tmp_path, short):
    """By the example, from paths that are seen from its folder; one worker is killed."""
    pytest.importorskip("ray.train.torch")
    stage = {"objectives": {"relations": {}, "labels": {}}, "max_steps": 80, "batch_size": 5}
    training = {**raw_recipe["training"], "save_steps": 4, "logging_steps": 1}
    recipe = {**raw_recipe, "stages": [stage], "training": training}
    train(recipe, tmp_path / "one")
    recipe["data"] = {**recipe["data"], "text": os.path.relpath(recipe["data"]["text"], tmp_path)}
    text = yaml.safe_dump(recipe, sort_keys=False)
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    with (tmp_path / "said.txt").open("w", encoding="utf-8") as said:
        driver = subprocess.Popen(
            [sys.executable, str(EXAMPLE), "recipe.yaml", "-o", "two", "--workers", "2"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_TMPDIR": short},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        kill_one_worker(driver, tmp_path / "two")
        driver.wait(timeout=600)
    told = (tmp_path / "said.txt").read_text(encoding="utf-8")
    assert driver.returncode == 0, told
    assert "unexpectedly" in told or "died" in told, told  # what Ray says of the lost worker
    alike(tmp_path / "two", tmp_path / "one")
    assert (tmp_path / "two" / "report" / "report.html").is_file()


def kill_one_worker(driver, folder):
    """Kill one of the two workers once a checkpoint is there, before the student is."""
    until = time.monotonic() + 300
    while not list((folder / "state").glob("checkpoint-000-*[0-9]")):
        assert driver.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    below = psutil.Process(driver.pid).children(recursive=True)
    workers = [one for one in below if "RayTrainWorker" in " ".join(one.cmdline())]
    assert len(workers) == 2, [one.cmdline() for one in below]
    os.kill(workers[1].pid, signal.SIGKILL)
    assert not (folder / "student").exists(), "it was not killed in time to show anything"

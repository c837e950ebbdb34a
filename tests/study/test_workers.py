"""Studies that several processes carry out: shared, stopped in every way, and resumed."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import warm
import yaml
from conftest import make_model
from rich.console import Console

from limbeck.errors import InterruptedRunError, TrainingError
from limbeck.models.families import ARCHITECTURES
from limbeck.study import workers as module
from limbeck.study.arms import prepare_study
from limbeck.study.compare import compare
from limbeck.study.sharing import sharing, signal_store
from limbeck.study.workers import default_processes, visible_gpus, worker_environment
from limbeck.system.locks import claim
from limbeck.teacher.live import LiveTeacher

pytestmark = pytest.mark.usefixtures("warm_python")
SECONDS = 900  # a machine that is busy starts processes slowly


@pytest.fixture
def raw(raw_recipe) -> dict:
    """Two arms and a control on one student, of the same text."""
    recipe = {**raw_recipe, "stages": [{"max_steps": 200, "batch_size": 4}]}
    recipe["training"] = {**recipe["training"], "save_steps": 10}
    arms = {"none": "no-distillation", "MHA": "minilmv2", "HS": "hidden-last"}
    return {
        "name": "toy",
        "recipe": recipe,
        "students": {"one": {"student.num_hidden_layers": 1}},
        "arms": {name: {"stages.0.preset": preset} for name, preset in arms.items()},
        "control": "none",
        "kept_gigabytes": 0.1,
        "draws": 100,
    }


def short(raw) -> dict:
    raw["recipe"]["stages"][0]["max_steps"] = 4
    return raw


def students(folder: Path) -> dict[str, bytes]:
    files = folder.glob("arms/*/*/*/student/model.safetensors")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def until(what) -> None:
    ends = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.05)


def begun(folder: Path, number: int) -> bool:
    """Whether so many trainings have saved a checkpoint."""
    return len({file.parents[2] for file in folder.glob("arms/*/*/*/state/*/*")}) >= number


def workers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "--worker" in p.cmdline()]


def compared(raw, folder, number, act) -> str:
    """What a study with workers prints; ``act`` is done beside it."""
    with (folder.parent / "said").open("w+") as said, ThreadPoolExecutor(1) as pool:
        acted = pool.submit(act)
        try:
            compare(raw, folder, num_processes=number, console=Console(file=said, width=200))
        finally:
            acted.result(timeout=SECONDS)
            said.seek(0)
            printed.append(said.read())
    return printed[-1]


printed: list[str] = []


def test_workers_give_the_report_and_the_students_of_one_process(raw, tmp_path, monkeypatch):
    # These trainings may all end between two looks of half a second.
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LOOKS", 0.02)
    raw = short({**raw, "seeds": 2})
    alone = compare(raw, tmp_path / "alone")
    reports = []

    def watch():
        file = tmp_path / "shared" / "report" / "report.json"
        while threading.main_thread().is_alive() and not over.is_set():
            if file.exists() and (found := json.loads(file.read_text("utf-8"))) not in reports:
                reports.append(found)
            time.sleep(0.02)

    over = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    said = compared(raw, tmp_path / "shared", 2, lambda: None)
    over.set()
    watcher.join()
    shared = json.loads((tmp_path / "shared" / "report" / "report.json").read_text("utf-8"))
    assert students(tmp_path / "alone") == students(tmp_path / "shared")
    for mine, theirs in zip(shared["rows"], alone["rows"], strict=True):
        for key in ("arm", "student", "cost", "held_out_before", "held_out", "runs"):
            assert mine[key] == theirs[key]
    assert shared["pending"] == [] and reports[0]["pending"]
    for name in ("worker 1", "worker 2"):
        assert f"{name}: " in said
    for run in prepare_study(raw)[1]:
        assert f"of 6: {run.arm}, one, seed {run.seed}" in said
        assert f": {run.arm}, one, seed {run.seed}" in said.partition("done in")[2]
    assert not (tmp_path / "shared" / "signals").exists() and workers() == []


def test_a_worker_that_is_killed_is_named_and_any_number_resumes(raw, tmp_path):
    folder = tmp_path / "study"

    def kill():
        until(lambda: begun(folder, 2))
        workers()[0].kill()

    with pytest.raises(TrainingError, match=r"worker \d was ended by signal 9 at \w+, one, seed 0"):
        compared(raw, folder, 2, kill)
    assert workers() == []
    before = students(folder)
    assert len(before) < 3 and len(list(folder.glob("arms/*/*/*/state"))) >= 2
    report = compare(raw, folder, num_processes=1)
    assert len(report["rows"]) == 3 and report["pending"] == []
    assert before.items() <= students(folder).items()


def test_ctrl_c_ends_every_worker_with_a_checkpoint(raw, tmp_path):
    folder = tmp_path / "study"

    def interrupt():
        until(lambda: begun(folder, 2))
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError, match="2 workers were stopped"):
        compared(raw, folder, 2, interrupt)
    assert workers() == [] and begun(folder, 2) and len(students(folder)) < 3
    logged = (folder / "arms/one/none/0/log.jsonl").read_text(encoding="utf-8")
    assert "none, one, seed 0" in printed[-1] and logged


def test_an_arm_that_fails_ends_all_and_its_error_is_told(raw, tmp_path):
    folder = tmp_path / "study"
    with claim(folder / "arms/one/MHA/0", "training"), pytest.raises(TrainingError) as caught:
        compared(raw, folder, 2, lambda: None)
    assert re.search(
        r"worker \d failed at MHA, one, seed 0, and all others were stopped", str(caught.value)
    )
    assert "MHA, one, seed 0: another command is training in" in str(caught.value)
    assert workers() == []


def test_workers_end_with_the_process_that_started_them(raw, tmp_path):
    file, folder = tmp_path / "study.yaml", tmp_path / "study"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    command = [warm.PYTHON, "-m", "limbeck", "compare", str(file), "-o", str(folder)]
    with subprocess.Popen([*command, "--num-processes", "2"], stdout=subprocess.DEVNULL) as parent:
        until(lambda: begun(folder, 1))
        mine = psutil.Process(warm.fork_of(parent.pid)).children()
        assert len(mine) == 2
        parent.kill()
    _, alive = psutil.wait_procs(mine, timeout=SECONDS)
    assert alive == []


@pytest.mark.parametrize(
    ("equal", "number", "message"),
    [
        ({"seconds": 10}, 2, "num_processes is 2, and arms that train for equal times"),
        ("tokens", 0, "num_processes is 0; give 1 or more"),
    ],
)
def test_numbers_that_cannot_be(raw, tmp_path, equal, number, message):
    with pytest.raises(TrainingError, match=message):
        compare({**raw, "equal": equal}, tmp_path / "study", num_processes=number)
    assert not (tmp_path / "study").exists()


def test_threads_and_gpus_are_shared(monkeypatch, raw):
    _, runs = prepare_study(raw)
    assert default_processes(runs) == 1  # they train on the processor
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: 2)
    assert default_processes(runs) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_gpus() == ["3", "5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    found = worker_environment({"FORCE_COLOR": "1", "HOME": "here"}, "5", 4)
    assert found["CUDA_VISIBLE_DEVICES"] == "5" and found["OMP_NUM_THREADS"] == "1"
    assert "FORCE_COLOR" not in found and found["HOME"] == "here"
    assert found["PYTHONIOENCODING"] == "utf-8"  # as their lines are read, whatever the locale
    assert worker_environment({}, None, 2)["OMP_NUM_THREADS"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment({}, None, 2)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("limbeck.system.threads.usable_processors", lambda: 8)
    monkeypatch.setattr("limbeck.system.threads.processor_limit", lambda: 4.5)
    assert worker_environment({}, None, 2)["OMP_NUM_THREADS"] == "2"


def test_one_process_stores_a_signal_and_all_read_it(raw, tmp_path):
    raw["arms"]["MHA-twice"] = {**raw["arms"]["MHA"], "stages.0.dropout": True}
    raw["arms"]["MHA-again"] = {**raw["arms"]["MHA"], "stages.0.optimizer.learning_rate": 1e-4}
    _, runs = prepare_study(raw)
    claims, folder = tmp_path / "claims", tmp_path / "signals"
    numbers = [n for n, run in enumerate(runs) if run.arm.startswith("MHA")]
    needs = runs[numbers[0]].setup.stages[0].teacher_needs().tensors()

    live = LiveTeacher(make_model(), ARCHITECTURES["bert"])

    def worth(wrap) -> set:
        return wrap(live)._worth

    def none(run):
        return False

    with signal_store(folder, 10**8, claims) as one, signal_store(folder, 10**8, claims) as other:
        assert (one.writer, other.writer) == (0, 1)
        with sharing(one, claims, runs, numbers[0], done=none) as mine:
            assert worth(mine) == needs
            with sharing(other, claims, runs, numbers[1], done=none) as theirs:
                assert worth(theirs) == set()  # that of the first is enough
        with sharing(other, claims, runs, numbers[1], done=none) as theirs:
            assert worth(theirs) == needs
        ended = {runs[number].place for number in numbers[1:]}
        with sharing(one, claims, runs, numbers[0], done=lambda r: r.place in ended) as mine:
            assert worth(mine) == set()  # nobody will need them
    with signal_store(folder, 0, claims) as store, sharing(store, claims, runs, 0, done=none) as no:
        assert store.writer == 0 and no is None

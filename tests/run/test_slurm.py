"""The script for slurm, on `srun` and `scontrol` that stand in for a cluster of one machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm
import yaml
from conftest import alike, train

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm.sh"
# srun runs the command after its one option; scontrol tells hosts, and notes what is requeued.
STAND_INS = {
    "srun": '#!/bin/bash\n[ "$1" = --kill-on-bad-exit=1 ] && shift && exec "$@"\n',
    "scontrol": '#!/bin/bash\n[ "$1" = show ] && echo localhost || echo "$@" >> "$NOTED"\n',
}


@pytest.fixture
def environment(tmp_path):
    torchrun = f'#!/bin/sh\nexec {warm.PYTHON} -m torch.distributed.run "$@"\n'
    for name, text in (STAND_INS | {"torchrun": torchrun}).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    folders = [str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **os.environ,
        "PATH": os.pathsep.join(folders),
        "TMPDIR": str(tmp_path),  # for torchrun's folder of logs
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NOTED": str(tmp_path / "noted"),
        "MASTER_PORT": str(port),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
    }


def submitted(recipe, folder, environment):
    return subprocess.Popen(
        ["bash", str(SCRIPT), str(recipe), str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_job_whose_time_is_over_is_queued_again_and_resumes(raw_recipe, tmp_path, environment):
    raw_recipe["stages"][0]["max_steps"] = 150
    raw_recipe["training"] |= {"save_steps": 4, "logging_steps": 1}
    train(raw_recipe, tmp_path / "one")
    recipe, folder = tmp_path / "recipe.yaml", tmp_path / "two"
    recipe.write_text(yaml.safe_dump(raw_recipe, sort_keys=False), encoding="utf-8")
    job = submitted(recipe, folder, environment)
    until = time.monotonic() + 120
    while not list((folder / "state").glob("checkpoint-000-*[0-9]")):
        assert job.poll() is None and time.monotonic() < until, job.communicate()[0]
        time.sleep(0.01)
    job.send_signal(signal.SIGUSR1)
    said, _ = job.communicate(timeout=120)
    assert job.returncode != 0 and "stopped at step" in said, said
    assert (tmp_path / "noted").read_text(encoding="utf-8") == "requeue 7\n"
    assert not (folder / "student").exists(), "it was not stopped in time to show anything"
    job = submitted(recipe, folder, {**environment, "SLURM_RESTART_COUNT": "1"})
    said, _ = job.communicate(timeout=300)
    assert job.returncode == 0, said
    assert (tmp_path / "noted").read_text(encoding="utf-8") == "requeue 7\n"
    alike(folder, tmp_path / "one")

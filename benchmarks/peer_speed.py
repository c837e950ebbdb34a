"""Speed, memory and losses of training steps by limbeck and by other packages' own trainers.

Each package trains as its documentation says (`peer_trainers.py`), in an environment of its own
made from PyPI with the same torch; limbeck trains the same student from the same weights by the
same teacher on the same batches, with the same optimizer, in the same precision
(`peer_jobs.py`). Every training runs in a process of its own, in turns; ratios are medians over
the rounds, on a processor of processor time, which other work on the machine hardly changes. Memory
is the peak above what was held when both models were loaded.

    python benchmarks/peer_speed.py --install [--decoder FOLDER] [--device cpu] [--precision auto]
    python benchmarks/peer_speed.py --packages trl --decoder FOLDER --rows 8 --max-length 512

`--decoder` is the teacher of TRL's step, as SmolLM2-135M-Instruct.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peer_clock import WARM_UP
from peer_environments import PACKAGES, install, python_of
from peer_report import Rounds, print_tables, summary, tables

from limbeck.system.child import ChildError, printed_by
from limbeck.system.device import choose_device, choose_precision, describe_device

HERE = Path(__file__).parent


def compared(package: str, given: argparse.Namespace) -> Rounds | str:
    """What limbeck and a package have measured, round by round; or why there is nothing."""
    if given.install:
        print(f"{package}: making its environment in {given.environments}", flush=True)
        if problem := install(given.environments, package):
            return f"could not be installed: {problem}"
    python = python_of(given.environments, package)
    if python is None:
        return "not installed; run this with --install"
    if package == "trl" and given.decoder is None:
        return "needs a decoder as the teacher; give --decoder FOLDER"
    wanted = {name: getattr(given, name) for name in ("steps", "precision", "device", "decoder")}
    sizes = {name: getattr(given, name) for name in ("rows", "max_length")}
    told = {"package": package, **wanted, **{k: v for k, v in sizes.items() if v is not None}}
    with TemporaryDirectory() as folder:
        try:
            printed_by([sys.executable, str(HERE / "peer_folders.py"), folder, json.dumps(told)])
            rounds = []
            for number in range(given.rounds):
                mine = printed_by([sys.executable, str(HERE / "peer_limbeck.py"), folder])
                theirs = printed_by([str(python), str(HERE / "peer_trainers.py"), folder])
                rounds.append((mine, theirs))
                print(f"{package}: round {number + 1} of {given.rounds}", flush=True)
        except ChildError as error:
            return f"has failed: {error.args[0]}\n{error.args[1]}"
    return rounds


def main() -> None:
    """Compare with every package that is there; print tables and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--packages", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--install", action="store_true", help="make their environments from PyPI")
    parser.add_argument("--environments", type=Path, default=Path("runs/peers"))
    parser.add_argument("--decoder", help="folder of a decoder, the teacher of trl's step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="2 warm up, and the last is left out")
    parser.add_argument("--rows", type=int, help="texts in a batch; each job has its own number")
    parser.add_argument("--max-length", type=int, help="tokens of a text")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file of the tables")
    given = parser.parse_args()
    if given.steps < WARM_UP + 2:
        parser.error(f"--steps is {given.steps}; give {WARM_UP + 2} or more")
    # Nothing is fetched, and threads wait alike in all processes.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    device = choose_device(given.device)
    given.precision = choose_precision(given.precision, device).name
    machine = f"{describe_device(device)}, {given.precision}, torch {torch.__version__}"
    print(machine, flush=True)
    found, left_out = {}, {}
    for package in given.packages:
        rounds = compared(package, given)
        if isinstance(rounds, str):
            left_out[package] = rounds
            print(f"{package} is left out: {rounds}", flush=True)
        else:
            found[package] = summary(package, rounds, given.device)
        facts = {"processor": machine, "left out": left_out, "tables": tables(found)}
        if given.output:
            given.output.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print_tables(facts["tables"], given.device)
    print(json.dumps(facts | {"packages": found}))


if __name__ == "__main__":
    main()

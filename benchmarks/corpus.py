"""Memory and waiting time of training on a large corpus, against a small one, in one run.

Real text is repeated until it fills a file of the given size, each copy marked so that all
documents differ. The same recipe then trains once on the original text and once on the large file,
each in a separate process: the difference of their memory is the cost of size. Anonymous memory
belongs to the process; pages of mapped files can be reclaimed by the system.

    python benchmarks/corpus.py [--gigabytes 2] [--text FILE] [--steps 100]

With --num-proc, only how fast so many processes tokenize a file of the given size, beside one:

    python benchmarks/corpus.py --gigabytes 0.1 --num-proc 2
"""

import argparse
import gzip
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from limbeck.data.text import TextSource
from limbeck.demo.run import HERE
from limbeck.run.distill import distill
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.packing import tokenize_source
from limbeck.tokenization.stored_table import HeldOut


def repeated(text: Path, size: float, place: Path) -> int:
    """Write copies of a text until they fill ``size`` bytes; returns the number of bytes."""
    opened = gzip.open if text.suffix == ".gz" else open
    with opened(text, "rt", encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip()]
    written = copy = 0
    with place.open("wb") as out:
        while written < size:
            written += out.write("".join(f"{line} {copy}\n" for line in lines).encode())
            copy += 1
    return written


def held() -> dict[str, int]:
    """Resident bytes of this process, separately for anonymous memory and files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    names = {"own": "RssAnon", "files": "RssFile"}
    return {key: 1024 * int(fields[name].split()[0]) for key, name in names.items()}


def train(text: str, folder: str, steps: int) -> None:
    """Train once, and print the peak memory and the times as JSON."""
    most = {"own": 0, "files": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for name, value in held().items():
                most[name] = max(most[name], value)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    distill(
        {
            "teacher": "minilm-demo",
            "student": {
                "num_hidden_layers": 3,
                "hidden_size": 192,
                "num_attention_heads": 6,
                "intermediate_size": 768,
            },
            "data": {"text": text, "held_out": {"fraction": 0.001, "sequences": 32}},
            "stages": [{"objectives": {"relations": {"heads": 16}}, "max_steps": steps}],
            "training": {"logging_steps": 10},
            "evaluation": {"cost": False, "teacher": False},
        },
        folder,
    )
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    lines = (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if "waited_share" in record]
    waited = max(record["waited_share"] for record in records[1:])
    print(json.dumps({**most, "seconds": seconds, "waited_share": waited}))


def processor_seconds() -> tuple[float, float]:
    """Seconds that this process has kept a processor busy, and that its ended children have."""
    found = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    here, others = (usage.ru_utime + usage.ru_stime for usage in found)
    return here, others


def show_tokenizing(text: Path, processes: int) -> None:
    """Print seconds and a ratio and, as the last line, one JSON object."""
    tokenizer = load_tokenizer("minilm-demo")
    seconds: dict[int, list[float]] = {1: [], processes: []}
    spent: dict[int, list[tuple[float, float]]] = {1: [], processes: []}
    tables: dict[int, bytes] = {}
    # In turns, because other programs may slow down some of the time.
    for number in (1, processes, processes, 1):
        with tempfile.TemporaryDirectory() as folder:
            began, before = time.perf_counter(), processor_seconds()
            tokenize_source(
                TextSource(str(text)),
                tokenizer,
                length=128,
                packed=True,
                held_out=HeldOut(False, 0.01),
                cache=Path(folder),
                processes=number,
            )
            seconds[number].append(time.perf_counter() - began)
            here, others = (b - a for a, b in zip(before, processor_seconds(), strict=True))
            spent[number].append((here, others))
            stored = next(Path(folder).rglob("table.arrow"))
            tables[number] = hashlib.blake2b(stored.read_bytes()).digest()
    if tables[1] != tables[processes]:
        raise SystemExit("the tables differ")
    size = text.stat().st_size
    for number, took in seconds.items():
        shown = ", ".join(f"{one:.1f}" for one in took)
        here, others = min(spent[number])
        print(
            f"{number} processes: {shown} seconds, {size / min(took) / 1e6:.2f} MB a second;"
            f" processor seconds {here:.1f} in the first, {others:.1f} in the others"
        )
    ratio = min(seconds[1]) / min(seconds[processes])
    facts = {"bytes": size, "seconds": seconds, "processor_seconds": spent, "ratio": ratio}
    print(json.dumps(facts))


def main() -> None:
    """Print a table and, as the last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--text", type=Path, default=HERE / "novels.txt.gz")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--num-proc", type=int)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train:
        train(*given.train, given.steps)
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        large = place / "large.txt"
        size = repeated(given.text, given.gigabytes * 1e9, large)
        if given.num_proc:
            show_tokenizing(large, given.num_proc)
            return
        for name, text in (("small", str(given.text)), ("large", str(large))):
            command = [sys.executable, __file__, "--steps", str(given.steps)]
            command += ["--train", text, str(place / name)]
            environment = {**os.environ, "LIMBECK_CACHE": str(place / "cache")}
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            )
            found[name] = json.loads(done.stdout.splitlines()[-1])
    print(f"{'':8}{'own GB':>9}{'files GB':>10}{'seconds':>9}{'waited':>9}")
    for name, row in found.items():
        print(
            f"{name:8}{row['own'] / 1e9:9.2f}{row['files'] / 1e9:10.2f}{row['seconds']:9.0f}"
            f"{row['waited_share']:9.2%}"
        )
    facts = {f"{name}_{key}": value for name, row in found.items() for key, value in row.items()}
    more = found["large"]["own"] - found["small"]["own"]
    facts |= {"text_bytes": size, "more_own_bytes": more}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

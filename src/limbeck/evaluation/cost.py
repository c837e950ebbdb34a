"""What a model folder costs: parameters, disk, memory, and milliseconds on a CPU.

Measured in a process of its own, so that peak memory is the model's and the
number of threads is what is said. Run as a module it prints one JSON line.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, PreTrainedModel

from ..architectures import parameter_counts
from ..errors import EvaluationError
from ..memory import peak_process_bytes
from ..pretrained import load_config, locate

BATCHES = (1, 32)
LENGTHS = (16, 64, 128)
_SENTENCE = (1, 64)  # batch and length that "milliseconds a sentence" means


@dataclass(frozen=True)
class Latency:
    """How long one forward of a batch takes, without padding; seconds."""

    batch: int
    length: int
    p50: float
    p95: float


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Attributes:
        parameters: Of the body, without any head; tied weights once.
        embedding_parameters: Of these, in the tables that pieces, positions
            and segments are looked up in.
        megabytes: The safetensors on disk, in millions of bytes.
        vocabulary_size: Pieces.
        peak_memory_bytes: What the process held at most, above what it held
            before the model was loaded; weights and activations.
        threads: Of the processor.
        precision: Of weights and arithmetic.
        cpu_ms_per_sentence: Median milliseconds for one text of 64 pieces.
        latencies: Every batch size and length.
    """

    parameters: int
    embedding_parameters: int
    megabytes: float
    vocabulary_size: int
    peak_memory_bytes: int | None
    threads: int
    precision: str
    cpu_ms_per_sentence: float
    latencies: tuple[Latency, ...]


def measure_cost(
    model: str,
    *,
    batches: Sequence[int] = BATCHES,
    lengths: Sequence[int] = LENGTHS,
    threads: int | None = None,
    seconds_each: float = 1.0,
) -> Cost:
    """The cost of a model folder, measured in a fresh process.

    Args:
        model: Folder, hub name or package name.
        batches: Texts at once; 1 is always among them.
        lengths: Pieces a text; 64 is always among them.
        threads: Of the processor; by default what torch uses here.
        seconds_each: Time spent on each combination, and at least ten runs.

    Raises:
        EvaluationError: The process failed; its last lines are in the message.
    """
    command = [sys.executable, "-m", "limbeck.evaluation.cost", locate(model)]
    command += ["--threads", str(threads or torch.get_num_threads())]
    command += ["--batches", *map(str, batches), "--lengths", *map(str, lengths)]
    command += ["--seconds", str(seconds_each)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "CI": "1"}
    )
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise EvaluationError(f"the cost of {model} could not be measured:\n{tail}")
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    latencies = tuple(Latency(**latency) for latency in facts.pop("latencies"))
    return Cost(**facts, latencies=latencies)


def model_size(model: str) -> dict[str, Any]:
    """The facts of a `Cost` that need no clock: parameters, megabytes, vocabulary."""
    place = locate(model)
    config = load_config(place)
    with torch.device("meta"):
        body = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    parameters, embeddings = parameter_counts(_without_pooler(body))
    on_disk = sum(file.stat().st_size for file in Path(place).glob("*.safetensors"))
    return {
        "parameters": parameters,
        "embedding_parameters": embeddings,
        "megabytes": (on_disk or 4 * parameters) / 1e6,
        "vocabulary_size": config.vocab_size,
    }


def _measure(
    place: str, batches: Sequence[int], lengths: Sequence[int], threads: int, seconds: float
) -> dict[str, Any]:
    torch.set_num_threads(threads)
    before = peak_process_bytes()
    model = AutoModel.from_pretrained(
        place, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    model.train(False)
    pairs = sorted({(b, n) for b in batches for n in lengths} | {_SENTENCE})
    pairs = [(b, n) for b, n in pairs if n <= model.config.max_position_embeddings]
    with torch.inference_mode():
        latencies = [_latency(model, batch, length, seconds) for batch, length in pairs]
    after = peak_process_bytes()
    sentence = next((x for x in latencies if (x.batch, x.length) == _SENTENCE), latencies[0])
    cost = Cost(
        **model_size(place),
        peak_memory_bytes=None if after is None or before is None else after - before,
        threads=threads,
        precision="float32",
        cpu_ms_per_sentence=1000 * sentence.p50,
        latencies=tuple(latencies),
    )
    return asdict(cost)


def _without_pooler(model: Any) -> PreTrainedModel:
    """A pooler is in some folders and not in others, and plays no part here."""
    if "pooler" in dict(model.named_children()):
        model.pooler = None
    return model  # type: ignore[no-any-return]


def _latency(model: Any, batch: int, length: int, seconds: float) -> Latency:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (batch, length), generator=generator)
    for _ in range(3):
        model(input_ids=ids)
    times: list[float] = []
    while sum(times) < seconds or len(times) < 10:
        began = time.perf_counter()
        model(input_ids=ids)
        times.append(time.perf_counter() - began)
    p50, p95 = np.percentile(times, [50, 95])
    return Latency(batch, length, float(p50), float(p95))


def _main() -> None:
    parser = argparse.ArgumentParser(description="Print the cost of a model folder as JSON.")
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    facts = _measure(given.folder, given.batches, given.lengths, given.threads, given.seconds)
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    _main()

"""Memory and time of the objective `logits` on a long text, against the plain loss.

A text of 512 to 8,192 tokens, 32,000 tokens in the vocabulary, a student of width 256 and a teacher
of width 512: from hidden states to loss and gradients. Each length and each way runs in a separate
process, so that peak memory is not shared.

    python benchmarks/long.py [--lengths 512 2048 8192]
"""

import argparse
import json
import subprocess
import sys
import time

import torch
from torch.nn.functional import kl_div, linear, log_softmax

from limbeck.activations import Activations, Predictions
from limbeck.batch import Batch, Tokens
from limbeck.models.shapes import Shape
from limbeck.objectives.logits import Logits
from limbeck.student.projections import Projections
from limbeck.system.memory import peak_process_bytes

TOKENS, NARROW, WIDE = 32_000, 256, 512
AIM = 0.1


def shape(width: int) -> Shape:
    """The shape of a decoder; only its vocabulary matters here."""
    return Shape(2, width, 4, 4 * width, TOKENS, 8192, causal=True, tokens=TOKENS)


def once(way: str, length: int) -> None:
    """Print seconds, and peak bytes without the inputs, as JSON."""
    generator = torch.Generator().manual_seed(0)
    sides = []
    for width in (NARROW, WIDE):
        features = torch.randn(length, width, generator=generator)
        weight = torch.randn(TOKENS, width, generator=generator) / width**0.5
        sides.append((features, weight))
    for tensor in sides[0]:
        tensor.requires_grad_(True)
    before = peak_process_bytes() or 0
    began = time.perf_counter()
    if way == "plain":
        mine, theirs = (log_softmax(linear(*side), -1) for side in sides)
        loss = kl_div(mine, theirs, reduction="sum", log_target=True)
    else:
        student, teacher = (Activations(Predictions(*side, None)) for side in sides)
        real = torch.ones(1, length, dtype=torch.bool)
        tokens = Tokens(real.long(), real, real.long(), real)
        objective = Logits().bound(shape(NARROW), shape(WIDE))
        batch = Batch(tokens, tokens)
        loss = objective.total(student, teacher, batch, Projections({}, seed=0))
    loss.backward()
    spent = time.perf_counter() - began
    peak = (peak_process_bytes() or 0) - before
    print(json.dumps({"seconds": spent, "bytes": peak, "loss": float(loss.detach()) / length}))


def main() -> None:
    """Measure every length both ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--once", nargs=2)
    given = parser.parse_args()
    if given.once:
        once(given.once[0], int(given.once[1]))
        return
    found = {}
    print(f"{'tokens':>7} {'plain':>10} {'limbeck':>10} {'memory':>8} {'time':>6}")
    for length in given.lengths:
        sides = {}
        for way in ("plain", "limbeck"):
            command = [sys.executable, __file__, "--once", way, str(length)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            sides[way] = json.loads(done.stdout.splitlines()[-1])
        assert abs(sides["plain"]["loss"] - sides["limbeck"]["loss"]) < 1e-3
        memory = sides["limbeck"]["bytes"] / sides["plain"]["bytes"]
        spent = sides["limbeck"]["seconds"] / sides["plain"]["seconds"]
        megabytes = [f"{sides[way]['bytes'] / 1e6:,.0f} MB" for way in ("plain", "limbeck")]
        print(f"{length:7,} {megabytes[0]:>10} {megabytes[1]:>10} {memory:8.3f} {spent:6.2f}")
        found[length] = sides | {"memory_ratio": memory, "time_ratio": spent}
    last = found[given.lengths[-1]]["memory_ratio"]
    print(f"at {given.lengths[-1]:,} tokens {last:.3f} of the plain memory (aim {AIM})")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

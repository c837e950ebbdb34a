"""The relation loss, forward and backward, against one that materializes all relations.

Three relations among queries, keys and values; both sides are measured alternately in one run. Peak
memory is measured in a separate process for each side.

    python benchmarks/relations.py [--heads 16] [--device cpu]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from limbeck.objectives.token_pairs import compared_pairs, relation_divergence
from limbeck.system.memory import peak_bytes

SIZES = ((32, 128), (2, 2048))
SIDES = ("plain", "limbeck")
WIDTHS = (256, 384)  # student, teacher


def plain(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """The plain implementation: all heads of the whole batch at once, by autograd."""

    def relations(vectors: Tensor) -> Tensor:
        parts = vectors.float().reshape(*vectors.shape[:2], heads, -1).transpose(1, 2)
        scores = parts @ parts.mT / parts.shape[-1] ** 0.5
        low = torch.finfo(scores.dtype).min
        return log_softmax(scores.masked_fill(~mask[:, None, None, :], low), dim=-1)

    divergence = kl_div(relations(student), relations(teacher), reduction="none", log_target=True)
    return divergence.sum(-1).mean(1)[mask].sum()


def limbeck(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """The implementation of limbeck."""
    return compared_pairs(
        student, student, teacher, teacher, mask, loss=relation_divergence, heads=heads
    )


def make_inputs(given: argparse.Namespace, batch: int, tokens: int) -> tuple[Any, ...]:
    """Random queries, keys and values of both models in a precision."""
    torch.manual_seed(0)
    dtype = getattr(torch, given.dtype)
    student, teacher = (
        [torch.randn(batch, tokens, w, device=given.device).to(dtype) for _ in range(3)]
        for w in WIDTHS
    )
    mask = torch.ones(batch, tokens, dtype=torch.bool, device=given.device)
    return [s.requires_grad_() for s in student], teacher, mask


def step(side: Callable[..., Tensor], inputs: tuple[Any, ...], given: argparse.Namespace) -> float:
    """Seconds of the three losses and their gradients."""
    student, teacher, mask = inputs
    began = time.perf_counter()
    losses = [side(s, t, mask, given.heads) for s, t in zip(student, teacher, strict=True)]
    torch.autograd.grad(torch.stack(losses).sum(), student)
    if given.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak(given: argparse.Namespace) -> int:
    """Peak bytes so far."""
    return peak_bytes(given.device) or 0


def peak_of_process(given: argparse.Namespace, side: str, batch: int, tokens: int) -> int:
    """Peak bytes of one side without its inputs, in a new process."""
    command = [sys.executable, str(Path(__file__)), f"--memory={side}", f"--size={batch}x{tokens}"]
    command += [f"--heads={given.heads}", f"--dtype={given.dtype}", f"--device={given.device}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Print a table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--memory", choices=SIDES)
    parser.add_argument("--size")
    given = parser.parse_args()
    sides = {"plain": plain, "limbeck": limbeck}
    if given.memory:
        batch, tokens = map(int, given.size.split("x"))
        inputs = make_inputs(given, batch, tokens)
        small = make_inputs(given, 1, 16)
        step(sides[given.memory], small, given)  # libraries allocate memory at their first use
        before = peak(given)
        step(sides[given.memory], inputs, given)
        print(peak(given) - before)
        return
    facts: dict[str, Any] = {"heads": given.heads, "threads": torch.get_num_threads()}
    print(f"three relations, {given.heads} heads, {given.dtype}, {facts['threads']} threads")
    print(f"{'batch x tokens':16} {'side':8} {'ms':>8} {'peak MB':>9}")
    for batch, tokens in SIZES:
        inputs = make_inputs(given, batch, tokens)
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for repeat in range(given.repeats + 1):
            for side in SIDES:
                seconds = step(sides[side], inputs, given)
                if repeat:
                    times[side].append(seconds)
        place = f"{batch}x{tokens}"
        medians = {side: statistics.median(times[side]) for side in SIDES}
        peaks = {side: peak_of_process(given, side, batch, tokens) for side in SIDES}
        for side in SIDES:
            print(f"{place:16} {side:8} {1000 * medians[side]:8.1f} {peaks[side] / 1e6:9.1f}")
            facts[f"{place}_{side}_seconds"] = medians[side]
            facts[f"{place}_{side}_bytes"] = peaks[side]
        facts[f"{place}_speed_ratio"] = medians["plain"] / medians["limbeck"]
        facts[f"{place}_memory_ratio"] = peaks["limbeck"] / max(1, peaks["plain"])
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

"""A whole training step against a plain implementation of the same step, in one run.

Plain means what typical example code does: the models return all hidden states and attention maps,
queries, keys and values are computed again from them, and the relations of all heads are
materialized. Both sides have the same weights, text, objective and optimizer. Every variant runs in
a separate process, so that peak memory is not shared; variants are measured alternately, and ratios
are of medians.

    python benchmarks/step.py [--rounds 3] [--batch 32] [--length 128] [--device cpu]
    python benchmarks/step.py --device cuda [--compare]

On a GPU it prints the table of aims (`step_aims.py`), which takes less than three minutes; only
``--compare`` measures the plain implementation there, too.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from one_step import FROM_TEACHER, ready
from plain_step import relations_divergence
from step_aims import print_aims

from limbeck.demo.run import HERE
from limbeck.models.capture import capture
from limbeck.models.compiled import compiling
from limbeck.recipe.check import prepare
from limbeck.recipe.setup import Setup
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import stage_batches
from limbeck.run.models import build_models
from limbeck.system.linux import keep_freed_memory
from limbeck.system.memory import peak_bytes
from limbeck.training.checkpoint import Position
from limbeck.training.optimizer import learning_rate
from limbeck.training.step import train_step

VARIANTS = tuple(
    f"{side}-{precision}"
    for side in ("plain", "limbeck", "compiled")
    for precision in ("float32", "bfloat16")
)
HEADS = 16
WARM_UP = 2


def make_setup(given: argparse.Namespace, precision: str) -> Setup:
    """The student of 3 x 256 under minilm, on the text that ships with the package."""
    return prepare(
        {
            "teacher": "minilm-demo",
            "student": FROM_TEACHER,
            "data": {"text": str(HERE / "novels.txt.gz"), "max_length": given.length},
            "stages": [
                {
                    "objectives": {"relations": {"heads": HEADS}},
                    "max_steps": 100,
                    "batch_size": given.batch,
                }
            ],
            "training": {
                "precision": precision,
                "device": "cpu" if given.device == "cpu" else "auto",
            },
        }
    )


def run_limbeck(given: argparse.Namespace, precision: str) -> dict[str, Any]:
    """Losses and times of limbeck's step, and the time of each of its parts."""
    keep_freed_memory()
    setup = make_setup(given, precision)
    accelerator = build_accelerator(setup.recipe.training, "unused")
    student, teacher = build_models(setup, accelerator)
    stage, batches = setup.stages[0], stage_batches(setup, 0)
    learner, wrapped, optimizer = ready(setup, student, accelerator)
    before, losses, seconds = memory(given), [], []
    for step in range(WARM_UP + given.steps):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, stage.steps, stage.optimizer)
        batch = batches.batch(step)
        position = Position(0, step, 0, 0.0)
        taken = train_step(wrapped, teacher, stage, batch, optimizer, accelerator, position)
        wait(given)
        seconds.append(time.perf_counter() - began)
        losses.append(taken.means["relations"])
    facts = {"losses": losses, "seconds": seconds[WARM_UP:], "bytes": memory(given) - before}
    facts["profile"] = profile(given, setup, accelerator, learner, teacher, optimizer, batches)
    return facts


def profile(
    given: argparse.Namespace,
    setup: Setup,
    accelerator: Any,
    learner: Any,
    teacher: Any,
    optimizer: Any,
    batches: Any,
) -> dict[str, float]:
    """Median seconds of every part of the step, with a wait for the device after each."""
    stage = setup.stages[0]
    objective = stage.objectives["relations"]
    found: dict[str, list[float]] = {}
    for step in range(given.steps):
        clock = time.perf_counter()

        def lap(name: str) -> None:
            nonlocal clock
            wait(given)
            now = time.perf_counter()
            found.setdefault(name, []).append(now - clock)
            clock = now

        batch = batches.batch(step).to(accelerator.device)
        lap("data")
        with accelerator.autocast():
            signals = teacher.signals(batch, stage.teacher_needs())
            lap("teacher forward")
            states = capture(
                learner.student, learner.architecture, batch.student, learner.needs_compared
            )
            lap("student forward")
        total = objective.total(states, signals, batch, learner.projections[0])
        lap("losses")
        (total / objective.count(batch)).backward()
        lap("backward")
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        lap("optimizer")
    return {name: statistics.median(times) for name, times in found.items()}


def run_plain(given: argparse.Namespace, precision: str) -> dict[str, Any]:
    """Losses and times of the same step in the plain implementation."""
    setup = make_setup(given, "float32")
    accelerator = build_accelerator(setup.recipe.training, "unused")
    student, teacher_ = build_models(setup, accelerator)
    teacher = teacher_.model
    for model in (student, teacher):
        model.set_attn_implementation("eager")
    student = student.to(accelerator.device)
    batches, stage = stage_batches(setup, 0), setup.stages[0]
    parameters = list(student.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
    before, losses, seconds = memory(given), [], []
    for step in range(WARM_UP + given.steps):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, stage.steps, stage.optimizer)
        tokens = batches.batch(step).student.to(accelerator.device)
        on = precision == "bfloat16"
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=on):
            loss = relations_divergence(student, teacher, tokens, HEADS)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        wait(given)
        seconds.append(time.perf_counter() - began)
        losses.append(float(loss.detach()))
    return {"losses": losses, "seconds": seconds[WARM_UP:], "bytes": memory(given) - before}


def memory(given: argparse.Namespace) -> int:
    """Peak bytes of the device so far."""
    return peak_bytes(given.device) or 0


def wait(given: argparse.Namespace) -> None:
    """Wait until the device is done."""
    if given.device == "cuda":
        torch.cuda.synchronize()


def one_variant(given: argparse.Namespace) -> None:
    """Run one variant here and print its figures as JSON."""
    side, precision = given.variant.split("-")
    torch.manual_seed(0)
    with compiling(side == "compiled"):
        facts = (run_plain if side == "plain" else run_limbeck)(given, precision)
    sys.stdout.write(json.dumps(facts) + "\n")


def main() -> None:
    """Run every variant in turns and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--variant", choices=VARIANTS)
    given = parser.parse_args()
    if given.variant:
        one_variant(given)
        return
    if given.device == "cuda":
        print_aims("cuda", tiny=False)
        if not given.compare:
            return
    runs: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for _ in range(given.rounds):
        for variant in VARIANTS:
            options = [f"--{k}={getattr(given, k)}" for k in ("steps", "batch", "length", "device")]
            command = [sys.executable, str(Path(__file__)), f"--variant={variant}", *options]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs[variant].append(json.loads(done.stdout.strip().splitlines()[-1]))
    report(given, runs)


def report(given: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]) -> None:
    """Print the tables and, last, one JSON object."""
    seconds = {v: statistics.median(s for r in runs[v] for s in r["seconds"]) for v in VARIANTS}
    peak = {v: statistics.median(r["bytes"] for r in runs[v]) for v in VARIANTS}
    tokens = given.batch * given.length
    facts: dict[str, Any] = {"threads": torch.get_num_threads(), "tokens_per_step": tokens}
    print(f"{given.batch} x {given.length} tokens, {facts['threads']} threads, {given.device}")
    print(f"{'':18} {'s/step':>8} {'tokens/s':>9} {'peak MB':>8}")
    for v in VARIANTS:
        print(f"{v:18} {seconds[v]:8.3f} {tokens / seconds[v]:9.0f} {peak[v] / 1e6:8.0f}")
        facts[f"{v}_seconds"], facts[f"{v}_bytes"] = seconds[v], peak[v]
    best = "limbeck-bfloat16"
    for plain in ("plain-float32", "plain-bfloat16"):
        facts[f"speed_against_{plain}_ratio"] = seconds[plain] / seconds[best]
        facts[f"memory_against_{plain}_ratio"] = peak[best] / peak[plain]
    pairs = zip(
        runs["plain-float32"][0]["losses"], runs["limbeck-float32"][0]["losses"], strict=True
    )
    facts["float32_loss_difference"] = max(abs(a - b) / abs(a) for a, b in pairs)
    parts = runs[best][-1]["profile"]
    whole = sum(parts.values())
    print("\nshare of the step, limbeck-bfloat16")
    for name, time_ in parts.items():
        print(f"{name:18} {time_ / whole:8.1%}")
        facts[f"share_{name.replace(' ', '_')}_ratio"] = time_ / whole
    print()
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

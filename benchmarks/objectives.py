"""Every objective, forward and backward, against a plain implementation, and its share of a step.

Both sides get the same captured tensors: all-MiniLM-L6-v2 (with random weights in its vocabulary
head, which cost the same) and a student of 3 x 256, 32 x 128 tokens of real text, bfloat16. Plain
means autograd over whole tensors: all logits of the predicted positions, all attention scores. Both
are measured alternately in one run; ratios are of medians. Peak memory excludes the inputs and is
measured in a separate process for each side.

    python benchmarks/objectives.py [--rounds 7] [--device cpu]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from one_step import FROM_TEACHER, ready
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import AutoModelForMaskedLM

from limbeck.activations import Activations, Predictions
from limbeck.batch import Batch, Tokens
from limbeck.demo.run import HERE
from limbeck.models.capture import capture
from limbeck.models.locate import DEMO_TEACHER, locate
from limbeck.objectives import OBJECTIVES
from limbeck.objectives.contract import Objective
from limbeck.objectives.logits import Logits
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import stage_batches
from limbeck.run.models import build_models
from limbeck.student.projections import Projections
from limbeck.system.linux import keep_freed_memory
from limbeck.system.memory import peak_bytes, restart_peak
from limbeck.tokenization.load import load_tokenizer
from limbeck.training.checkpoint import Position
from limbeck.training.step import train_step

SIDES = ("plain", "limbeck")
WIDE = "logits, 120,000 tokens"
HEADS = 16


@dataclass
class Case:
    """The inputs of one objective."""

    objective: Objective
    student: Activations
    teacher: Activations
    batch: Batch
    projections: Projections
    leaves: list[Tensor]
    step_seconds: Callable[[], float] | None = None


def labels(case: Case) -> Tensor:
    """Cross-entropy of all logits."""
    tokens = case.batch.student
    return cross_entropy(logits_of(case.student), tokens.labels[tokens.predicted], reduction="sum")


def logits(case: Case) -> Tensor:
    """The divergence of all logits."""
    student, teacher = (log_softmax(logits_of(m), -1) for m in (case.student, case.teacher))
    return kl_div(student, teacher.detach(), reduction="sum", log_target=True)


def uld(case: Case) -> Tensor:
    """All probabilities, sorted."""
    sides = [
        logits_of(m).softmax(-1).sort(-1, descending=True) for m in (case.student, case.teacher)
    ]
    return (sides[0].values - sides[1].values.detach()).abs().sum()


def span_likelihood(case: Case) -> Tensor:
    """From all logits; with one vocabulary every token is a span."""
    tokens = case.batch.student
    right = tokens.labels[tokens.predicted][:, None]
    logs = [
        log_softmax(logits_of(m), -1).gather(-1, right) / 10 for m in (case.student, case.teacher)
    ]
    mine, theirs = (side.clamp_max(-1e-6) for side in (logs[0], logs[1].detach()))
    rest = [torch.log(-torch.expm1(side)) for side in (mine, theirs)]
    return 10 * (theirs.exp() * (theirs - mine) + rest[1].exp() * (rest[1] - rest[0])).sum()


def hidden_states(case: Case) -> Tensor:
    """Squared differences of states, with padding multiplied by zero."""
    total = torch.zeros(())
    links: Any = case.objective
    for mine, (theirs,) in links.layers.items():
        state, target = case.student.hidden[mine].float(), case.teacher.hidden[theirs].float()
        total = total + squares(case, f"hidden_{mine}_to_{theirs}", state, target)
    return total


def mean_hidden_states(case: Case) -> Tensor:
    """Squared differences of the means over layers, with padding multiplied by zero."""
    means = []
    for model in (case.student, case.teacher):
        states = [model.embeddings, *model.hidden.values()]
        means.append(torch.stack([s.float() for s in states if s is not None]).mean(0))
    return squares(case, "mean_hidden", *means)


def embeddings(case: Case) -> Tensor:
    """Squared differences of embeddings, with padding multiplied by zero."""
    states = [m.embeddings for m in (case.student, case.teacher)]
    return squares(case, "embeddings", *(s.float() for s in states if s is not None))


def qkv(case: Case) -> Tensor:
    """Squared differences of queries, keys and values, with padding multiplied by zero."""
    total = torch.zeros(())
    for kind in ("queries", "keys", "values"):
        (state,), (target,) = (getattr(m, kind).values() for m in (case.student, case.teacher))
        total = total + squares(case, f"vectors_{kind}", state.float(), target.float())
    return total


def attention_scores(case: Case) -> Tensor:
    """All scores of a layer at once."""
    objective: Any = case.objective
    mask = case.batch.student.mask
    attended = (mask[:, None, :] & mask[:, :, None])[:, None].float()
    total = torch.zeros(())
    for mine, theirs in objective.layer_pairs():
        scores = []
        for model, layer in ((case.student, mine), (case.teacher, theirs)):
            parts = [
                v[layer].float().reshape(*mask.shape, objective.heads, -1).transpose(1, 2)
                for v in (model.queries, model.keys)
            ]
            scores.append(parts[0] @ parts[1].mT / parts[0].shape[-1] ** 0.5)
        difference = (scores[0] - scores[1].detach()).square() * attended
        total = total + (difference.mean(1).sum(-1) / mask.sum(-1, keepdim=True)).sum()
    return total


def relations(case: Case) -> Tensor:
    """All relations of the batch at once."""
    mask = case.batch.student.mask

    def relate(vectors: Tensor) -> Tensor:
        heads = vectors.float().reshape(*vectors.shape[:2], HEADS, -1).transpose(1, 2)
        scores = heads @ heads.mT / heads.shape[-1] ** 0.5
        low = torch.finfo(scores.dtype).min
        return log_softmax(scores.masked_fill(~mask[:, None, None, :], low), dim=-1)

    total = torch.zeros(())
    for kind in ("queries", "keys", "values"):
        (state,), (target,) = (getattr(m, kind).values() for m in (case.student, case.teacher))
        divergence = kl_div(
            relate(state), relate(target).detach(), reduction="none", log_target=True
        )
        total = total + divergence.sum(-1).mean(1)[mask].sum()
    return total


PLAIN = {
    "labels": labels,
    "logits": logits,
    "uld": uld,
    "span_likelihood": span_likelihood,
    "hidden_states": hidden_states,
    "mean_hidden_states": mean_hidden_states,
    "embeddings": embeddings,
    "qkv": qkv,
    "attention_scores": attention_scores,
    "relations": relations,
    WIDE: logits,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "hidden_states": {"layers": "uniform"},
    "relations": {"heads": HEADS},
    "qkv": {"heads": HEADS},
}
# A step with the objective `embeddings` alone would end before the first layer.
BESIDE: dict[str, dict[str, Any]] = {"embeddings": {"hidden_states": {"layers": "last"}}}


def logits_of(model: Activations) -> Tensor:
    """All logits, in float32."""
    assert model.predictions is not None
    return model.predictions.logits().float()


def squares(case: Case, name: str, state: Tensor, target: Tensor) -> Tensor:
    """Squared difference over real tokens."""
    mask = case.batch.student.mask.flatten()
    mapped = case.projections(name, state.flatten(0, 1))
    difference = (mapped - target.flatten(0, 1)).square().mean(-1)
    return (difference * mask).sum()


def make_case(name: str, given: argparse.Namespace, folder: Path) -> Case:
    """Captured tensors of real models on real text."""
    if name == WIDE:
        return wide_case(given)
    recipe = {
        "teacher": str(folder),
        "student": FROM_TEACHER,
        "data": {"text": str(HERE / "novels.txt.gz"), "max_length": 128},
        "stages": [
            {
                "objectives": {name: OPTIONS.get(name, {}), **BESIDE.get(name, {})},
                "max_steps": 100,
                "batch_size": given.batch,
            }
        ],
        "training": {"device": "cpu" if given.device == "cpu" else "auto"},
    }
    setup = prepare(recipe)
    accelerator = build_accelerator(setup.recipe.training, "unused")
    student, teacher = build_models(setup, accelerator)
    learner, wrapped, optimizer = ready(setup, student, accelerator)
    stage = setup.stages[0]
    objective = stage.objectives[name]
    batch = stage_batches(setup, 0).batch(0).to(accelerator.device)

    def whole_step() -> float:
        began = time.perf_counter()
        position = Position(0, 0, 0, 0.0)
        train_step(wrapped, teacher, stage, batch, optimizer, accelerator, position)
        wait(given)
        return time.perf_counter() - began

    with accelerator.autocast():
        signals = (
            teacher.signals(batch, objective.teacher_needs())
            if teacher and objective.teacher_needs().anything
            else Activations()
        )
        states = capture(student, learner.architecture, batch.student, objective.student_needs())
    states, leaves = as_leaves(states)
    maps = learner.projections[list(stage.objectives).index(name)]
    leaves += maps.parameters()
    return Case(objective, states, signals, batch, maps, leaves, whole_step)


def wide_case(given: argparse.Namespace) -> Case:
    """Random features under vocabularies of a multilingual size; 15 % of 32 x 128 positions."""
    torch.manual_seed(0)
    columns, rows = 120_000, int(0.15 * given.batch * 128)
    every = torch.ones(1, rows, dtype=torch.bool, device=given.device)
    ids = torch.randint(columns, (1, rows), device=given.device)
    tokens = Tokens(input_ids=ids, mask=every, labels=ids, predicted=every)

    def predictions(width: int) -> Predictions:
        features = torch.randn(rows, width, device=given.device)
        weight = torch.randn(columns, width, device=given.device) / width**0.5
        return Predictions(features, weight, torch.zeros(columns, device=given.device))

    states, leaves = as_leaves(Activations(predictions=predictions(256)))
    teacher = Activations(predictions=predictions(384))
    none = Projections({}, seed=0)
    return Case(Logits(vocabulary=columns), states, teacher, Batch(tokens, tokens), none, leaves)


def as_leaves(states: Activations) -> tuple[Activations, list[Tensor]]:
    """The same tensors as leaves of the graph, so that each gets a gradient."""
    leaves: list[Tensor] = []

    def leaf(tensor: Tensor) -> Tensor:
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    changed: dict[str, Any] = {
        kind: {layer: leaf(tensor) for layer, tensor in getattr(states, kind).items()}
        for kind in ("hidden", "queries", "keys", "values")
    }
    if states.embeddings is not None:
        changed["embeddings"] = leaf(states.embeddings)
    if states.predictions is not None:
        p = states.predictions
        bias = None if p.bias is None else leaf(p.bias)
        changed["predictions"] = Predictions(leaf(p.features), leaf(p.weight), bias)
    return replace(states, **changed), leaves


def seconds_of(case: Case, name: str, side: str, given: argparse.Namespace) -> float:
    """Seconds for the loss and its gradients."""
    began = time.perf_counter()
    with torch.autocast(given.device, torch.bfloat16):
        if side == "plain":
            loss = PLAIN[name](case)
        else:
            loss = case.objective.total(case.student, case.teacher, case.batch, case.projections)
    torch.autograd.grad(loss, case.leaves)
    wait(given)
    return time.perf_counter() - began


def wait(given: argparse.Namespace) -> None:
    """Wait until the device is done."""
    if given.device == "cuda":
        torch.cuda.synchronize()


def peak(given: argparse.Namespace) -> int:
    """Peak bytes so far."""
    return peak_bytes(given.device) or 0


def peak_of_process(name: str, side: str, given: argparse.Namespace, folder: Path) -> int:
    """Peak bytes of one side without its inputs, in a new process."""
    command = [sys.executable, __file__, f"--side={side}", f"--name={name}", f"--folder={folder}"]
    command += [f"--device={given.device}", f"--batch={given.batch}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.strip().splitlines()[-1])


def teacher_with_head(folder: Path) -> None:
    """Save the demo's teacher with a vocabulary head of random weights."""
    model = AutoModelForMaskedLM.from_pretrained(locate(DEMO_TEACHER))
    model.save_pretrained(folder)
    load_tokenizer(DEMO_TEACHER).save_pretrained(folder)


def main() -> None:
    """Print a table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--name", choices=tuple(PLAIN))
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    keep_freed_memory()
    if given.side:
        case = make_case(given.name, given, given.folder)
        seconds_of(case, given.name, given.side, given)  # loads libraries
        restart_peak()
        before = peak(given)
        seconds_of(case, given.name, given.side, given)
        print(peak(given) - before)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        teacher_with_head(folder)
        measure(given, folder)


def measure(given: argparse.Namespace, folder: Path) -> None:
    """Measure all objectives and print the table."""
    assert set(OBJECTIVES) < set(PLAIN)
    facts: dict[str, Any] = {"threads": torch.get_num_threads(), "device": given.device}
    print(f"{'':24} {'plain ms':>9} {'ms':>8} {'faster':>7} {'plain MB':>9} {'MB':>7} {'step':>6}")
    for name in [given.name] if given.name else PLAIN:
        case = make_case(name, given, folder)
        times: dict[str, list[float]] = {side: [] for side in (*SIDES, "step")}
        for number in range(given.rounds + 1):
            for side in SIDES:
                found = seconds_of(case, name, side, given)
                times[side] += [found] if number else []
            if case.step_seconds:
                times["step"].append(case.step_seconds())
        plain, ours = (statistics.median(times[side]) for side in SIDES)
        memory = {side: peak_of_process(name, side, given, folder) for side in SIDES}
        share = ours / statistics.median(times["step"]) if times["step"] else None
        shown = f"{share:6.1%}" if share else ""
        print(
            f"{name:24} {1000 * plain:9.1f} {1000 * ours:8.1f} {plain / ours:7.2f}"
            f" {memory['plain'] / 1e6:9.1f} {memory['limbeck'] / 1e6:7.1f} {shown}",
            flush=True,
        )
        facts[name] = {
            "plain_seconds": plain,
            "seconds": ours,
            "plain_bytes": memory["plain"],
            "bytes": memory["limbeck"],
            "share_of_step": share,
        }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

"""A whole on-policy step by limbeck and by a trainer of TRL, in one run.

Both generate a text after every prompt with the student, let student and teacher read it, and learn
by the Jensen-Shannon divergence: the same models, prompts, lengths, optimizer and precision. No
token ends a text, so that both learn from the same number of tokens. The two are measured
alternately after a first round that is not counted; the ratio is the median over the rounds. TRL
has two trainers for it: GKDTrainer (``gkd``) and DistillationTrainer (``distillation``), which
never holds all logits.

    pip install trl
    python benchmarks/on_policy.py TEACHER [--trainer distillation] [--num-hidden-layers 3]
        [--rows 16] [--max-new-tokens 192] [--device cpu]
"""

import argparse
import copy
import gzip
import json
import statistics
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from on_policy_trl import Clock, distillation_trainer, gkd_trainer
from one_step import ready

from limbeck.data.corpus import SeededOrder
from limbeck.demo.run import HERE
from limbeck.generation.batches import GeneratedBatches, Policy
from limbeck.generation.options import PolicyOptions
from limbeck.generation.rules import Student
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.models import build_models
from limbeck.system.device import describe_device
from limbeck.system.linux import keep_freed_memory
from limbeck.token_ids import TokenIds
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.prompts import PromptBatches, PromptTable
from limbeck.training.checkpoint import Position
from limbeck.training.optimizer import learning_rate, set_learning_rate
from limbeck.training.step import train_step

AIM = 3.0
PROMPT, PROMPTS = 8, 256  # tokens of a prompt; how many there are
MANY = 10_000  # steps of a training that is never finished


def recipe(given: argparse.Namespace, folder: str) -> dict[str, Any]:
    """The recipe of limbeck; its prompts are there to be checked, and others are read."""
    rows = [{"prompt": f"{n} times", "references": [f"{n} and more"]} for n in range(64)]
    file = Path(folder, "some.train.jsonl")
    file.write_text("\n".join(map(json.dumps, rows)))
    return {
        "teacher": given.teacher,
        "student": {
            "num_hidden_layers": given.num_hidden_layers,
            "init_from_teacher": {"layers": "uniform"},
        },
        "data": {
            "prompts": str(Path(folder, "some")),
            "max_length": PROMPT + given.max_new_tokens,
            "max_new_tokens": given.max_new_tokens,
        },
        "stages": [
            {
                "policy": "student",
                "objectives": {"logits": {"divergence": "jensen_shannon"}},
                "max_steps": MANY,
                "batch_size": given.rows,
            }
        ],
        "training": {
            "precision": given.precision,
            "device": "cpu" if given.device == "cpu" else "auto",
        },
    }


class Limbeck:
    """Steps by limbeck."""

    def __init__(self, given: argparse.Namespace, prompts: list[Any], folder: str) -> None:
        keep_freed_memory()
        self.setup = prepare(recipe(given, folder))
        self.accelerator = build_accelerator(self.setup.recipe.training, "unused")
        self.student, self.teacher = build_models(self.setup, self.accelerator)
        self.before = copy.deepcopy(self.student)
        self.learner, self.wrapped, self.optimizer = ready(
            self.setup, self.student, self.accelerator
        )
        table = PromptTable(prompts, prompts, 0, 0)
        order = SeededOrder((len(prompts),), (1.0,), 0)
        self.batches = GeneratedBatches(
            PromptBatches(table, order, given.rows, pad=0),
            Policy(Student(), PolicyOptions(precision=given.precision)),
            self.student,
            None,
            max_new_tokens=given.max_new_tokens,
            vocabulary=TokenIds.of(self.setup.models.student.tokenizer),
            eos_token_id=(),
            steps=MANY,
            seed=0,
            apart=False,
        )
        self.number = 0

    def step(self) -> float:
        """Generate and learn; returns the seconds of generating."""
        began, stage = time.perf_counter(), self.setup.stages[0]
        rate = learning_rate(self.number, stage.steps, stage.optimizer)
        set_learning_rate(self.optimizer, rate)
        batch = self.batches.batch(self.number)
        generating = time.perf_counter() - began
        position = Position(0, self.number, 0, 0.0)
        taken = train_step(
            self.wrapped, self.teacher, stage, batch, self.optimizer, self.accelerator, position
        )
        if not taken.means["logits"] >= 0:
            raise SystemExit("limbeck's loss is no divergence")
        self.number += 1
        return generating


def trl_seconds(
    given: argparse.Namespace, mine: Limbeck, prompts: list[Any], texts: list[str]
) -> tuple[float, float]:
    """Median seconds of a step of a trainer of TRL and of generating, the first left out."""
    student, clock = copy.deepcopy(mine.before), Clock(PROMPT + given.max_new_tokens)
    for model in (student, mine.teacher.model):
        model.generation_config.eos_token_id = model.config.eos_token_id = None
    student.generate = clock.around(student.generate)
    with TemporaryDirectory() as folder:
        arguments = {
            "output_dir": folder,
            "max_steps": given.steps + 1,
            "per_device_train_batch_size": given.rows,
            "learning_rate": 5e-4,
            "temperature": 1.0,
            "beta": 0.5,
            "gradient_checkpointing": False,
            "bf16": given.precision == "bfloat16",
            "use_cpu": given.device == "cpu",
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        tokenizer = mine.setup.models.student.tokenizer
        models = {"model": student, "teacher_model": mine.teacher.model}
        models["processing_class"] = tokenizer
        if given.trainer == "gkd":
            trainer = gkd_trainer(given, models, arguments, prompts)
        else:
            trainer = distillation_trainer(given, models, arguments, texts)
        trainer.add_callback(clock)
        trainer.train()
    return statistics.median(clock.seconds[1:]), statistics.median(clock.generating[1:])


def prompts_of(tokenizer: Any) -> dict[str, tuple[int, ...]]:
    """The beginnings of lines of novels that have `PROMPT` tokens, special ones included."""
    found: dict[str, tuple[int, ...]] = {}
    with gzip.open(HERE / "novels.txt.gz", "rt", encoding="utf-8") as file:
        for line in file:
            ids = tokenizer(line.strip())["input_ids"][:PROMPT]
            text = tokenizer.decode(ids, skip_special_tokens=True)
            if len(ids) == PROMPT and tokenizer(text)["input_ids"] == ids:
                found[text] = tuple(ids)
            if len(found) == PROMPTS:
                break
    return found


def limbeck_seconds(given: argparse.Namespace, mine: Limbeck) -> tuple[float, float]:
    """Median seconds of a step of limbeck and of generating, the first left out."""
    seconds, generating = [], []
    for _ in range(given.steps + 1):
        began = time.perf_counter()
        generating.append(mine.step())
        if given.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:]), statistics.median(generating[1:])


def report(given: argparse.Namespace, rounds: dict[str, list[tuple[float, float]]]) -> None:
    """Print the table and, last, one JSON object."""
    tokens = given.rows * given.max_new_tokens
    facts: dict[str, Any] = {"device": describe_device(torch.device(given.device))}
    for name, some in rounds.items():
        step, generating = (statistics.median(times) for times in zip(*some, strict=True))
        print(f"{name:8} {step:7.2f} s a step, {generating:.2f} s of it to generate;", end=" ")
        print(f"{tokens / step:.0f} tokens/s")
        facts[name] = {"seconds": step, "generating_seconds": generating}
    if "TRL" in rounds:
        facts["trainer"] = given.trainer
        pairs = list(zip(rounds["TRL"], rounds["limbeck"], strict=True))
        whole, part = (
            statistics.median(one[n] / other[n] for one, other in pairs) for n in range(2)
        )
        print(f"limbeck is {whole:.2f} times as fast (aim {AIM:g}), {part:.2f} times at generating")
        facts |= {"trl_to_limbeck_ratio": whole, "generating_ratio": part}
    else:
        print("TRL      absent; run: pip install trl")
    print(json.dumps(facts))


def main() -> None:
    """Time both alternately."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("teacher")
    parser.add_argument("--trainer", choices=("gkd", "distillation"), default="gkd")
    parser.add_argument("--num-hidden-layers", type=int, default=3, help="of the student")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=192)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=int, default=3, help="counted in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    device = describe_device(torch.device(given.device))
    print(f"{device}, {given.precision}, {torch.get_num_threads()} threads")
    there = find_spec("trl") is not None
    rounds: dict[str, list[tuple[float, float]]] = {"limbeck": []} | ({"TRL": []} if there else {})
    with TemporaryDirectory() as folder:
        found = prompts_of(load_tokenizer(given.teacher))
        texts, prompts = list(found), [np.array(ids) for ids in found.values()]
        mine = Limbeck(given, prompts, folder)
        for number in range(given.rounds + 1):
            ours = limbeck_seconds(given, mine)
            theirs = trl_seconds(given, mine, prompts, texts) if there else None
            if number > 0:
                rounds["limbeck"].append(ours)
                if theirs:
                    rounds["TRL"].append(theirs)
    report(given, rounds)


if __name__ == "__main__":
    main()

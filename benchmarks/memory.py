"""What the memory of a training step holds, for ways to train the same decoder.

    python benchmarks/memory.py MODEL --prompts DIR/NAME [--rows 4] [--length 256]

Every way is a student of all the layers of MODEL that learns from its labels and from the logits of
MODEL beside it, on given text unless the way says that it is generated, for the steps that `limbeck
plan` takes, in a process of its own. The model is used
as it was published: its weights are rounded to bfloat16 in a folder that is removed at the end.
"""

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.recipe.check import prepare
from limbeck.reports.memory import memory_table
from limbeck.reports.report import markdown_table
from limbeck.run.probe import probe
from limbeck.system.child import printed_by
from limbeck.system.device import describe_device

FACTORS = {"low_rank": {"parameter_ratio": 0.3, "whiten": False}}
ADAPTERS = {"low_rank": {"kind": "lora", "target_modules": "all", "rank": 16}}
ALONE = {"trainable": "low_rank"}
WHOLE = {"frozen_dtype": "float32"}
OPTIM = {"optimizer": {"optim": "adamw_torch_8bit"}}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "all weights": ({}, {}, {}),
    "all weights, averages in 8 bits": ({}, OPTIM, {}),
    "all weights, layers recomputed": ({}, {}, {"gradient_checkpointing": True}),
    "adapters, frozen weights in float32": (ADAPTERS, {}, WHOLE),
    "adapters": (ADAPTERS, {}, {}),
    "low-rank layers, frozen weights in float32": (FACTORS, ALONE, WHOLE),
    "low-rank layers": (FACTORS, ALONE, {}),
    "adapters, teacher in 8 bits": (ADAPTERS, {}, {}),
    "adapters, teacher in 4 bits": (ADAPTERS, {}, {}),
    "adapters, text by both models": (ADAPTERS, {"policy": {"kind": "switch"}}, {}),
    "adapters, text by both models in bfloat16": (
        ADAPTERS,
        {"policy": {"kind": "switch", "precision": "bfloat16"}},
        {},
    ),
}
BITS = {"adapters, teacher in 8 bits": "int8", "adapters, teacher in 4 bits": "int4"}


def recipe_of(way: str, model: str, prompts: str, rows: int, length: int) -> dict[str, Any]:
    """The recipe of a way."""
    student, stage, training = WAYS[way]
    return {
        "teacher": {"model": model, "quantize": BITS.get(way)},
        "student": {"init_from_teacher": {"layers": "first"}, **student},
        "data": {"prompts": prompts, "max_length": length, "max_new_tokens": length // 4},
        "stages": [
            {"objectives": {"labels": {}, "logits": {}}, "max_steps": 3, "batch_size": rows} | stage
        ],
        "training": training,
    }


def main() -> None:
    """Probe every way in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--way", choices=WAYS)
    given = parser.parse_args()
    if given.way:
        recipe = recipe_of(given.way, given.model, given.prompts, given.rows, given.length)
        print(json.dumps(probe(prepare(recipe), 0).memory))
        return
    with TemporaryDirectory() as folder:
        coarse = str(Path(folder) / "model")
        AutoModelForCausalLM.from_pretrained(given.model).bfloat16().save_pretrained(coarse)
        AutoTokenizer.from_pretrained(given.model).save_pretrained(coarse)
        sizes = ["--rows", str(given.rows), "--length", str(given.length)]
        found = []
        for way in WAYS:
            command = [sys.executable, __file__, coarse, "--prompts", given.prompts, *sizes]
            found.append((way, printed_by([*command, "--way", way])))
    setup = prepare(recipe_of("adapters", given.model, given.prompts, given.rows, given.length))
    print(f"{describe_device(setup.device)}, {setup.precision.name}\n")
    print("\n".join(markdown_table(memory_table(found))))


if __name__ == "__main__":
    main()

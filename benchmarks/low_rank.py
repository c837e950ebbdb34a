"""What is lost when feed-forward layers become two factors, by plain and whitened singular values.

Bits per byte of references that the model never saw, and milliseconds of one forward of 1 x 256
and 16 x 256 tokens, float32, at several shares of the layers' parameters; nothing is trained. In
one run; the times of the factored and of the dense model take turns.

    python benchmarks/low_rank.py MODEL --prompts DIR/NAME [--rows 128]
"""

import argparse
import copy
import json
import math
import statistics
import time
from itertools import islice

import torch
from transformers import PreTrainedModel

from limbeck.data.prompts import read_prompts
from limbeck.evaluation.generation import GenerationSettings, Writer, batched
from limbeck.models.modules import parameter_counts
from limbeck.student.low_rank import Rank, chosen_layers, factor_layers
from limbeck.tokenization.prompts import PromptTable

SHAPES = ((1, 256), (16, 256))


def bits_per_byte(writer: Writer, table: PromptTable, settings: GenerationSettings) -> float:
    """Of the responses."""
    nats = sum(float(writer.nats(tokens).sum()) for tokens in batched(table, settings))
    utf8_bytes = sum(len(writer.text(row.tolist()).encode()) for row in table.responses)
    return nats / math.log(2) / utf8_bytes


def milliseconds(models: list[PreTrainedModel], rounds: int) -> list[dict[str, float]]:
    """Of one forward of every model, medians; the models take turns."""
    spent: list[dict[str, list[float]]] = [{} for _ in models]
    for rows, length in SHAPES:
        ids = torch.ones(rows, length, dtype=torch.long)
        for turn in range(rounds + 1):
            for model, found in zip(models, spent, strict=True):
                began = time.perf_counter()
                with torch.no_grad():
                    model.base_model(input_ids=ids, use_cache=False)
                if turn:
                    took = 1000 * (time.perf_counter() - began)
                    found.setdefault(f"{rows} x {length}", []).append(took)
    return [{key: statistics.median(some) for key, some in found.items()} for found in spent]


def main() -> None:
    """Factor copies of the model at every budget, both ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--layers", default="feed_forward")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.8, 0.6, 0.4, 0.2])
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    settings = GenerationSettings()
    dense = Writer.loaded(given.model)
    seen = dense.table(list(islice(read_prompts(given.prompts), 128)), settings)
    new = dense.table(list(islice(read_prompts(given.prompts, "dev"), given.rows)), settings)
    calibration = list(batched(seen, settings))
    parameters = parameter_counts(dense.model)[0]
    before = bits_per_byte(dense, new, settings)
    print(f"dense: {parameters / 1e6:.2f}M parameters, {before:.4f} bits per byte")
    found = []
    for budget in given.budgets:
        lost = {}
        for way, text in (("plain", []), ("whitened", calibration)):
            model = copy.deepcopy(dense.model)
            paths = chosen_layers(model, dense.architecture, given.layers)
            factor_layers(model, paths, Rank(budget=budget), calibration=text)
            writer = Writer(model, dense.tokenizer, dense.architecture)
            lost[way] = bits_per_byte(writer, new, settings)
        times = milliseconds([dense.model, model], given.rounds)
        ratios = {key: times[1][key] / times[0][key] for key in times[0]}
        kept = parameter_counts(model)[0] / parameters
        said = ", ".join(f"{key}: {ratio:.2f}" for key, ratio in ratios.items())
        print(
            f"budget {budget:.1f}: {kept:.1%} of all parameters, bits per byte {lost['plain']:.4f}"
            f" plain, {lost['whitened']:.4f} whitened; of the dense time {said}"
        )
        found.append({"budget": budget, "kept_ratio": kept, **lost, "time_ratio": ratios})
    print(json.dumps({"dense": before, "parameters": parameters, "factored": found}))


if __name__ == "__main__":
    main()

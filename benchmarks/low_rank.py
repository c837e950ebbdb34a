"""The loss of low-rank feed-forward layers, from plain and from whitened singular values.

Bits per byte of references that the model never saw, and milliseconds of one forward of 1 x 256
and 16 x 256 tokens, float32, at several ratios of the layers' parameters; nothing is trained. All
in one run; the low-rank and the dense model are timed alternately.

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
from limbeck.evaluation.settings import GenerationSettings
from limbeck.evaluation.text_generator import TextGenerator, answered_batches
from limbeck.models.modules import parameter_counts
from limbeck.student.low_rank import Rank, chosen_layers, factorize_layers
from limbeck.tokenization.prompts import PromptTable

SHAPES = ((1, 256), (16, 256))


def bits_per_byte(
    generator: TextGenerator, table: PromptTable, settings: GenerationSettings
) -> float:
    """Bits per byte of the responses."""
    nats = sum(float(generator.nats(tokens).sum()) for tokens in answered_batches(table, settings))
    utf8_bytes = sum(len(generator.text(row.tolist()).encode()) for row in table.responses)
    return nats / math.log(2) / utf8_bytes


def milliseconds(models: list[PreTrainedModel], rounds: int) -> list[dict[str, float]]:
    """Median milliseconds of one forward of every model, measured alternately."""
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
    """Factorize copies of the model at every ratio, both ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--target-modules", default="feed_forward")
    parser.add_argument("--parameter-ratios", type=float, nargs="+", default=[0.8, 0.6, 0.4, 0.2])
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    settings = GenerationSettings()
    dense = TextGenerator.load(given.model)
    seen = dense.table(list(islice(read_prompts(given.prompts), 128)), settings)
    new = dense.table(list(islice(read_prompts(given.prompts, "dev"), given.rows)), settings)
    calibration = list(answered_batches(seen, settings))
    parameters = parameter_counts(dense.model)[0]
    before = bits_per_byte(dense, new, settings)
    print(f"dense: {parameters / 1e6:.2f}M parameters, {before:.4f} bits per byte")
    found = []
    for ratio in given.parameter_ratios:
        lost = {}
        for way, text in (("plain", []), ("whitened", calibration)):
            model = copy.deepcopy(dense.model)
            paths = chosen_layers(model, dense.architecture, given.target_modules)
            factorize_layers(model, paths, Rank(parameter_ratio=ratio), calibration=text)
            generator = TextGenerator(model, dense.tokenizer, dense.architecture, dense.ends)
            lost[way] = bits_per_byte(generator, new, settings)
        times = milliseconds([dense.model, model], given.rounds)
        ratios = {key: times[1][key] / times[0][key] for key in times[0]}
        kept = parameter_counts(model)[0] / parameters
        said = ", ".join(f"{key}: {time_:.2f}" for key, time_ in ratios.items())
        print(
            f"ratio {ratio:.1f}: {kept:.1%} of all parameters, bits per byte {lost['plain']:.4f}"
            f" plain, {lost['whitened']:.4f} whitened; of the dense time {said}"
        )
        found.append({"parameter_ratio": ratio, "kept_ratio": kept, **lost, "time_ratio": ratios})
    print(json.dumps({"dense": before, "parameters": parameters, "low_rank": found}))


if __name__ == "__main__":
    main()

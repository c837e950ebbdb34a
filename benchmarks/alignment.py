"""Two vocabularies: the speed of their alignment, and the cost of comparing their predictions.

The speed is that of finding the groups of tokens in the demo text after it is tokenized, in tokens
of both tokenizers per second on one core. A text is wrong if a visible character is in different
groups for the two tokenizers, or a token is in no group. The loss is the divergence of 600
predictions over a teacher's 120,000 tokens, forward and backward: for a student that has all of
them, and for one with 5,000 tokens whose logits are pooled from one to four parts each. Both are
measured alternately in one run; ratios are of medians, and peak memory excludes the inputs and is
measured in a separate process for each.

    python benchmarks/alignment.py [--rounds 7]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from itertools import combinations, islice
from typing import Any

import numpy as np
import torch
from tokenizers import Encoding

from limbeck.activations import Activations, Predictions
from limbeck.batch import Batch, Links, Tokens
from limbeck.data.text import TextSource, read_documents
from limbeck.demo.run import HERE
from limbeck.models.locate import DEMO_TEACHER
from limbeck.objectives.alignment import Alignment
from limbeck.objectives.logits import Logits
from limbeck.student.projections import Projections
from limbeck.system.linux import keep_freed_memory
from limbeck.system.memory import peak_process_bytes, restart_peak
from limbeck.tokenization.learn import KINDS, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.words import SharedWords, token_groups

TEXT = TextSource(str(HERE / "novels.txt.gz"))
SIDES = ("same", "mapped")
AIM = 1.5
ROWS, TEACHER_TOKENS, STUDENT_TOKENS = 600, 120_000, 5_000
TEACHER_WIDTH, STUDENT_WIDTH = 768, 264


def alignment_of_pairs() -> list[dict[str, Any]]:
    """Tokens per second, and texts with wrong groups, for every pair of tokenizers."""
    documents = list(islice(read_documents(TEXT), 4000))
    tokenizers = {"minilm": load_tokenizer(DEMO_TEACHER).backend_tokenizer}
    for kind in KINDS:
        learned = learn_tokenizer(
            documents, blank_tokenizer(kind, lowercase=False), vocab_size=2000
        )
        tokenizers[kind] = learned.backend_tokenizer
    encoded = {
        name: tokenizer.encode_batch(documents, add_special_tokens=False)
        for name, tokenizer in tokenizers.items()
    }
    found = []
    for one, other in combinations(tokenizers, 2):
        texts = list(zip(documents, encoded[one], encoded[other], strict=True))
        began = time.perf_counter()
        groups = [token_groups(*text) for text in texts]
        seconds = time.perf_counter() - began
        tokens = sum(len(first.ids) + len(second.ids) for _, first, second in texts)
        wrong = sum(not right(*text, g) for text, g in zip(texts, groups, strict=True))
        found.append(
            {
                "pair": f"{one}, {other}",
                "speed": tokens / seconds,
                "texts": len(texts),
                "wrong": wrong,
            }
        )
    return found


def right(text: str, first: Encoding, second: Encoding, groups: SharedWords) -> bool:
    """Whether groups never decrease, and every visible character has the same group for both."""
    places: list[dict[int, int]] = []
    for encoding, numbers in ((first, groups.first), (second, groups.second)):
        if len(numbers) != len(encoding.ids) or (np.diff(numbers) < 0).any():
            return False
        places.append({})
        for (start, end), number in zip(encoding.offsets, numbers.tolist(), strict=True):
            for place in range(start, end):
                if not text[place].isspace() and places[-1].setdefault(place, number) != number:
                    return False
    return all(places[1].get(place, number) == number for place, number in places[0].items())


class Comparison:
    """The logits loss of one side, on random features."""

    def __init__(self, side: str) -> None:
        chance = torch.Generator().manual_seed(0)
        tokens = TEACHER_TOKENS if side == "same" else STUDENT_TOKENS
        self.features = torch.randn(ROWS, STUDENT_WIDTH, generator=chance, requires_grad=True)
        weight = torch.randn(tokens, STUDENT_WIDTH, generator=chance) * STUDENT_WIDTH**-0.5
        self.weight = weight.requires_grad_()
        width = TEACHER_WIDTH
        taught = torch.randn(TEACHER_TOKENS, width, generator=chance) * width**-0.5
        features = torch.randn(ROWS, width, generator=chance)
        self.teacher = Activations(predictions=Predictions(features, taught, None))
        every = torch.arange(TEACHER_TOKENS)
        owner = every.repeat_interleave(torch.randint(1, 5, every.shape, generator=chance))
        parts = torch.randint(0, STUDENT_TOKENS, owner.shape, generator=chance)
        self.alignment = Alignment("sum", parts, every, owner=owner)
        self.mapped = side == "mapped"
        real = torch.ones(1, ROWS, dtype=torch.bool)
        nothing = torch.zeros(1, ROWS, dtype=torch.int64)
        self.groups = Tokens(nothing, real, nothing, real)
        self.links = Links(None, torch.arange(ROWS)[None], torch.arange(ROWS)[None], self.groups)

    def step(self) -> float:
        """Seconds for the loss and its gradients."""
        began = time.perf_counter()
        self.features.grad = self.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            student = Activations(predictions=Predictions(self.features, self.weight, None))
            if self.mapped:
                student = self.alignment.student(student, self.links, self.groups)
            objective = Logits(vocabulary=TEACHER_TOKENS)
            batch = Batch(self.groups, self.groups)
            total = objective.total(student, self.teacher, batch, Projections({}, seed=0))
        total.backward()
        return time.perf_counter() - began


def peak_of(side: str) -> int:
    """Peak bytes without the inputs."""
    comparison = Comparison(side)
    comparison.weight.grad = torch.zeros_like(comparison.weight)
    restart_peak()
    before = peak_process_bytes() or 0
    comparison.step()
    return (peak_process_bytes() or 0) - before


def main() -> None:
    """Print a table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak", choices=SIDES, help="print the peak bytes of one side alone")
    given = parser.parse_args()
    keep_freed_memory()
    if given.peak:
        print(peak_of(given.peak))
        return
    pairs = alignment_of_pairs()
    for pair in pairs:
        said = f"{pair['speed']:12,.0f} tokens a second, aim 1,000,000"
        print(f"{pair['pair']:20} {said}; wrong: {pair['wrong']} of {pair['texts']:,} texts")
    sides = {side: Comparison(side) for side in SIDES}
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(given.rounds + 1):
        for side, comparison in sides.items():
            found = comparison.step()
            times[side] += [found] if number else []
    medians = {side: statistics.median(found) for side, found in times.items()}
    peaks = {}
    for side in SIDES:
        command = [sys.executable, __file__, "--peak", side]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[side] = int(done.stdout)
        print(f"{side:7} {1000 * medians[side]:8.1f} ms, {peaks[side] / 1e6:8.0f} MB")
    ratio = medians["mapped"] / medians["same"]
    print(f"ratio {ratio:.2f}, aim {AIM}")
    threads = torch.get_num_threads()
    print(
        json.dumps({"threads": threads, "ratio": ratio, **medians, "peaks": peaks, "pairs": pairs})
    )


if __name__ == "__main__":
    main()

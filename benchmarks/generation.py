"""Generation by two models together: in drafts that the teacher checks, against token by token.

A decoder generates together with another by the rule `switch`, in drafts and one token at a time
(the same text, with caches of both models in both ways), and alone, which is the least time that
any policy can take; on a GPU with and without CUDA graphs. All ways are measured alternately in one
run after a first round that is not counted; ratios are of medians.

    python benchmarks/generation.py TEACHER STUDENT [--prompts DIR/NAME] [--rows 16]
        [--max-new-tokens 512] [--device cpu]
"""

import argparse
import json
import statistics
import time
from functools import partial
from itertools import islice

import torch

from limbeck.data.prompts import read_prompts
from limbeck.generation.decoding import DecodingOptions, Generated, generate
from limbeck.generation.readers import Readers
from limbeck.generation.rules import Rule, Student, Switch
from limbeck.models.families.lookup import architecture_of
from limbeck.models.load import load_config, load_model
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.prompts import encode_prompts

AIM_AGAINST_TOKENS, AIM_AGAINST_STUDENT = 2.0, 2.0


def main() -> None:
    """Time every way of generating, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teacher")
    parser.add_argument("student")
    parser.add_argument("--prompts", help="DIR/NAME of a file of prompts; by default empty ones")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("--tau", type=float, default=0.3)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    tokenizer = load_tokenizer(given.teacher)
    teacher, student = (
        load_model(name, architecture=architecture_of(load_config(name)), with_head=True)
        for name in (given.teacher, given.student)
    )
    teacher, student = teacher.to(given.device), student.to(given.device)
    prompts = [[tokenizer.bos_token_id]] * given.rows
    if given.prompts:
        rows = list(islice(read_prompts(given.prompts), given.rows))
        table = encode_prompts(
            rows, tokenizer, max_length=2048, max_new_tokens=given.max_new_tokens, separator="\n"
        )
        prompts = [prompt.tolist() for prompt in table.prompts]
    # No token ends a text, so that every way generates the same number of tokens.
    texts_by = partial(
        generate, student, teacher, prompts, vocabulary=len(tokenizer), eos_token_id=[]
    )

    def timed(rule: Rule, draft_length: int, readers: Readers) -> tuple[float, Generated]:
        began = time.perf_counter()
        with torch.autocast(given.device, torch.bfloat16, enabled=given.bfloat16):
            options = DecodingOptions(given.max_new_tokens, 1.0, draft_length)
            found = texts_by(rule, options=options, readers=readers)
        if given.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began, found

    ways = {
        "student alone": (Student(), 16),
        "switch, token by token": (Switch(tau=given.tau), 1),
        "switch, in drafts": (Switch(tau=given.tau), 16),
    }
    kinds = {"plain": Readers(cuda_graphs=False)}
    if given.device == "cuda":
        kinds["replayed"] = Readers()
    seconds: dict[tuple[str, str], list[float]] = {}
    texts: dict[tuple[str, str], Generated] = {}
    for number in range(given.rounds + 1):
        for kind, readers in kinds.items():
            for name, (rule, length) in ways.items():
                spent, texts[kind, name] = timed(rule, length, readers)
                if number > 0:
                    seconds.setdefault((kind, name), []).append(spent)
    tokens = given.rows * given.max_new_tokens
    middle = {way: statistics.median(some) for way, some in seconds.items()}
    for (kind, name), spent in middle.items():
        share = float(texts[kind, name].by_teacher.float().mean())
        speed = f"{spent:7.1f} s {tokens / spent:8.0f} tokens/s"
        print(f"{kind:8} {name:24} {speed}, teacher generated {share:.0%}")
    found: dict[str, object] = {"rows": given.rows, "max_new_tokens": given.max_new_tokens}
    for kind in kinds:
        alone, one, many = (middle[kind, name] for name in ways)
        texts_of = [texts[kind, f"switch, {how}"] for how in ("token by token", "in drafts")]
        same = float((texts_of[0].tokens == texts_of[1].tokens).float().mean())
        print(f"{kind}: both ways of the switch give the same token at {same:.1%} of the places;")
        print(f"drafts are {one / many:.2f} times as fast as tokens (aim {AIM_AGAINST_TOKENS}),")
        print(f"and take {many / alone:.2f} times the student alone (aim {AIM_AGAINST_STUDENT})")
        found[kind] = {
            "seconds": {name: middle[kind, name] for name in ways},
            "teacher_share": float(texts_of[1].by_teacher.float().mean()),
            "tokens_to_drafts_ratio": one / many,
            "drafts_to_student_ratio": many / alone,
            "same_share": same,
        }
    if "replayed" in kinds:
        faster = {name: middle["plain", name] / middle["replayed", name] for name in ways}
        print("replayed is faster:", ", ".join(f"{name} {x:.1f}" for name, x in faster.items()))
        found["plain_to_replayed_ratio"] = faster
    print(json.dumps(found))


if __name__ == "__main__":
    main()

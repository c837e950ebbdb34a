"""Generation by two models together: in drafts that the teacher checks, against token by token.

A decoder generates together with another by the rule `switch`, in drafts and one token at a time
(the same text, with caches of both models in both ways), and alone, which is the least time that
any policy can take: by transformers' forward, and on a GPU with CUDA graphs, on a processor with
the forward of limbeck's own. Beside them stands transformers' `generate` of the student alone. All
ways are measured alternately in one run after a first round that is not counted; ratios are medians
over the rounds.

    python benchmarks/generation.py TEACHER STUDENT [--prompts DIR/NAME] [--rows 16]
        [--max-new-tokens 512] [--alone] [--device cpu] [--vllm PROGRAM]

With --vllm the student also generates on a vLLM server, as `policy: {engine: vllm}` does: its
weights are sent before every text.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel

from limbeck.data.prompts import read_prompts
from limbeck.generation.decoding import DecodingOptions, Generated, generate
from limbeck.generation.readers import Readers
from limbeck.generation.rules import Rule, Student, Switch
from limbeck.generation.vllm_server import VllmSettings, vllm_server
from limbeck.generation.vllm_text import VllmText
from limbeck.models.families.lookup import architecture_of
from limbeck.models.load import load_config, load_model
from limbeck.system.device import describe_device
from limbeck.system.linux import keep_freed_memory
from limbeck.teacher.servers.client import ServerClient, served_model
from limbeck.teacher.servers.settings import ServerSettings
from limbeck.token_ids import TokenIds
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.prompts import encode_prompts

AIM_AGAINST_TOKENS, AIM_AGAINST_GENERATE = 2.0, 2.0
GENERATE = "transformers", "student alone"


def ways(tau: float) -> dict[str, tuple[Rule, int]]:
    """The rule and the draft length of every way of generating."""
    return {
        "student alone": (Student(), 16),
        "switch, token by token": (Switch(tau=tau), 1),
        "switch, in drafts": (Switch(tau=tau), 16),
    }


def main() -> None:
    """Time every way of generating."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teacher")
    parser.add_argument("student")
    parser.add_argument("--prompts", help="DIR/NAME of a file of prompts; by default empty ones")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("--tau", type=float, default=0.3)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--alone", action="store_true", help="the student alone, and no teacher")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--vllm", metavar="PROGRAM", help="vLLM, maybe of another environment")
    given = parser.parse_args()
    keep_freed_memory()
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
    student.generation_config.eos_token_id = student.config.eos_token_id = None
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

    fast = "replayed" if given.device == "cuda" else "direct"
    kinds = {"plain": Readers(cuda_graphs=False, direct=False), fast: Readers()}
    seconds: dict[tuple[str, str], list[float]] = {}
    texts: dict[tuple[str, str], Generated] = {}
    served = ExitStack()
    text = served.enter_context(on_vllm(given, student, tokenizer, prompts)) if given.vllm else None
    for number in range(given.rounds + 1):
        if text is not None:
            for name, spent in vllm_seconds(given, text, student, prompts, len(tokenizer)).items():
                if number > 0:
                    seconds.setdefault(("vllm", name), []).append(spent)
        for kind, readers in kinds.items():
            for name, (rule, length) in list(ways(given.tau).items())[: 1 if given.alone else None]:
                spent, texts[kind, name] = timed(rule, length, readers)
                if number > 0:
                    seconds.setdefault((kind, name), []).append(spent)
        spent = transformers_seconds(given, student, prompts)
        if number > 0:
            seconds.setdefault(GENERATE, []).append(spent)
    served.close()
    report(given, fast, seconds, texts)


@contextmanager
def on_vllm(
    given: argparse.Namespace, student: Any, tokenizer: Any, prompts: list[Any]
) -> Iterator[VllmText]:
    """What generates the student's text on a vLLM server of its own."""
    settings = VllmSettings(
        given.vllm,
        max_model_len=max(map(len, prompts)) + given.max_new_tokens,
        dtype="bfloat16" if given.bfloat16 else "float32",
        gpu_memory_utilization=0.3,
        enforce_eager=given.device == "cpu",
    )
    with TemporaryDirectory() as folder:
        student.save_pretrained(Path(folder) / "start")
        tokenizer.save_pretrained(Path(folder) / "start")
        with vllm_server(Path(folder) / "start", settings, Path(folder) / "vllm.log") as url:
            asked = ServerSettings(url=url, concurrency=min(given.rows, 256))
            with ServerClient(asked, through_proxies=False) as client:
                served_model(client)
                yield VllmText(client, Path(folder) / "weights", PreTrainedModel.save_pretrained)


def vllm_seconds(
    given: argparse.Namespace, text: VllmText, student: Any, prompts: list[Any], tokens: int
) -> dict[str, float]:
    """Seconds of a text on vLLM with the weights that are sent before it, and of one token."""
    found = {}
    for name, length in (("student alone", given.max_new_tokens), ("weights and a token", 1)):
        began = time.perf_counter()
        options = DecodingOptions(length, 1.0)
        ids = TokenIds.given(tokens)
        begun = text.begin(student, prompts, options, vocabulary=ids, eos_token_id=[])
        text.finish(student, begun)
        found[name] = time.perf_counter() - began
    return found


def transformers_seconds(given: argparse.Namespace, student: Any, prompts: list[Any]) -> float:
    """Seconds that transformers' `generate` takes for as many tokens of the student."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(one)) + one for one in prompts], device=given.device)
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
    began = time.perf_counter()
    with torch.no_grad(), torch.autocast(given.device, torch.bfloat16, enabled=given.bfloat16):
        found = student.generate(
            ids,
            attention_mask=mask.to(given.device),
            max_new_tokens=given.max_new_tokens,
            do_sample=True,
            top_k=0,
            pad_token_id=0,
        )
    if given.device == "cuda":
        torch.cuda.synchronize()
    if found.shape[1] != width + given.max_new_tokens:
        raise SystemExit("transformers generated another number of tokens")
    return time.perf_counter() - began


def report(
    given: argparse.Namespace,
    fast: str,
    seconds: dict[tuple[str, str], list[float]],
    texts: dict[tuple[str, str], Generated],
) -> None:
    """Print the table and, last, one JSON object."""

    def ratio(slow: tuple[str, str], quick: tuple[str, str]) -> float:
        pairs = zip(seconds[slow], seconds[quick], strict=True)
        return statistics.median(one / other for one, other in pairs)

    tokens, alone = given.rows * given.max_new_tokens, next(iter(ways(0.0)))
    for (kind, name), some in seconds.items():
        spent = statistics.median(some)
        print(f"{kind:12} {name:24} {spent:7.2f} s {tokens / spent:8.0f} tokens/s")
    found: dict[str, Any] = {
        "device": describe_device(torch.device(given.device)),
        "threads": torch.get_num_threads(),
        "rows": given.rows,
        "max_new_tokens": given.max_new_tokens,
        "seconds": {f"{kind}: {n}": statistics.median(t) for (kind, n), t in seconds.items()},
    }
    guessed = {n: guessed_share(texts["plain", alone].tokens.tolist(), n) for n in (1, 2, 3)}
    shares = ", ".join(f"{n} {share:.1%}" for n, share in guessed.items())
    print(f"tokens of the student that n-grams of its own text guess, by n: {shares}")
    found["guessed_share"] = guessed
    for kind in ("plain", fast, *(["vllm"] if given.vllm else [])):
        faster = ratio(GENERATE, (kind, alone))
        print(f"{kind}: the student alone is {faster:.2f} times as fast as generate", end=" ")
        print(f"(aim {AIM_AGAINST_GENERATE})")
        found[kind] = {"generate_to_student_ratio": faster}
        if not given.alone and kind != "vllm":
            found[kind] |= switch_facts(kind, texts, ratio)
    faster = {name: ratio(("plain", name), (fast, name)) for kind, name in texts if kind == fast}
    print(f"{fast} is faster:", ", ".join(f"{name} {x:.2f}" for name, x in faster.items()))
    found[f"plain_to_{fast}_ratio"] = faster
    print(json.dumps(found))


def guessed_share(texts: list[list[int]], length: int) -> float:
    """Share of tokens that followed when the tokens before them were seen last in the same text.

    That is what a drafter without a model would have right (Saxena 2023, prompt lookup decoding).
    """
    right = 0
    for text in texts:
        followed: dict[tuple[int, ...], int] = {}
        for place in range(length, len(text)):
            before = tuple(text[place - length : place])
            right += followed.get(before) == text[place]
            followed[before] = text[place]
    return right / sum(map(len, texts))


def switch_facts(
    kind: str,
    texts: dict[tuple[str, str], Generated],
    ratio: Callable[[tuple[str, str], tuple[str, str]], float],
) -> dict[str, float]:
    """Print how both ways of the switch compare, and return it."""
    alone, one, many = ((kind, name) for name in ways(0.0))
    facts = {
        "teacher_share": float(texts[many].by_teacher.float().mean()),
        "same_share": float((texts[many].tokens == texts[one].tokens).float().mean()),
        "tokens_to_drafts_ratio": ratio(one, many),
        "drafts_to_student_ratio": ratio(many, alone),
    }
    print(f"{kind}: the teacher generated {facts['teacher_share']:.0%};", end=" ")
    print(f"both ways of the switch give the same token at {facts['same_share']:.1%} of places;")
    print(f"drafts are {facts['tokens_to_drafts_ratio']:.2f} times as fast as tokens", end=" ")
    print(f"(aim {AIM_AGAINST_TOKENS}), and take", end=" ")
    print(f"{facts['drafts_to_student_ratio']:.2f} times as long as the student alone")
    return facts


if __name__ == "__main__":
    main()

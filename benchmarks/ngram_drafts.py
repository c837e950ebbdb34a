"""What drafts without a model would save: n-grams of the prompt and of the text so far.

A decoder answers prompts alone. Then it is counted how many forwards the same text would have taken
if the tokens that followed the last ones when they were seen before had been drafted, and the
model had read the whole draft at once (Saxena 2023, prompt lookup decoding; transformers'
``prompt_lookup_num_tokens``). What such a forward costs is timed beside that of one token. The
drafts themselves are taken to cost nothing, so that the ratio is the most that they could give.

    python benchmarks/ngram_drafts.py MODEL --prompts DIR/NAME [--rows 8] [--temperature 0]
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch

from limbeck.data.prompts import read_prompts
from limbeck.generation.decoding import DecodingOptions, generate
from limbeck.generation.drafting import most_places
from limbeck.generation.readers import Readers
from limbeck.generation.rules import Student
from limbeck.models.families.lookup import architecture_of
from limbeck.models.load import load_config, load_model
from limbeck.system.device import describe_device
from limbeck.system.linux import keep_freed_memory
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.prompts import encode_prompts

LONGEST = 2  # tokens that must have been seen before, or one of them: transformers' default
REPEATS = 5


def drafted(text: Sequence[int], length: int) -> list[int]:
    """So many tokens at most that followed the last ones where these stood before.

    >>> drafted([5, 6, 7, 8, 5, 6], 3)
    [7, 8, 5]
    """
    for size in range(min(LONGEST, len(text) - 1), 0, -1):
        last = list(text[-size:])
        for place in range(len(text) - size - 1, -1, -1):
            if list(text[place : place + size]) == last:
                return list(text[place + size : place + size + length])
    return []


def forwards(prompt: Sequence[int], answer: Sequence[int], length: int) -> int:
    """Forwards that a given answer takes with drafts of so many tokens at most."""
    text, done, count = list(prompt), 0, 0
    while done < len(answer):
        right = 0
        for token in drafted(text, length):
            if done + right == len(answer) - 1 or token != answer[done + right]:
                break
            right += 1
        text += answer[done : done + right + 1]
        done += right + 1
        count += 1
    return count


@torch.no_grad()
def forward_seconds(model: Any, vocabulary: int, rows: int, places: int, new: int) -> float:
    """Processor time of a forward over new tokens, after so many that were read before."""
    size = {"rows": rows, "places": most_places(places + new * (REPEATS + 1), new)}
    reader = Readers().of("student", model, vocabulary, **size)
    at = torch.arange(places).expand(rows, -1)
    reader.remember(at % vocabulary, at, torch.ones(rows, places, dtype=torch.bool))
    mask = torch.ones(rows, places + new, dtype=torch.bool)
    ids = torch.full((rows, new), 5)
    positions = torch.arange(places, places + new).expand(rows, -1)
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.process_time()
        reader.read(ids, positions, mask)
        seconds.append(time.process_time() - began)
        reader.forget_after(places)
    reader.end()
    return statistics.median(seconds[1:])


def main() -> None:
    """Print forwards, their costs and the ratio for every length of a draft."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--prompts", required=True, help="DIR/NAME of a file of prompts")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512, help="of prompt and answer")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0)
    given = parser.parse_args()
    keep_freed_memory()
    tokenizer = load_tokenizer(given.model)
    architecture = architecture_of(load_config(given.model))
    model = load_model(given.model, architecture=architecture, with_head=True)
    chat = tokenizer.chat_template is not None
    table = encode_prompts(
        list(islice(read_prompts(given.prompts), given.rows)),
        tokenizer,
        max_length=given.max_length,
        max_new_tokens=given.max_new_tokens,
        separator="\n",
        chat_template=chat,
    )
    prompts = [prompt.tolist() for prompt in table.prompts]
    found = generate(
        model,
        None,
        prompts,
        Student(),
        options=DecodingOptions(given.max_new_tokens, given.temperature),
        vocabulary=len(tokenizer),
        eos_token_id=[],
        readers=Readers(),
    )
    answers = found.tokens.tolist()
    places = max(map(len, prompts))
    print(describe_device(torch.device("cpu")))
    print(f"{given.rows} answers of {given.max_new_tokens} tokens to {places}", end=" ")
    print(f"at temperature {given.temperature:g}")
    facts: dict[str, Any] = {"temperature": given.temperature, "drafts": {}}
    read = partial(forward_seconds, model, len(tokenizer))
    one = {rows: read(rows, places, 1) for rows in (1, given.rows)}
    for length in (1, 3, 7):
        counts = [forwards(*pair, length) for pair in zip(prompts, answers, strict=True)]
        share = statistics.mean(counts) / given.max_new_tokens
        costs = {rows: read(rows, places, length + 1) / alone for rows, alone in one.items()}
        ratios = {rows: 1 / (share * cost) for rows, cost in costs.items()}
        facts["drafts"][length] = {"forwards": share, "costs": costs, "ratios": ratios}
        shown = ", ".join(f"{rows} rows {cost:.2f}" for rows, cost in costs.items())
        best = ", ".join(f"{rows} rows {ratio:.2f}" for rows, ratio in ratios.items())
        print(f"drafts of {length}: {share:.2f} of the forwards; each costs {shown}; ratio {best}")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

"""What a model folder costs: parameters, disk, memory, and milliseconds on a CPU.

Measured in a process of its own, so that peak memory is the model's alone and the
number of threads is as given.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..errors import EvaluationError, ModelError
from ..models.auto_classes import body_class, empty_model, whole_class
from ..models.families.lookup import architecture_of
from ..models.load import load_body, load_config, load_model
from ..models.locate import locate
from ..models.low_rank_layers import add_low_rank_layers, low_rank_ranks
from ..models.modules import longest_text, parameter_counts
from ..models.weight_headers import decodes
from ..reports.model_results import Cost, Latency
from ..system.child import ChildError, returned_by
from ..system.memory import peak_process_bytes

BATCHES = (1, 32)
LENGTHS = (16, 64, 128)
_WARM_UP = 3
_FEWEST, _LONGEST = 3, 4  # forwards at least, where those requested take so many times too long
_GENERATED = 32  # tokens that a decoder generates, each time
SENTENCE_LENGTH = 64  # tokens of the one text that "milliseconds a sentence" means, by default


def measure_cost(
    model: str,
    *,
    batches: Sequence[int] = BATCHES,
    lengths: Sequence[int] = LENGTHS,
    sentence: int = SENTENCE_LENGTH,
    threads: int | None = None,
    seconds_each: float = 1.0,
    minimum_runs: int = 10,
) -> Cost:
    """The cost of a model folder, measured in a fresh process.

    The body alone runs, in float32, on random tokens, with the attention that
    transformers chooses. One sentence is always timed too; lengths that the
    model cannot read are left out. Decoders with a head also generate.

    Args:
        model: Folder, hub name or package name.
        batches: Texts at once.
        lengths: Tokens a text.
        sentence: Tokens of a sentence, or all that the model can read. Give more for a
            vocabulary that splits the same words into more tokens.
        threads: That compute; by default as many as torch uses here.
        seconds_each: Time spent on each combination, at least.
        minimum_runs: Forwards timed for each combination, at least; three do where so many
            would take more than four times ``seconds_each``.

    Raises:
        EvaluationError: The process failed; its last lines are in the message.
        ModelError: There is no such model, or it cannot be loaded safely.
    """
    threads = torch.get_num_threads() if threads is None else threads
    if min(threads, minimum_runs, sentence, *batches, *lengths) < 1:
        raise EvaluationError(
            f"threads {threads}, minimum_runs {minimum_runs}, batches {list(batches)}, lengths"
            f" {list(lengths)}, sentence {sentence}: all must be 1 or more; raise those that are"
            " not"
        )
    load_config(model)  # says here, and not in the process, that there is no such model
    given = {
        "folder": locate(model),
        "batches": [*batches],
        "lengths": [*lengths],
        "sentence": sentence,
        "threads": threads,
        "seconds": seconds_each,
        "minimum_runs": minimum_runs,
    }
    try:
        facts = returned_by(_measured, given)
    except ChildError as error:
        ended, tail = error.args
        raise EvaluationError(
            f"the cost of {model} could not be measured: the process ended with {ended}, often for"
            f" lack of memory; give smaller batches:\n{tail}"
        ) from error
    return Cost.from_json(facts)


def model_size(model: str) -> dict[str, Any]:
    """The facts of a `Cost` that need no clock: parameters, megabytes, vocabulary."""
    place = locate(model)
    config = load_config(place)
    used = empty_model(_class_used(place, config), config)
    with torch.device("meta"):
        add_low_rank_layers(used, low_rank_ranks(config))
    parameters, embeddings = parameter_counts(_without_pooler(used))
    on_disk = sum(file.stat().st_size for file in Path(place).glob("*.safetensors"))
    return {
        "parameters": parameters,
        "embedding_parameters": embeddings,
        "megabytes": (on_disk or 4 * parameters) / 1e6,
        "vocabulary_size": config.get_text_config().vocab_size,
    }


def _class_used(place: str, config: Any) -> Any:
    """The class of what is used of a model: a decoder with its head, the body of any other."""
    try:
        architecture = architecture_of(config)
    except ModelError:
        return body_class(config.model_type)
    if decodes(place, architecture=architecture):
        return whole_class(architecture)
    return body_class(config.model_type)


def _measured(
    *,
    folder: str,
    batches: Sequence[int],
    lengths: Sequence[int],
    sentence: int,
    threads: int,
    seconds: float,
    minimum_runs: int,
) -> dict[str, Any]:
    """A cost as JSON holds it: what the process that is measured computes."""
    torch.set_num_threads(threads)
    size = model_size(folder)  # before the baseline: it imports the code of the architecture
    before = peak_process_bytes()
    model = load_body(folder)
    model.config.use_cache = False  # a decoder would keep keys and values that nothing needs
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.sum()  # memory-mapped weights count only once they have been read
        longest = longest_text(model)
        one = (1, min(sentence, longest))
        pairs = {(batch, n) for batch in batches for n in lengths if n <= longest} | {one}
        latencies = {pair: _latency(model, *pair, seconds, minimum_runs) for pair in sorted(pairs)}
    after = peak_process_bytes()
    return Cost(
        **size,
        peak_memory_bytes=None if before is None or after is None else after - before,
        threads=threads,
        precision="float32",
        pieces_per_sentence=one[1],
        cpu_ms_per_sentence=1000 * latencies[one].p50,
        latencies=tuple(latencies.values()),
        cpu_ms_per_written_piece=_generated_token(folder, one[1], longest, seconds),
    ).to_json()


def _without_pooler(model: Any) -> PreTrainedModel:
    """The model without its pooler, which some folders have and others lack."""
    if "pooler" in dict(model.named_children()):
        model.pooler = None
    return model  # type: ignore[no-any-return]


def _latency(model: Any, batch: int, length: int, seconds: float, minimum_runs: int) -> Latency:
    ids = _random_tokens(model, batch, length)
    began = time.perf_counter()
    for _ in range(_WARM_UP):
        model(input_ids=ids)
        if time.perf_counter() - began > seconds:
            break
    times: list[float] = []
    while sum(times) < seconds or len(times) < minimum_runs:
        began = time.perf_counter()
        model(input_ids=ids)
        times.append(time.perf_counter() - began)
        if len(times) >= _FEWEST and sum(times) > _LONGEST * seconds:
            break
    p50, p95 = np.percentile(times, [50, 95])
    return Latency(batch, length, float(p50), float(p95))


def _generated_token(folder: str, sentence: int, longest: int, seconds: float) -> float | None:
    """Milliseconds of a token after so many; None of a model that generates nothing."""
    try:
        architecture = architecture_of(load_config(folder))
    except ModelError:
        return None
    if not architecture.causal:
        return None
    prompt = max(1, min(sentence, longest - _GENERATED))
    model: Any = load_model(folder, architecture=architecture)
    if model is model.base_model or prompt == longest:  # without a head, or without room
        return None
    times: list[float] = []
    with torch.inference_mode():
        while sum(times) < seconds or not times:
            kept = DynamicCache(config=model.config)
            found = model(input_ids=_random_tokens(model, 1, prompt), cache=kept, use_cache=True)
            for _ in range(min(_GENERATED, longest - prompt)):
                began = time.perf_counter()
                best = found.logits[:, -1:].argmax(-1)
                found = model(input_ids=best, cache=kept, use_cache=True)
                times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))


def _random_tokens(model: Any, batch: int, length: int) -> Tensor:
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    # The first ids are mostly special tokens, of which padding would move RoBERTa's positions.
    return torch.randint(min(5, vocabulary - 1), vocabulary, (batch, length), generator=generator)

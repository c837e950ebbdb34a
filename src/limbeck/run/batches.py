"""The tokenized text of a recipe: batches to learn from, held-out ones, and calibration text."""

from collections import Counter
from itertools import chain, islice

import datasets
import numpy as np
from jaxtyping import Int64
from transformers import PreTrainedTokenizerFast

from ..batch import Batch, Tokens
from ..data.corpus import SeededOrder
from ..data.prompts import read_prompts
from ..data.text import read_documents
from ..errors import RecipeError
from ..objectives.schedule import number as ramped
from ..recipe.check import Setup
from ..system.fingerprints import cache_folder
from ..token_ids import TokenIds
from ..tokenization.aligned import AlignedBatches
from ..tokenization.batching import Batches, BatchSource
from ..tokenization.masking import Masking, NextToken
from ..tokenization.mixed import MixedBatches
from ..tokenization.packing import HeldOut, Sequences, tokenize_source
from ..tokenization.plain_text import spelled_note
from ..tokenization.prompts import PromptBatches
from ..tokenization.text_bytes import tokenize_texts
from ..tokenization.trim import count_tokens
from ..tokenization.two_cuts import cut_twice
from .prompt_batches import held_out_prompts, prompt_batches

# From so much text at most main directions are taken, read at one time.
_CALIBRATION_SEQUENCES, _CALIBRATION_TOKENS = 64, 32_768
_HELD_OUT_AT_ONCE = 32
_DOCUMENTS_COUNTED = 5000


def read_text(
    setup: Setup, *, held_out: bool, tokenizer: PreTrainedTokenizerFast | None = None
) -> list[Sequences]:
    """The tokenized sources, from the cache where they have been tokenized before."""
    data = setup.recipe.data
    return [
        tokenize_source(
            source,
            tokenizer or setup.models.tokenizer,
            length=data.max_length,
            packed=data.packing,
            held_out=HeldOut(held_out, data.held_out.fraction),
            cache=cache_folder() / "tokenized",
        )
        for source in data.text
    ]


def stage_batches(setup: Setup, number: int) -> BatchSource:
    """The batches that a stage learns from."""
    stage, seed = setup.stages[number], setup.recipe.seed + number
    if stage.mixed is not None:
        return _mixed_batches(setup, number, held_out=False, size=stage.batch_size, seed=seed)
    if stage.alignment:
        return _aligned_batches(setup, number, held_out=False, size=stage.batch_size, seed=seed)
    if stage.policy is not None:
        return prompt_batches(setup, held_out=False, size=stage.batch_size, seed=seed)
    return _batches(
        setup, held_out=False, size=stage.batch_size, masking=setup.maskings[number], seed=seed
    )


def stage_held_out(setup: Setup, number: int) -> list[Batch]:
    """What a stage is measured on while it learns."""
    stage = setup.stages[number]
    if stage.policy is not None:
        return _some(setup, prompt_batches(setup, held_out=True, size=_held_out_size(setup)))
    if stage.mixed is None and not stage.alignment:
        return held_out_batches(setup, masking=setup.maskings[number])
    size = _held_out_size(setup)
    made = _aligned_batches if stage.alignment else _mixed_batches
    return _some(setup, made(setup, number, held_out=True, size=size, seed=0))


def held_out_batches(
    setup: Setup,
    *,
    masking: Masking | NextToken | None,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> list[Batch]:
    """The same held-out sequences, masked the same way, for every run on these texts.

    Args:
        setup: Of the run.
        masking: What is to be predicted.
        tokenizer: The student's by default.
    """
    size = _held_out_size(setup)
    if not setup.recipe.data.text:
        return _some(setup, prompt_batches(setup, held_out=True, size=size))
    return _some(
        setup,
        _batches(setup, held_out=True, size=size, masking=masking, seed=0, tokenizer=tokenizer),
    )


def _held_out_size(setup: Setup) -> int:
    return min(_HELD_OUT_AT_ONCE, setup.recipe.data.held_out.sequences)


def _some(
    setup: Setup, batches: Batches | MixedBatches | AlignedBatches | PromptBatches
) -> list[Batch]:
    available = min(setup.recipe.data.held_out.sequences, len(batches.table))
    return [batches.batch(number) for number in range(max(1, available // batches.size))]


def counts_of_cuts(setup: Setup) -> dict[str, dict[str, int]]:
    """What was counted when the training text was cut twice, for each stage that reads it so."""
    counted = {}
    for stage in setup.stages:
        if stage.alignment or stage.mixed is not None:
            found = Counter[str]()
            for source in _cut_twice(setup, held_out=False, finest=stage.alignment):
                found.update(source.counts)
            counted[stage.name] = dict(found)
    return counted


def spelled_notes(setup: Setup) -> list[str]:
    """How many special tokens each text that was learned from spells, where there are some."""
    cut_once = any(not s.alignment and s.mixed is None and not s.policy for s in setup.stages)
    read = read_text(setup, held_out=False) if cut_once else None
    if read is None and setup.recipe.data.text:
        finest = any(stage.alignment for stage in setup.stages)
        read = _cut_twice(setup, held_out=False, finest=finest)
    found: list[str] = []
    for source, sequences in zip(setup.recipe.data.text, read or (), strict=True):
        found += spelled_note(source.path, sequences.spelled)
    return found


def tokens_per_byte(setup: Setup, tokenizer: PreTrainedTokenizerFast) -> float:
    """Tokens that a tokenizer cuts the held-out text into, by its size in UTF-8."""
    if not setup.recipe.data.text:
        texts = [row.references[0] for row in held_out_prompts(setup)]
        cut = tokenize_texts(tokenizer, texts)
        return sum(len(one.ids) for one in cut) / sum(len(text.encode()) for text in texts)
    sources = read_text(setup, held_out=True, tokenizer=tokenizer)
    tokens = sum(source.tokens + source.truncated_tokens for source in sources)
    return tokens / sum(source.utf8_bytes for source in sources)


def calibration_tokens(setup: Setup) -> Tokens:
    """A little text as it is, for what is computed from a model's own activations."""
    size = max(1, min(_CALIBRATION_SEQUENCES, _CALIBRATION_TOKENS // setup.recipe.data.max_length))
    if not setup.recipe.data.text:
        return prompt_batches(setup, held_out=False, size=size).batch(0).teacher
    batches = _batches(setup, held_out=False, size=size, masking=None, seed=setup.recipe.seed)
    return batches.batch(0).teacher


def teacher_token_counts(setup: Setup) -> Int64[np.ndarray, " teacher_vocabulary"]:
    """How often the first documents of each source have the teacher's tokens."""
    tokenizer = setup.models.teacher_tokenizer
    if tokenizer is None:
        raise RecipeError("without a teacher there are no tokens of its to count; name one")
    data = setup.recipe.data
    read = [read_documents(source) for source in data.text]
    read += [(row.references[0] for row in read_prompts(place)) for place in data.prompts]
    documents = chain.from_iterable(islice(some, _DOCUMENTS_COUNTED) for some in read)
    counts = count_tokens(tokenizer, documents)
    names = tokenizer.convert_ids_to_tokens(list(range(TokenIds.of(tokenizer).end)))
    return np.array([counts.get(name, 0) for name in names], dtype=np.int64)


def _batches(
    setup: Setup,
    *,
    held_out: bool,
    size: int,
    masking: Masking | NextToken | None,
    seed: int,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Batches:
    tokenizer = tokenizer or setup.models.tokenizer
    sources = read_text(setup, held_out=held_out, tokenizer=tokenizer)
    return Batches(
        table=datasets.concatenate_datasets([source.table for source in sources]),
        order=_order(setup, sources, seed),
        tokenizer=tokenizer,
        size=size,
        masking=masking,
        seed=seed,
        apart=setup.recipe.data.isolate_documents,
    )


def _mixed_batches(
    setup: Setup, number: int, *, held_out: bool, size: int, seed: int
) -> MixedBatches:
    stage, models, masking = setup.stages[number], setup.models, setup.maskings[number]
    if models.teacher is None or models.teacher_tokenizer is None or stage.mixed is None:
        raise RecipeError("a mixed stage needs a teacher; name one")
    sources = _cut_twice(setup, held_out=held_out)
    steps = [stage.steps] if held_out else range(stage.steps)  # measured as at the end
    return MixedBatches(
        table=datasets.concatenate_datasets([source.table for source in sources]),
        order=_order(setup, sources, seed),
        teacher=models.teacher_tokenizer,
        student=models.tokenizer,
        student_from=models.teacher.vocab_size,
        size=size,
        masking=masking if isinstance(masking, Masking) else Masking(),
        shares=[ramped(stage.mixed, stage.progress(step)) for step in steps],
        seed=seed,
    )


def _aligned_batches(
    setup: Setup, number: int, *, held_out: bool, size: int, seed: int
) -> AlignedBatches:
    models, masking = setup.models, setup.maskings[number]
    part = setup.recipe.stages[number].alignment
    if models.teacher_tokenizer is None or part is None:
        raise RecipeError("a stage with an alignment needs a teacher; name one")
    masking = NextToken() if models.architecture.causal else masking
    sources = _cut_twice(setup, held_out=held_out, finest=True)
    return AlignedBatches(
        table=datasets.concatenate_datasets([source.table for source in sources]),
        order=_order(setup, sources, seed),
        teacher=models.teacher_tokenizer,
        student=models.tokenizer,
        tokens=models.tokens,
        kind=part.kind,
        size=size,
        masking=masking,
        teacher_input=part.teacher_input,
        positions=models.student.max_position_embeddings,
        seed=seed,
    )


def _cut_twice(setup: Setup, *, held_out: bool, finest: bool = False) -> list[Sequences]:
    data, models = setup.recipe.data, setup.models
    if models.teacher_tokenizer is None:
        raise RecipeError("a mixed stage needs a teacher; name one")
    return [
        cut_twice(
            source,
            models.teacher_tokenizer,
            models.tokenizer,
            length=data.max_length,
            held_out=HeldOut(held_out, data.held_out.fraction),
            cache=cache_folder() / "tokenized",
            finest=finest,
        )
        for source in data.text
    ]


def _order(setup: Setup, sources: list[Sequences], seed: int) -> SeededOrder:
    weights = tuple(source.weight for source in setup.recipe.data.text)
    return SeededOrder(tuple(len(source.table) for source in sources), weights, seed)

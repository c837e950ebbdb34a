"""The tokenized text of a recipe: batches to learn from, held-out ones, and calibration text."""

import os
from pathlib import Path

import datasets

from .batch import Batch, Tokens
from .build import Setup
from .data.corpus import SeededOrder
from .tokenization.batching import Batches
from .tokenization.masking import Masking, NextPiece
from .tokenization.packing import Sequences, tokenize_source

_CALIBRATION = 64  # sequences from which the main directions of the hidden states are taken
_HELD_OUT_AT_ONCE = 32


def read_text(setup: Setup, *, held_out: bool) -> list[Sequences]:
    """The tokenized sources, from the cache where they have been tokenized before."""
    data = setup.recipe.data
    return [
        tokenize_source(
            source,
            setup.models.tokenizer,
            length=data.length,
            packed=data.packed,
            held_out=held_out,
            held_out_share=data.held_out.share,
            cache=cache_folder() / "tokenized",
        )
        for source in data.text
    ]


def cache_folder() -> Path:
    """Where tokenized text is kept: $LIMBECK_CACHE, or .cache/limbeck at home."""
    return Path(os.environ.get("LIMBECK_CACHE", "~/.cache/limbeck")).expanduser()


def stage_batches(setup: Setup, number: int) -> Batches:
    """The batches that a stage learns from."""
    stage, seed = setup.stages[number], setup.recipe.seed + number
    return _batches(
        setup, held_out=False, size=stage.batch_size, masking=setup.maskings[number], seed=seed
    )


def held_out_batches(setup: Setup, *, masking: Masking | NextPiece | None) -> list[Batch]:
    """The same held-out sequences, masked the same way, for every run on these texts."""
    wanted = setup.recipe.data.held_out.sequences
    size = min(_HELD_OUT_AT_ONCE, wanted)
    batches = _batches(setup, held_out=True, size=size, masking=masking, seed=0)
    available = min(wanted, len(batches.table))
    return [batches.batch(number) for number in range(max(1, available // size))]


def calibration_tokens(setup: Setup) -> Tokens:
    """A little text as it is, for what is computed from the teacher's own activations."""
    batches = _batches(
        setup, held_out=False, size=_CALIBRATION, masking=None, seed=setup.recipe.seed
    )
    return batches.batch(0).teacher


def _batches(
    setup: Setup, *, held_out: bool, size: int, masking: Masking | NextPiece | None, seed: int
) -> Batches:
    sources = read_text(setup, held_out=held_out)
    weights = tuple(source.weight for source in setup.recipe.data.text)
    return Batches(
        table=datasets.concatenate_datasets([source.table for source in sources]),
        order=SeededOrder(tuple(len(source.table) for source in sources), weights, seed),
        tokenizer=setup.models.tokenizer,
        size=size,
        masking=masking,
        seed=seed,
    )

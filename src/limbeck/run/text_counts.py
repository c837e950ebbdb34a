"""What is counted in the text of a recipe: tokens, bytes, and special tokens that it spells."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain, islice

import numpy as np
from jaxtyping import Int64
from transformers import PreTrainedTokenizerFast

from ..data.prompts import read_prompts
from ..data.text import read_documents
from ..recipe.setup import Setup
from ..recipe.task_rows import text_of
from ..token_ids import TokenIds
from ..tokenization.plain_text import spelled_note
from ..tokenization.text_bytes import tokenize_texts
from ..tokenization.trim import count_tokens
from .batches import read_text, tokenized_twice
from .prompt_batches import held_out_prompts

_DOCUMENTS_COUNTED = 5000


def counts_of_two_tokenizations(setup: Setup) -> dict[str, dict[str, int]]:
    """Counts of the training text in both tokenizations, for each stage that reads it so."""
    counted = {}
    for stage in setup.stages:
        if (stage.alignment and not stage.rows) or stage.mixed is not None:
            found = Counter[str]()
            for source in tokenized_twice(setup, held_out=False, finest=stage.alignment):
                found.update(source.counts)
            counted[stage.name] = dict(found)
    return counted


def spelled_notes(setup: Setup) -> list[str]:
    """How many special tokens each text that was learned from spells, where there are some."""
    once = any(not s.alignment and s.mixed is None and not s.policy for s in setup.stages)
    read = read_text(setup, held_out=False) if once else None
    if read is None and setup.recipe.data.text:
        finest = any(stage.alignment and not stage.rows for stage in setup.stages)
        read = tokenized_twice(setup, held_out=False, finest=finest)
    found: list[str] = []
    for source, sequences in zip(setup.recipe.data.text, read or (), strict=True):
        found += spelled_note(source.path, sequences.spelled)
    return found


def tokens_per_byte(setup: Setup, tokenizer: PreTrainedTokenizerFast) -> float:
    """Tokens of the held-out text by a tokenizer, divided by its bytes in UTF-8."""
    if not setup.recipe.data.text:
        texts = (
            [text_of(row) for row in setup.rows.held_out]
            if setup.rows
            else [row.references[0] for row in held_out_prompts(setup)]
        )
        tokenized = tokenize_texts(tokenizer, texts)
        return sum(len(one.ids) for one in tokenized) / sum(len(text.encode()) for text in texts)
    sources = read_text(setup, held_out=True, tokenizer=tokenizer)
    tokens = sum(source.tokens + source.truncated_tokens for source in sources)
    return tokens / sum(source.utf8_bytes for source in sources)


def teacher_token_counts(setup: Setup) -> Int64[np.ndarray, " teacher_vocabulary"]:
    """How often the first documents of each source have the teacher's tokens."""
    tokenizer = setup.models.required_teacher().tokenizer
    data = setup.recipe.data
    read: list[Iterable[str]] = [read_documents(source) for source in data.text]
    read += [(row.references[0] for row in read_prompts(place)) for place in data.prompts]
    read += [map(text_of, setup.rows.train)] if setup.rows else []
    documents = chain.from_iterable(islice(some, _DOCUMENTS_COUNTED) for some in read)
    counts = count_tokens(tokenizer, documents)
    names = tokenizer.convert_ids_to_tokens(list(range(TokenIds.of(tokenizer).end)))
    return np.array([counts.get(name, 0) for name in names], dtype=np.int64)

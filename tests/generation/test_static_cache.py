"""The static cache holds what a growing one holds, and transformers still reads it as one."""

import pytest
import torch
from conftest import make_model, with_full_attention
from transformers.cache_utils import CacheLayerMixin

from limbeck.generation.reader import Reader
from limbeck.generation.static_cache import StaticCache
from limbeck.models.families import ARCHITECTURES

DECODERS = [name for name, architecture in ARCHITECTURES.items() if architecture.causal]
ROWS, NEW = 3, 6


class StaticReader(Reader):
    """A reader with a static cache, whose forwards are plain ones."""

    def __init__(self, model, ids, rows, places):
        super().__init__(model, ids)
        layers = model.config.num_hidden_layers
        self.static = StaticCache(layers, rows=rows, places=places, device=model.device)
        self.cache = self.static.cache
        self.forget_after, self.keep_places = self.static.forget_after, self.static.keep_places

    def read(self, ids, positions, mask):
        found = super().read(ids, positions, mask)
        self.static.fill(ids.shape[1])
        return found


def test_a_cache_layer_is_what_transformers_expects_of_one():
    """A method more would be called of every model; this one would inherit what it should not."""
    assert CacheLayerMixin.__abstractmethods__ == {
        "lazy_initialization",
        "update",
        "get_mask_sizes",
        "get_seq_length",
        "get_max_length",
    }
    assert vars(CacheLayerMixin).keys() >= {"is_compileable", "reset", "reorder_cache"}
    assert not CacheLayerMixin.is_compileable


def test_a_model_says_which_attention_it_uses():
    """`can_replay` reads it from a field that has no public name."""
    assert make_model("llama").config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", DECODERS)
def test_places_that_are_forgotten_and_moved_are_those_of_a_growing_cache(family):
    model = with_full_attention(family).double()
    ids = torch.randint(5, 200, (ROWS, 3 * NEW), generator=torch.Generator().manual_seed(0))
    growing, static = Reader(model, 200), StaticReader(model, 200, ROWS, 40)
    mask = torch.ones(ROWS, NEW, dtype=torch.bool)
    positions = torch.arange(NEW).expand(ROWS, -1)
    found = []
    with torch.no_grad():
        for reader in (growing, static):
            reader.read(ids[:, :NEW], positions, mask)
            reader.forget_after(NEW - 1)
            reader.keep_places(torch.tensor([[0, 2, 3], [1, 2, 4], [0, 1, 4]]))
            wide = torch.ones(ROWS, 5, dtype=torch.bool)
            found.append(reader.read(ids[:, NEW : NEW + 2], positions[:, 3:5], wide))
            assert reader.cache.get_seq_length() == 5
    assert torch.equal(*found)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "phi3", "gpt_neox"])
def test_under_autocast_keys_are_kept_as_attention_reads_them(family):
    """Half of the bytes, and the very log-probabilities of keys that are kept in float32."""
    model = with_full_attention(family)
    ids = torch.randint(5, 200, (ROWS, 2 * NEW), generator=torch.Generator().manual_seed(0))
    growing, static = Reader(model, 200), StaticReader(model, 200, ROWS, 40)
    assert static.static.nbytes == 0
    found = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for reader in (growing, static):
            logs = [
                reader.read(
                    ids[:, start : start + NEW],
                    torch.arange(start, start + NEW).expand(ROWS, -1),
                    torch.ones(ROWS, start + NEW, dtype=torch.bool),
                )
                for start in (0, NEW)
            ]
            found.append(torch.stack(logs))
    assert torch.equal(*found)
    tables = [t for layer in static.cache.layers for t in (layer.keys, layer.values)]
    assert {table.dtype for table in tables} == {torch.bfloat16}
    assert static.static.nbytes == sum(2 * table.numel() for table in tables)

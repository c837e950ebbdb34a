"""In what a family differs from BERT, as its row of the table says; torch is not imported."""

from ..architecture import Architecture

_POSITIONS = {
    "rotary": "rotary positions",
    "relative": "relative positions",
    "alibi": "ALiBi",
}
# What no field of a row says, because nothing depends on it.
_OF_FAMILIES = {
    "mpnet": "relative attention bias shared by all layers",
    "deberta-v2": "disentangled attention, two heads",
    "opt": "maps around the layers where embeddings are narrower",
    "smollm3": "some layers without rotary positions",
    "granite": "multipliers",
    "gemma2": "four norms, windows",
    "gemma3_text": "four norms, windows",
    "olmo2": "norms after attention and feed-forward",
    "gpt_neox": "attention and feed-forward side by side",
    "falcon": "three layouts, ALiBi in some",
    "phi3": "fused gate and up",
    "modernbert": "windows, fused gate and up",
    "qwen3_5_text": "most layers are linear attention",
}


def quirks(row: Architecture, model_type: str) -> list[str]:
    """In what a family differs from BERT, in a word each."""
    found = {
        "encoder of a pair": row.text_encoder,
        _POSITIONS.get(row.positions, ""): row.positions != "table",
        "positions after padding": row.positions_after_padding,
        "fused projections": row.fused and bool(row.query) and not row.grouped,
        "fused projections by group": row.grouped,
        "norms of queries and keys": bool(row.query_norm),
        "norms of 1 + w": row.norms_add_one,
        "one layer runs many times": row.shared_layers,
        "convolution after the first layer": bool(row.first_output),
        "transposed weights": row.inputs_first,
        "divided logits": bool(row.logits_divisor_field),
        "bounded logits": bool(row.soft_cap_field),
        _OF_FAMILIES.get(model_type, ""): model_type in _OF_FAMILIES,
    }
    return [name for name, holds in found.items() if holds]

"""Models whose forward over some tokens is the same computation each time."""

from transformers import PreTrainedModel

from ..models.attention import FLOAT32_ATTENTION

_STEADY = ("default", "linear", "llama3", "yarn")  # rotary positions that no length changes


def has_steady_forward(model: PreTrainedModel) -> bool:
    """Whether attention is computed by torch, and what a place gives does not depend on others.

    A model has none whose layers are brought to the device one by one: their weights are elsewhere.
    """
    if any(weight.is_meta for weight in model.parameters()):
        return False
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [some for some in rope.values() if isinstance(some, dict)] or [rope]
    return (
        # transformers has no public name for the attention that a loaded model uses.
        config._attn_implementation in ("sdpa", FLOAT32_ATTENTION)
        and not getattr(config, "alibi", False)  # these compute from the mask where tokens are
        and all(some.get("rope_type", "default") in _STEADY for some in kinds)
    )

"""Attention in float32 within a bfloat16 forward: on a CPU its backward is several times faster.

Only the scaled dot product is affected; the projections around it stay in bfloat16.
benchmarks/step.py measures the gain.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .attention_masks import from_known

FLOAT32_ATTENTION = "limbeck_float32"


def use_float32_attention(model: PreTrainedModel) -> None:
    """Let the model compute attention in float32, also under autocast.

    Families that compute attention in a way of their own (with a learned bias, or with bounded
    scores) are left as they are.
    """
    if model.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(FLOAT32_ATTENTION, _float32_sdpa)
    AttentionMaskInterface.register(FLOAT32_ATTENTION, from_known(sdpa_mask))
    model.set_attn_implementation(FLOAT32_ATTENTION)


def _float32_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,  # transformers passes more arguments by name
) -> tuple[Tensor, None]:
    with torch.autocast(query.device.type, enabled=False):
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.float()
        output, _ = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), attention_mask, **options
        )
    return output.to(query.dtype), None

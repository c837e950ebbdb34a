"""How transformers loads a model with low-rank layers; importing this module registers it.

Low-rank layers pose as a quantization method, because that is the only supported way to let
`AutoModel...from_pretrained` build other layers from config.json without running code of the
model's author. tests/models/test_low_rank_loading.py fails when transformers changes it.

`low_rank_loading` imports this module while transformers is still being imported, so the layers,
which need all of transformers, are imported later, when a model is loaded.
"""

from typing import Any

from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from .low_rank_loading import QUANT_METHOD


@register_quantization_config(QUANT_METHOD)
class LowRankConfig(QuantizationConfigMixin):
    """The entry of config.json for low-rank layers.

    Args:
        ranks: Rank of every low-rank layer, by its path within the model's body.
        quant_method: Always ``limbeck_low_rank``.
    """

    def __init__(self, ranks: dict[str, int], quant_method: str = QUANT_METHOD) -> None:
        self.ranks = ranks
        self.quant_method = quant_method  # type: ignore[assignment]


@register_quantizer(QUANT_METHOD)
class LowRankQuantizer(HfQuantizer):
    """Builds low-rank layers before transformers loads the weights into them."""

    def _process_model_before_weight_loading(self, model: nn.Module, **_: Any) -> None:
        from .low_rank_layers import add_low_rank_layers, low_rank_ranks

        built: Any = model
        built.config.quantization_config = self.quantization_config.to_dict()
        add_low_rank_layers(built, low_rank_ranks(built.config))

    def postprocess_model(self, model: nn.Module, **_: Any) -> Any:
        """Remove the marks of a quantized model, for which transformers forbids `.to(dtype)`."""
        for name in ("is_quantized", "quantization_method", "hf_quantizer"):
            vars(model).pop(name, None)
        return model

    def is_serializable(self) -> bool:
        """Whether the model can be saved: it can."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether the model can be trained: it can."""
        return True

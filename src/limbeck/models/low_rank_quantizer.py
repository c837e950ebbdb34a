"""How transformers loads a model that has low-rank layers: importing this module registers it.

Transformers looks for weights of another form than usual in a configuration's
`quantization_config`. `low_rank_loading` imports this module while transformers is still being
imported, so what stands on models is imported later, when a model is loaded.
"""

from typing import Any

from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from .low_rank_loading import QUANT_METHOD


@register_quantization_config(QUANT_METHOD)
class LowRankConfig(QuantizationConfigMixin):
    """What config.json says of low-rank layers.

    Args:
        ranks: Rank of every low-rank layer, by its path from the model's body.
        quant_method: Always ``limbeck_low_rank``.
    """

    def __init__(self, ranks: dict[str, int], quant_method: str = QUANT_METHOD) -> None:
        self.ranks = ranks
        self.quant_method = quant_method  # type: ignore[assignment]


@register_quantizer(QUANT_METHOD)
class LowRankQuantizer(HfQuantizer):
    """Builds low-rank layers before transformers fills in the weights."""

    def _process_model_before_weight_loading(self, model: nn.Module, **_: Any) -> None:
        from .low_rank_layers import add_factors, factored_ranks

        built: Any = model
        built.config.quantization_config = self.quantization_config.to_dict()
        add_factors(built, factored_ranks(built.config))

    def postprocess_model(self, model: nn.Module, **_: Any) -> Any:
        """The weights are as precise as any: nothing is forbidden that other models may do."""
        for name in ("is_quantized", "quantization_method", "hf_quantizer"):
            vars(model).pop(name, None)
        return model

    def is_serializable(self) -> bool:
        """It is saved as it is."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Low-rank layers learn as others do."""
        return True

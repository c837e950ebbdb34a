"""How models are evaluated, as far as a recipe may set it. Torch is not imported here."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from ..generation.options import GenerationTemperature
from ..system.choices import PrecisionChoice
from ..system.numbers import Number, Whole


@dataclass(frozen=True)
class FinetuneSettings:
    """The protocol of fine-tuning, the same for every model that is compared.

    Attributes:
        num_train_epochs: Passes over the training rows; the last weights are scored.
        batch_size: Texts in a step.
        learning_rate: The highest, reached after a tenth of the steps; then it falls linearly to 0.
        weight_decay: Of AdamW.
        max_length: Tokens; longer texts are truncated, and words left out count as tagged O.
        dropout: Before the head.
        pooling: Which hidden states represent the text.
        precision: Of the model; ``auto`` is bfloat16 where the device has it in hardware, else
            float32. Head and loss are always float32.
    """

    num_train_epochs: Annotated[Number, Gt(0), Le(10_000)] = 3.0
    batch_size: Annotated[Whole, Ge(1)] = 32
    learning_rate: Annotated[Number, Gt(0), Le(10)] = 1e-4
    weight_decay: Annotated[Number, Ge(0), Le(10)] = 0.01
    max_length: Annotated[Whole, Ge(3)] = 128
    dropout: Annotated[Number, Ge(0), Lt(1)] = 0.1
    pooling: Literal["mean", "first"] = "mean"
    precision: PrecisionChoice = "auto"


@dataclass(frozen=True)
class GenerationSettings:
    """The protocol of generation tasks, the same for every model that is compared.

    Attributes:
        max_new_tokens: Tokens of an answer at most, its end included.
        max_length: Tokens of prompt and answer; longer prompts lose their beginning. By
            default what the model can read, and at most 2,048.
        separator: Text between prompt and answer; a line break by default, and in a recipe the
            separator of its data.
        chat_template: Put prompts into the tokenizer's chat template; in a recipe by default as
            its data does.
        temperature: 0 takes the most likely token, and every seed generates the same.
        max_eval_samples: Prompts at most, the first ones.
        batch_size: Prompts at once.
    """

    max_new_tokens: Annotated[Whole, Ge(1)] = 256
    max_length: Annotated[Whole | None, Ge(3)] = None
    separator: str | None = None
    chat_template: bool | None = None
    temperature: GenerationTemperature = 0.0
    max_eval_samples: Annotated[Whole | None, Ge(1)] = None
    batch_size: Annotated[Whole, Ge(1)] = 16

"""How models are evaluated, as far as a recipe may set it. Torch is not imported here."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from ..generation.options import GenerationTemperature
from ..system.choices import PrecisionChoice
from ..system.numbers import Number, Whole


@dataclass(frozen=True)
class SearchSettings:
    """How learning rate and length are chosen for each model, with the same budget for all.

    Every rate is tried for an eighth of the most epochs, the better half of them for a quarter,
    and so on, as long as a longer training is better. Training rows set apart decide.

    Attributes:
        learning_rates: To choose from.
        num_train_epochs: The most passes over the training rows.
        validation_fraction: Of the training rows, set apart to choose by; at least 100 rows where
            these are no more than a quarter, and at most 2,000.
    """

    learning_rates: Annotated[tuple[Annotated[Number, Gt(0), Le(10)], ...], MinLen(1)] = (
        1e-4,
        3e-4,
        1e-3,
        3e-3,
    )
    num_train_epochs: Annotated[Number, Gt(0), Le(10_000)] = 20.0
    validation_fraction: Annotated[Number, Gt(0), Le(0.5)] = 0.1


def _as_search(value: Any) -> Any:
    """``true`` stands for a search with the defaults, ``false`` for none."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


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
        search: Choose learning rate and epochs for each model; without it they are the same for
            every model, and scores show how fast it learns.
    """

    num_train_epochs: Annotated[Number, Gt(0), Le(10_000)] = 3.0
    batch_size: Annotated[Whole, Ge(1)] = 32
    learning_rate: Annotated[Number, Gt(0), Le(10)] = 1e-4
    weight_decay: Annotated[Number, Ge(0), Le(10)] = 0.01
    max_length: Annotated[Whole, Ge(3)] = 128
    dropout: Annotated[Number, Ge(0), Lt(1)] = 0.1
    pooling: Literal["mean", "first"] = "mean"
    precision: PrecisionChoice = "auto"
    search: Annotated[
        SearchSettings | None,
        BeforeValidator(_as_search, json_schema_input_type=SearchSettings | bool | None),
    ] = None

    def __post_init__(self) -> None:
        """Refuse what a search would silently replace."""
        fixed = FinetuneSettings.learning_rate, FinetuneSettings.num_train_epochs
        if self.search and (self.learning_rate, self.num_train_epochs) != fixed:
            raise PydanticCustomError(
                "search",
                "learning_rate and num_train_epochs are chosen by the search; leave them out, or"
                " give search.learning_rates and search.num_train_epochs",
            )


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

"""Any model folder, ready to use, from Python."""

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..models.families import architecture_of
from ..models.load import load_config, load_model
from ..models.locate import model_of_run
from ..tokenization.load import load_tokenizer


def load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A model in evaluation mode, with its vocabulary head if it has one, and its tokenizer.

    Warns which weights are missing where only a part of the head is there; it is left out.

    Args:
        name: A model or run folder, a hub name, or ``minilm-demo``; layers in two
            factors are built as they were saved.

    Raises:
        ModelError: It cannot be loaded.
    """
    place = model_of_run(name)
    architecture = architecture_of(load_config(place).model_type)
    return load_model(place, architecture=architecture), load_tokenizer(place)

"""A model folder, loaded ready to use."""

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..models.families.lookup import architecture_of
from ..models.load import load_config, load_model
from ..models.locate import model_of_run
from ..tokenization.load import load_tokenizer


def load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A model in evaluation mode, with its vocabulary head if it has one, and its tokenizer.

    Where only a part of the head is in the files, the head is left out and a warning names what
    is missing.

    Args:
        name: A model or run folder, a hub name, or ``minilm-demo``; low-rank layers are built
            as they were saved.

    Raises:
        ModelError: The model cannot be loaded.
    """
    place = model_of_run(name)
    architecture = architecture_of(load_config(place))
    return load_model(place, architecture=architecture), load_tokenizer(place)

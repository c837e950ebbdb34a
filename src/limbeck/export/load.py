"""A model folder, loaded ready to use."""

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..models.families.lookup import architecture_of
from ..models.load import load_config, load_model, load_task_model
from ..models.locate import model_of_run
from ..models.task_heads import head_of
from ..tokenization.load import load_tokenizer


def load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A model in evaluation mode, with the head that it has, and its tokenizer.

    A classifier, tagger or scoring model comes with its own head, other models with their
    vocabulary head.

    Where only a part of the head is in the files, the head is left out and a warning names what
    is missing.

    Args:
        name: A model or run folder, a hub name, or ``minilm-demo``; low-rank layers are built
            as they were saved.

    Raises:
        ModelError: The model cannot be loaded.
    """
    place = model_of_run(name)
    config = load_config(place)
    if head := head_of(config):
        return load_task_model(place, head), load_tokenizer(place)
    return load_model(place, architecture=architecture_of(config)), load_tokenizer(place)

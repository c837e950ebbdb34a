"""A model of any kind, loaded ready to use."""

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..export.load import load as load_pretrained
from .exported_model import ExportedModel, is_exported


def load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast] | ExportedModel:
    """A model in evaluation mode with its tokenizer, or what runs the files of `limbeck export`.

    Args:
        name: A folder of `limbeck export`, which gives an `ExportedModel`; otherwise as for
            `limbeck.export.load.load`, which gives a model and its tokenizer.

    Raises:
        ModelError: The model cannot be loaded.
        ExportError: The folder of `limbeck export` holds no file.
    """
    return ExportedModel(name) if is_exported(name) else load_pretrained(name)

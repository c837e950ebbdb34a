"""How the texts of a stored model become vectors, with the weights of its Dense layers."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from ...errors import ModelError, first_line
from ..load import load_config
from ..locate import locate
from ..sentence_transformers import DenseLayer, Pooling, SentenceModel, sentence_model
from ..shapes import state_width
from .hub import sentence_model_on_hub
from .pooling import POOLING_MODES
from .vectors import Dense, SentenceVectors

DENSE_WEIGHTS = "model.safetensors"


def sentence_vectors(
    name: str, *, pooling: Pooling | None = None, truncate_dim: int | None = None
) -> SentenceVectors:
    """How the texts of a model become vectors, with the weights of its Dense layers.

    Args:
        name: A model as for `locate`. A folder of sentence-transformers says it itself; of any
            other model the vector is the mean over the tokens, not scaled.
        pooling: Replaces the pooling that the folder names.
        truncate_dim: Replaces the width that the folder names.

    Raises:
        ModelError: The folder names no pooling, or has modules that limbeck does not read; a Dense
            layer has no safetensors, or weights that do not fit; or as `SentenceVectors`.
    """
    hidden_size = state_width(load_config(name).get_text_config())
    chain = chain_of(name)
    if chain is None:
        return SentenceVectors(hidden_size, pooling=pooling, truncate_dim=truncate_dim)
    if chain.pooling is None and pooling is None:
        raise ModelError(
            f"{name!r} is a folder of sentence-transformers whose modules.json lists no Pooling"
            " after the transformer, so it has no vector of a text; name one of"
            f" {', '.join(POOLING_MODES)}, or give the transformers folder inside, whose vector is"
            " the mean"
        )
    if chain.others:
        raise ModelError(
            f"{name!r} has modules that limbeck does not read ({', '.join(chain.others)}), without"
            " which its vectors would be others; give a folder with a Transformer, Pooling, Dense"
            " and Normalize, in this order, or the transformers folder inside"
        )
    return SentenceVectors(
        hidden_size,
        pooling=pooling or chain.pooling,
        dense=[_loaded(layer) for layer in chain.dense],
        normalize=chain.normalize,
        truncate_dim=truncate_dim or chain.truncate_dim,
    )


def chain_of(name: str) -> SentenceModel | None:
    """What a model of sentence-transformers holds, of the hub and the demo too; else None.

    Raises:
        ModelError: As for `sentence_model`.
    """
    if found := sentence_model(name):
        return found
    place = locate(name, weights=False)
    return sentence_model(place) if Path(place).exists() else sentence_model_on_hub(place)


def _loaded(layer: DenseLayer) -> Dense:
    """A layer with the weights of its folder."""
    dense = Dense(
        layer.in_features,
        layer.out_features,
        bias=layer.bias,
        activation=layer.activation,
        residual=layer.residual,
    )
    file = layer.folder / DENSE_WEIGHTS
    if not file.is_file():
        raise ModelError(_no_weights(layer.folder))
    try:
        dense.load_state_dict(load_file(file))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{file} does not fit its config.json ({first_line(error)}: {dense.linear}); copy the"
            " model again"
        ) from error
    if any(not weight.isfinite().all() for weight in dense.parameters()):
        raise ModelError(f"{file} holds weights that are not finite; copy the model again")
    return dense


def _no_weights(folder: Path) -> str:
    there = sorted(file.name for file in folder.glob("*") if file.suffix in (".bin", ".pt", ".pth"))
    return (
        f"the Dense layer {str(folder)!r} holds {', '.join(there) or 'no weights'}, but only"
        f" safetensors are read ({DENSE_WEIGHTS}); load the model once with sentence-transformers"
        " where you trust it and call save_pretrained(folder), which writes them"
    )

"""A model becomes one GGUF file, with its tokenizer inside."""

from collections.abc import Sequence
from pathlib import Path

import gguf
from gguf import GGMLQuantizationType as Kind

from ...errors import ExportError
from ..source import OUTPUTS, Source
from .llama_cpp_file import NORMALIZED, OUTPUT
from .metadata import add_metadata, first_position, layout_of
from .same_tokens import check_tokens
from .vocabulary import vocabulary_of
from .weights import kind_of, packed, tensors_of

_OF_FILE = {
    Kind.F16: gguf.LlamaFileType.MOSTLY_F16,
    Kind.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    Kind.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
}


def make_gguf(source: Source, texts: Sequence[str], kind: Kind, file: Path) -> None:
    """Write the GGUF file of a model, and see that llama.cpp tokenizes texts as the model does.

    Args:
        source: The model.
        texts: That are tokenized by both.
        kind: Of the matrices: F16, Q8_0 or Q4_0.
        file: Where.

    Raises:
        ExportError: llama.cpp would compute something else of the model, or tokenize a text
            otherwise; or no matrix can be stored in the wanted type.
    """
    write_gguf(source, kind, file)
    check_tokens(source, texts, file)


def write_gguf(source: Source, kind: Kind, file: Path) -> None:
    """Write the GGUF file of a model, with the arguments and errors of `make_gguf`.

    Matrices that are not rounded to fewer bits are float16 and not bfloat16: both have 16 bits, and
    float16 has three more of them for the digits of a weight, which never needs bfloat16's range.
    """
    layout = layout_of(source)
    vocabulary = vocabulary_of(source.tokenizer, source.vocabulary)
    writer = gguf.GGUFWriter(file, layout.architecture)
    writer.add_name(Path(source.name).name)
    writer.add_file_type(_OF_FILE[kind])
    if kind is not Kind.F16:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_string(OUTPUT, OUTPUTS[source.kind])
    if source.encoder is not None:
        writer.add_bool(NORMALIZED, source.encoder.vectors.normalize)
    extra = add_metadata(writer, source)
    vocabulary.add_to(writer)
    for name, values in extra.items():
        writer.add_tensor(name, values, raw_dtype=Kind.F32)
    kinds = set()
    model, first = source.module.model, first_position(source.config)
    for name, values in tensors_of(model, layout, first):
        own = kind_of(name, values, kind)
        writer.add_tensor(name, packed(name, values, own), raw_dtype=own)
        kinds.add(own)
    if kind not in kinds:
        raise ExportError(
            f"no matrix of {source.name!r} can be stored as {kind.name}, which needs rows of a"
            f" multiple of 32 numbers (hidden_size is {source.config.hidden_size}); leave the"
            " format out"
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

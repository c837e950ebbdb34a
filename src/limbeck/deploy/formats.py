"""The formats of files: what runs each, and for which models it is made.

Nothing here loads torch, so that the command line names them at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from ..errors import ExportError, MissingExtraError, nearest

EngineName = Literal["ONNX Runtime", "OpenVINO", "llama.cpp", "ExecuTorch"]
# Packages that make and run the files of an engine, and the extra that installs them.
_PACKAGES: dict[EngineName, tuple[tuple[str, ...], str]] = {
    "ONNX Runtime": (("onnx", "onnxscript", "onnxruntime"), "onnx"),
    "OpenVINO": (("openvino", "nncf"), "openvino"),
    "llama.cpp": (("gguf", "llama_cpp"), "gguf,llama-cpp"),
    "ExecuTorch": (("executorch", "torchao"), "executorch"),
}


# What is exported, in words, by `source.Kind`.
MODELS = {
    "vectors": "embedding models",
    "sequence": "classifiers and rerankers",
    "token": "taggers",
    "masked": "masked language models",
    "causal": "decoders",
    "body": "models without a head",
}


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        file: Its name in the folder.
        engine: That runs it.
        kinds: Of models that it is made for, of `source.Kind`; empty for all.
        saturates: Whether it multiplies 8-bit numbers, so that sums may saturate on processors
            without VNNI.
    """

    file: str
    engine: EngineName = "ONNX Runtime"
    kinds: tuple[str, ...] = ()
    saturates: bool = False


FLOAT32, FUSED, INT8 = "onnx", "onnx-fused", "onnx-int8"
STATIC_INT8 = "onnx-int8-static"
INT8_WEIGHTS, INT4_WEIGHTS = "onnx-int8-weights", "onnx-int4-weights"
OPENVINO, OPENVINO_INT8 = "openvino", "openvino-int8"
OPENVINO_INT8_WEIGHTS = "openvino-int8-weights"
GGUF, GGUF_Q8, GGUF_Q4 = "gguf", "gguf-q8_0", "gguf-q4_0"
EXECUTORCH, EXECUTORCH_INT8 = "executorch", "executorch-int8"
_NO_DECODERS = ("vectors", "sequence", "token", "masked", "body")
_BY_LLAMA_CPP = ("causal", "vectors", "body")
FORMATS = {
    FLOAT32: Format("model.onnx"),
    FUSED: Format("model_fused.onnx"),
    INT8: Format("model_int8.onnx", saturates=True),
    STATIC_INT8: Format(
        "model_int8_static.onnx", kinds=("vectors", "sequence", "token", "body"), saturates=True
    ),
    INT8_WEIGHTS: Format("model_int8_weights.onnx", kinds=("causal",)),
    INT4_WEIGHTS: Format("model_int4_weights.onnx", kinds=("causal",)),
    OPENVINO: Format("openvino_model.xml", "OpenVINO"),
    OPENVINO_INT8: Format(
        "openvino_model_int8.xml",
        "OpenVINO",
        kinds=_NO_DECODERS,
        saturates=True,
    ),
    OPENVINO_INT8_WEIGHTS: Format("openvino_model_int8_weights.xml", "OpenVINO", ("causal",)),
    GGUF: Format("model_f16.gguf", "llama.cpp", _BY_LLAMA_CPP),
    GGUF_Q8: Format("model_q8_0.gguf", "llama.cpp", _BY_LLAMA_CPP),
    GGUF_Q4: Format("model_q4_0.gguf", "llama.cpp", ("causal",)),
    EXECUTORCH: Format("model.pte", "ExecuTorch"),
    EXECUTORCH_INT8: Format("model_int8.pte", "ExecuTorch", _NO_DECODERS, saturates=True),
}


def check_formats(names: Iterable[str]) -> None:
    """See that formats are known.

    Raises:
        ExportError: One is not.
    """
    for name in names:
        if "past" in name or "cache" in name:
            raise ExportError(
                f"the format {name!r} has the cache of a decoder, and decoders are exported to ONNX"
                f" without a cache, to score texts; name some of {', '.join(FORMATS)}"
            )
        if name not in FORMATS:
            raise ExportError(f"the format {name!r} is not known{nearest(name, FORMATS)}")


def need_engine(engine: EngineName, what: str) -> None:
    """See that the packages of an engine are installed.

    Args:
        engine: That is needed.
        what: That needs it.

    Raises:
        MissingExtraError: One is not.
    """
    if lacking := lacking_packages(engine):
        raise MissingExtraError(
            f"{what} needs {' and '.join(lacking)}; run: pip install 'limbeck[{extra_of(engine)}]'"
        )


def lacking_packages(engine: EngineName) -> list[str]:
    """The packages of an engine that are not installed."""
    return [name for name in _PACKAGES[engine][0] if find_spec(name) is None]


def extra_of(engine: EngineName) -> str:
    """What pip is told to install the packages of an engine."""
    return _PACKAGES[engine][1]


def formats_of(kind: str, wanted: Iterable[str] | None) -> tuple[list[str], dict[str, str]]:
    """The formats that are made of a model, and why others are left out.

    Args:
        kind: What the model says of a text, of `source.Kind`.
        wanted: Their names; None for all that suit the model and can be made here.

    Returns:
        Names, each once, and reasons by the names of those that are left out.

    Raises:
        ExportError: A wanted format does not suit the model, or none is left.
        MissingExtraError: The packages of a wanted format are not installed.
    """
    chosen, left_out = [], {}
    for name in FORMATS if wanted is None else dict.fromkeys(wanted):
        form = FORMATS[name]
        if form.kinds and kind not in form.kinds:
            others = ", ".join(MODELS[one] for one in form.kinds)
            reason = f"is for {others}, and not for {MODELS[kind]}"
            if wanted is not None:
                raise ExportError(f"the format {name} {reason}; leave it out of --formats")
            left_out[name] = reason
        elif wanted is None and (lacking := lacking_packages(form.engine)):
            install = f"pip install 'limbeck[{extra_of(form.engine)}]'"
            left_out[name] = f"needs {' and '.join(lacking)} ({install})"
        else:
            need_engine(form.engine, f"the format {name}")
            chosen.append(name)
    if not chosen:
        reasons = "; ".join(f"{name} {reason}" for name, reason in left_out.items())
        raise ExportError(f"no format can be made: {reasons}")
    return chosen, left_out


def low_rank_notes(layers: int, names: Iterable[str]) -> list[str]:
    """What has become of a model's low-rank layers, so many, in files of engines without such."""
    if layers and (dense := [name for name in names if FORMATS[name].engine == "llama.cpp"]):
        return [
            f"{', '.join(dense)}: {layers} low-rank layers are multiplied out, because llama.cpp"
            " has none; they have as many bytes as dense ones"
        ]
    return []

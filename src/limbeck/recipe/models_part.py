"""The models of a recipe: the teacher, and the student with its initialization."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from ..data.label_names import names_of_labels
from ..models.architecture import Architecture
from ..student.width import Width
from ..system.numbers import Number, Whole, WholeOrName
from ..teacher.servers.settings import ServerSettings, as_server
from .part import MOST_LAYERS, MOST_TOKENS, MOST_WIDTH, Part


def _as_labels(value: Any) -> Any:
    return names_of_labels(value) if isinstance(value, Mapping) else value


class TeacherPart(Part):
    """The model that the student learns from; a name alone stands for ``{model: NAME}``."""

    model: str = Field(
        description="a transformers or sentence-transformers folder, a GGUF file, a hub name, or"
        " minilm-demo"
    )
    architecture: Architecture | None = Field(
        None, description="module paths, for a model type that limbeck does not know"
    )
    ensemble: list[str] = Field(
        [],
        description="further models with the head of the same task and the same tokenizer, whose"
        " class probabilities (or scores) are averaged with those of `model`",
    )
    labels: Annotated[
        dict[str, str],
        BeforeValidator(_as_labels),
        WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number"]}}),
    ] = Field({}, description="names for the labels of its head, as {LABEL_0: negative}")
    prompt: str | None = Field(
        None,
        description="where vectors of texts are learned, the name of one of its prompts, or a text"
        " put before each; its default prompt by default",
    )
    cache: str | None = Field(
        None, description="folder of its signals (limbeck cache), in place of running the model"
    )
    server: Annotated[
        ServerSettings | None,
        BeforeValidator(as_server, json_schema_input_type=ServerSettings | str | None),
    ] = Field(
        None,
        description="an OpenAI-compatible server that gives its log-probabilities, in place of"
        " running it; `model` names the folder of its configuration and tokenizer",
    )
    quantize: Literal["int8", "int4", "int8_dynamic"] | None = Field(
        None,
        description="int8 holds the matrices of its layers in 8 bits where it runs (extra"
        " quantize), int4 in 5 bits, scales included: less memory; int8_dynamic multiplies in 8"
        " bits, inputs too: faster on a processor, and less exact; `limbeck plan` shows what each"
        " does to its signals",
    )
    engine: Literal["torch", "openvino", "openvino-int8"] = Field(
        "torch",
        description="what runs its layers: torch, or on a processor OpenVINO, which is quicker"
        " (extra openvino); openvino-int8 multiplies in 8 bits, with ranges of the recipe's own"
        " text: quicker still, and less exact; `limbeck plan` shows what each does to its signals",
    )
    device_map: WholeOrName | None = Field(
        None,
        description="where its layers are, if not on the student's device: auto, balanced,"
        " balanced_low_0 or sequential, as in transformers (over all GPUs, the rest in the"
        " processor's memory), the number of a GPU, or cpu: each is on the student's device only"
        " while it computes",
    )
    max_memory: dict[WholeOrName, WholeOrName] = Field(
        {},
        description="with device_map, the most that its layers take, as {0: 20GiB, cpu: 60GiB};"
        " what is free by default",
    )

    @property
    def runs_here(self) -> bool:
        """Whether its signals are neither cached nor given by a server."""
        return self.cache is None and self.server is None


class CopyPart(Part):
    """Which teacher layers the student starts from."""

    layers: Literal["uniform", "first", "last", "mean"] | list[Whole | list[Whole]] = Field(
        "uniform",
        description="uniform, first, last, mean (of equal runs of layers), or a list: for each"
        " student layer a teacher layer, counted from 0, or several to average",
    )
    width: Width = Field(
        Width.SVD,
        description="how narrower weights are filled: first coordinates (cut), main directions"
        " (svd), or the coordinates, heads and units that are most active on text (importance)",
    )


class LowRankPart(Part):
    """Low-rank layers in place of the student's linear layers, or low-rank adapters beside them."""

    kind: Literal["factorize", "lora"] = Field(
        "factorize", description="factorize replaces layers by low-rank ones; lora adds adapters"
    )
    target_modules: Literal["feed_forward", "attention", "all"] | list[str] = Field(
        "feed_forward", description="a group of layers, or the ends of their paths, as mlp.up_proj"
    )
    rank: Whole | None = Field(
        None, ge=1, description="of every layer; or give energy or parameter_ratio"
    )
    energy: Number | None = Field(
        None, gt=0, lt=1, description="fraction of the squared singular values to keep"
    )
    parameter_ratio: Number | None = Field(
        None, gt=0, lt=1, description="fraction of the layers' parameters to keep"
    )
    whiten: bool = Field(True, description="weight directions by the layers' inputs on real text")
    lora_alpha: Whole | None = Field(
        None, ge=1, description="scale of the adapters; twice the rank by default"
    )
    export: Literal["low_rank", "dense", "adapters"] = Field(
        "low_rank",
        description="low_rank keeps the layers; dense multiplies them out; adapters also saves the"
        " adapters of a `student.model` as a folder for peft",
    )


class StudentPart(Part):
    """The model that is trained; sizes that are not given are the teacher's."""

    model: str | None = Field(
        None,
        description="a trained model to continue with, whose sizes, tokenizer and weights are kept:"
        " a transformers folder, a GGUF file or a hub name",
    )
    num_hidden_layers: Whole | None = Field(None, ge=1, le=MOST_LAYERS)
    hidden_size: Whole | None = Field(None, ge=1, le=MOST_WIDTH)
    num_attention_heads: Whole | None = Field(None, ge=1, le=MOST_WIDTH)
    intermediate_size: Whole | None = Field(None, ge=1, le=MOST_WIDTH)
    model_type: str | None = Field(None, description="as bert or llama; the teacher's by default")
    tokenizer: str | None = Field(None, description="folder or hub name; the teacher's by default")
    max_position_embeddings: Whole | None = Field(
        None, ge=1, le=MOST_TOKENS, description="longest text in tokens; the teacher's by default"
    )
    num_key_value_heads: Whole | None = Field(
        None,
        ge=1,
        le=MOST_WIDTH,
        description="for decoders with grouped heads; the teacher's ratio by default",
    )
    vocab_size: Whole | None = Field(
        None,
        ge=1,
        le=MOST_TOKENS,
        description="rows of the embedding table; the teacher's by default",
    )
    embedding_init: Literal["random", "mean", "containing", "weighted"] = Field(
        "random",
        description="embeddings of a new vocabulary: random; the mean of the teacher tokens that"
        " spell a token (mean); of those that contain it (containing); or of these weighted by"
        " their frequency in the text (weighted)",
    )
    allow_normalizer_mismatch: bool = Field(
        False,
        description="allow a tokenizer that distinguishes letters which the teacher's does not"
        " (as capitals), or the other way round",
    )
    low_rank: LowRankPart | None = None
    init_from_teacher: CopyPart | None = Field(
        None, description="teacher layers to start from; null starts from random weights"
    )

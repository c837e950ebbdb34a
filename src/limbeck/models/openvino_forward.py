"""A model's forward on OpenVINO, which on a processor takes less time than torch's.

The graph is traced from the forward that torch runs, with its hooks, so that it gives the same
tensors. Its first answers are compared with torch's.

Source: https://docs.openvino.ai, conversion of PyTorch models; in 8 bits, NNCF's post-training
quantization.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..activations import CLASS_LOGITS, PREDICTIONS, Name
from ..batch import Tokens
from ..errors import ModelError, first_line
from ..system.int8_range import int8_range
from .architecture import Architecture
from .capture import OF_LAST_STATES, BodyOutput, run_body
from .openvino_package import openvino_module, without_telemetry
from .openvino_rounding import rounding_options
from .quiet import quiet_exporters

_ROWS, _TOKENS = 3, 7  # of the example: neither 1, which may fix a dimension, nor equal
_COMPARED = 2  # texts of different sizes, for each graph
_LEAST = 1e-12  # a norm


def openvino_missing() -> str | None:
    """How to install what is missing for it; None where nothing is."""
    if find_spec("openvino") and find_spec("nncf"):
        return None
    return "needs openvino and nncf; run: pip install 'limbeck[openvino]'"


@dataclass(frozen=True)
class _Kind:
    """What a graph gives, and what it is given beside token ids."""

    names: tuple[Name, ...]
    states: bool
    classified: bool
    padded: bool
    two_texts: bool

    @property
    def wanted(self) -> set[Name]:
        """As `run_body` takes it."""
        ends = {CLASS_LOGITS} if self.classified else {PREDICTIONS} if self.states else set()
        return {*self.names, *ends}


class _Traced(nn.Module):
    """A forward of tensors alone, as a tracer needs it."""

    def __init__(self, model: PreTrainedModel, architecture: Architecture, kind: _Kind) -> None:
        super().__init__()
        self.model, self._architecture, self._kind = model, architecture, kind

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        mask: Int[Tensor, "batch tokens"] | None = None,
        token_type_ids: Int[Tensor, "batch tokens"] | None = None,
    ) -> tuple[Tensor, ...]:
        """The named tensors, then the last hidden states and class logits where they are wanted."""
        real = torch.ones_like(input_ids) if mask is None else mask
        tokens = Tokens(input_ids, real > 0, input_ids, real > 0, token_type_ids=token_type_ids)
        # Said, because what a tracer is told of a tensor is a constant of the graph.
        object.__setattr__(tokens, "all_real", mask is None)
        wanted = self._kind.wanted
        body = run_body(self.model, self._architecture, tokens, wanted, filled_masks=True)
        ends = body.states if self._kind.states else None, body.logits
        found = [body.found[name] for name in self._kind.names]
        return (*found, *(tensor for tensor in ends if tensor is not None))


class OpenVinoForward:
    """`run_body` of a model on OpenVINO, without gradients.

    Args:
        model: In float32, on the processor; graphs get copies of its weights.
        architecture: Its family.
        half: Whether products are of bfloat16, where the processor multiplies it.
        calibration: Text from which ranges are read off for products of 8 bits; without any there
            are none.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        architecture: Architecture,
        *,
        half: bool,
        calibration: Sequence[Tokens] = (),
    ) -> None:
        self._model, self._architecture = model, architecture
        self._half, self._calibration = half, calibration
        self._graphs: dict[_Kind, Any] = {}
        self._compared: dict[_Kind, set[tuple[int, ...]]] = {}

    def __call__(self, tokens: Tokens, wanted: set[Name]) -> BodyOutput:
        """What `run_body` gives, in float32.

        Raises:
            ModelError: The model cannot be converted, or gives something else there than in torch;
                or documents of one row are to be kept apart.
        """
        if tokens.positions is not None:
            raise ModelError(
                "documents of one row are not kept apart on OpenVINO; use `isolate_documents:"
                " false`, or leave `teacher.engine` out"
            )
        names = tuple(sorted(wanted - OF_LAST_STATES))
        ends, classified = bool(wanted & OF_LAST_STATES), CLASS_LOGITS in wanted
        two_texts = tokens.token_type_ids is not None
        kind = _Kind(names, ends, classified, not tokens.all_real, two_texts)
        if kind not in self._graphs:
            self._graphs[kind] = self._compiled(kind, tokens)
        given = _inputs(kind, tokens)
        answers = self._graphs[kind]({name: one.numpy() for name, one in given.items()})
        outputs = [torch.from_numpy(one.copy()) for one in answers.values()]  # its memory is reused
        self._compare(kind, given, outputs)
        found = dict(zip(names, outputs, strict=False))
        states = outputs[len(names)] if ends else None
        return BodyOutput(found, states, outputs[-1] if classified else None)

    def _compiled(self, kind: _Kind, tokens: Tokens) -> Any:
        """The graph of a kind, of any number of rows and tokens.

        Raises:
            ModelError: The model cannot be converted.
        """
        count = -(-_ROWS * _TOKENS // tokens.input_ids.numel())
        ids = tokens.input_ids.flatten().repeat(count)[: _ROWS * _TOKENS].view(_ROWS, _TOKENS)
        mask = torch.ones_like(ids)
        mask[1, _TOKENS // 2 :] = 0
        types = torch.zeros_like(ids) if kind.two_texts else None
        example = _inputs(kind, Tokens(ids, mask > 0, ids, mask > 0, token_type_ids=types))
        traced = _Traced(self._model, self._architecture, kind)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if self._half else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # two processes would pin theirs to the same cores
        }
        off = torch.autocast("cpu", enabled=False)
        try:
            with quiet_exporters(), without_telemetry(), torch.no_grad(), off:
                openvino = openvino_module()
                graph = openvino.convert_model(traced, example_input=example)
                if self._calibration:
                    graph = self._rounded(graph, kind)
                return openvino.Core().compile_model(graph, "CPU", settings)
        except Exception as error:  # of torch.jit, openvino and nncf, without a base
            raise ModelError(
                f"{type(self._model).__name__} cannot be converted for OpenVINO:"
                f" {first_line(error)}; leave `teacher.engine` out"
            ) from error

    def _rounded(self, graph: Any, kind: _Kind) -> Any:
        """The graph with products of 8 bits, of ranges that stay."""
        nncf = import_module("nncf")
        feeds = [
            {name: one.numpy() for name, one in _inputs(kind, tokens).items()}
            for tokens in self._calibration
        ]
        return nncf.quantize(
            graph,
            nncf.Dataset(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(feeds),
            **rounding_options(graph, reduced=int8_range().reduced),
        )

    def _compare(
        self, kind: _Kind, given: dict[str, Int[Tensor, "batch tokens"]], outputs: Sequence[Tensor]
    ) -> None:
        """See that a graph gives what torch gives, while it is new.

        Raises:
            ModelError: It does not.
        """
        size, seen = tuple(given["input_ids"].shape), self._compared.setdefault(kind, set())
        if size in seen or len(seen) == _COMPARED:
            return
        seen.add(size)
        # Of a tensor's norm: rounding, and in 8 bits no more than that it is the same tensor.
        most = 0.5 if self._calibration else 0.05 if self._half else 1e-3
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            exact = _Traced(self._model, self._architecture, kind)(**given)
        for one, other in zip(exact, outputs, strict=True):
            if "mask" in given and one.shape[:2] == size:
                one, other = one[given["mask"] > 0], other[given["mask"] > 0]
            difference = float((one - other).norm() / one.norm().clamp_min(_LEAST))
            if not difference <= most:
                raise ModelError(
                    f"what {type(self._model).__name__} gives on OpenVINO differs from what it"
                    f" gives in torch by {difference:.2g} of its norm, where {most:g} would be"
                    " rounding; leave `teacher.engine` out"
                )


def _inputs(kind: _Kind, tokens: Tokens) -> dict[str, Int[Tensor, "batch tokens"]]:
    """What a graph of a kind is given."""
    given = {"input_ids": tokens.input_ids}
    if kind.padded:
        given["mask"] = tokens.mask.long()
    if kind.two_texts:
        types = tokens.token_type_ids
        given["token_type_ids"] = torch.zeros_like(tokens.input_ids) if types is None else types
    return given

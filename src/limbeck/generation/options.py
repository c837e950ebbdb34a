"""What a recipe may set of every policy. Torch is not imported, as recipes are checked without it.

Each rule derives from its options, and adds how it decides.
"""

import math
import shutil
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from ..system.numbers import Number, Whole
from ..teacher.servers.settings import ServerSettings, settings_problems

_BEHIND = "one_step_behind"
MOST_DIVERGENCE = math.log(2)  # nats: of distributions that share nothing
# Of what log-probabilities are divided by: below, they overflow; above, they are all alike.
_TEMPERATURES = 0.001, 100.0


def temperature_problem(value: float) -> str:
    """What is wrong with a temperature at which text is generated; empty if nothing is.

    >>> temperature_problem(0.7), temperature_problem(0.0)
    ('', '')
    >>> temperature_problem(-1.0)
    'is -1; give 0 (greedy), or 0.001 to 100'
    """
    least, most = _TEMPERATURES
    allowed = value == 0 or least <= value <= most
    return "" if allowed else f"is {value:g}; give 0 (greedy), or {least:g} to {most:g}"


def _possible(value: float) -> float:
    if problem := temperature_problem(value):
        raise PydanticCustomError("temperature", "{problem}", {"problem": problem})
    return value


# As a user may write it, refused where it is declared.
GenerationTemperature = Annotated[Number, AfterValidator(_possible)]


@dataclass(frozen=True)
class PolicyOptions:
    """What every policy may be told.

    Attributes:
        fraction: Share of the prompts whose response is generated; the others keep theirs.
        labels: What `labels` and all other objectives without a teacher learn from:
            ``references``: the responses of the corpus, whatever is generated; ``generated``:
            the text in which student and teacher are compared.
        replay_ratio: Share of the responses to generate that are instead taken, with their
            prompts, from what was generated in earlier steps.
        replay_buffer_size: How many generated responses are kept for that, the latest ones.
        temperature: Of generation.
        draft_length: Tokens drafted at most before the teacher reads them.
        precision: Of both models while they generate. In bfloat16 a result depends slightly on
            how the text is split into drafts; small models are not faster in it.
        direct_forward: On a processor, models of the families Llama, Mistral, Qwen and GPT-2 are
            read by a forward of limbeck's own, once that is proven to give what transformers'
            gives. It keeps a static cache and, during generation, a copy of the large matrices.
        cuda_graphs: On a GPU, forwards over a few tokens are recorded once and replayed, which is
            up to twice as fast for small models; a static cache and the buffers of the forwards
            stay in memory for it.
        engine: What generates: ``limbeck``, in this process; ``vllm``, a vLLM server that gets the
            student's weights before every batch, for a student that generates alone.
        one_step_behind: With ``vllm``, the text of the next step is generated while this step
            learns, so with the weights before it.
        vllm_server_base_url: Of a server that was started for this; by default limbeck starts one
            on this machine.
        vllm_command: The program of the vLLM that is started, which may be in another environment.
        vllm_gpu_memory_utilization: Share of the GPU's memory for the vLLM that is started, whose
            other models leave it so much.
    """

    fraction: Number = 1.0
    labels: Literal["references", "generated"] = "references"
    replay_ratio: Number = 0.0
    replay_buffer_size: Whole = 1000
    temperature: Number = 1.0
    draft_length: Whole = 16
    precision: Literal["float32", "bfloat16"] = "float32"
    direct_forward: bool = True
    cuda_graphs: bool = True
    engine: Literal["limbeck", "vllm"] = "limbeck"
    one_step_behind: bool = False
    vllm_server_base_url: str | None = None
    vllm_command: str = "vllm"
    vllm_gpu_memory_utilization: Number = 0.3

    def problems(self) -> list[tuple[str, str]]:
        """Fractions outside 0 to 1, a temperature out of range, and counts below 1."""
        needed = [
            (0 <= self.fraction <= 1, "fraction", f"is {self.fraction:g}; give 0 to 1"),
            (
                0 <= self.replay_ratio < 1,
                "replay_ratio",
                f"is {self.replay_ratio:g}; give 0 to less than 1",
            ),
            (
                self.replay_buffer_size >= 1,
                "replay_buffer_size",
                f"is {self.replay_buffer_size}; give 1 or more",
            ),
            (self.draft_length >= 1, "draft_length", f"is {self.draft_length}; give 1 or more"),
        ]
        found = [(name, message) for met, name, message in needed if not met]
        if problem := temperature_problem(self.temperature):
            found.append(("temperature", problem))
        return found + self._engine_problems()

    def _engine_problems(self) -> list[tuple[str, str]]:
        if self.engine == "limbeck":
            message = "is for the engine vllm; say `engine: vllm`, or leave it out"
            own = [f for f in fields(self) if f.name.startswith("vllm_") or f.name == _BEHIND]
            return [(f.name, message) for f in own if getattr(self, f.name) != f.default]
        found = []
        if not 0 < self.vllm_gpu_memory_utilization <= 1:
            share = f"{self.vllm_gpu_memory_utilization:g}"
            message = f"is {share}; give more than 0 and at most 1"
            found.append(("vllm_gpu_memory_utilization", message))
        if (url := self.vllm_server_base_url) is not None:
            wrong = settings_problems(ServerSettings(url=url))
            found += [("vllm_server_base_url", message) for _, message in wrong]
        elif shutil.which(self.vllm_command) is None:
            message = (
                f"is {self.vllm_command!r}, which is no program here; install vLLM, best in an"
                " environment of its own (pip install vllm), and give its path, or the address of"
                " a server (vllm_server_base_url)"
            )
            found.append(("vllm_command", message))
        return found


@dataclass(frozen=True)
class StudentOptions:
    """The student generates everything (on-policy).

    Source: Agarwal et al. 2024, GKD, arXiv:2306.13649.
    """

    def problems(self) -> list[tuple[str, str]]:
        """None: there is nothing to set."""
        return []


@dataclass(frozen=True)
class TeacherOptions:
    """The teacher generates everything (sequence-level distillation).

    Source: Kim and Rush 2016, arXiv:1606.07947.
    """

    def problems(self) -> list[tuple[str, str]]:
        """None: there is nothing to set."""
        return []


@dataclass(frozen=True)
class SwitchOptions:
    """The teacher generates where the two disagree by more than a threshold, which falls.

    Disagreement is the Jensen-Shannon divergence of what both expect, 0 to ln 2 nats, at
    temperature 1 whatever the temperature of generation. Where the threshold is 0 the teacher
    always generates, where it is ln 2 never.

    Attributes:
        tau: The threshold at the beginning, in nats.
        decay: ``exponential``: tau e^(-rate t); ``linear``: tau (1 - rate t), never
            below 0; ``constant``.
        rate: How fast the threshold falls, by token. By default it falls to a tenth over the
            longest response.
        by: ``position``: t is the place in the response; ``step``: the fraction of the
            stage that is done, times the longest response.
    """

    tau: Number = 0.3
    decay: Literal["exponential", "linear", "constant"] = "exponential"
    rate: Number | None = None
    by: Literal["position", "step"] = "position"

    def problems(self) -> list[tuple[str, str]]:
        """A threshold that no divergence reaches or that is below 0; a rate below 0."""
        found = []
        if not 0 <= self.tau <= MOST_DIVERGENCE:
            found.append(
                ("tau", f"is {self.tau:g}; give 0 to ln 2 = 0.693, the largest divergence there is")
            )
        if self.rate is not None and not 0 <= self.rate < math.inf:
            found.append(("rate", f"is {self.rate:g}; give 0 or more, or leave it out"))
        if self.decay == "constant":
            falls = {"rate": self.rate is not None, "by": self.by != "position"}
            message = "says how the threshold falls, which a constant one does not; leave it out"
            found += [(name, message) for name, given in falls.items() if given]
        return found


@dataclass(frozen=True)
class SpeculativeOptions:
    """The student's token stays if it is among the teacher's top ones, else the teacher draws one.

    With the teacher's top tokens K, the student's probabilities q and the teacher's p, the next
    token is y with probability q(y) [y in K] + p(y) (sum of q outside K).

    Attributes:
        top_k: How many top tokens K has.
    """

    top_k: Whole = 25

    def problems(self) -> list[tuple[str, str]]:
        """Fewer than one token."""
        return [("top_k", f"is {self.top_k}; give 1 or more")] if self.top_k < 1 else []


@dataclass(frozen=True)
class AdaptiveOptions:
    """The teacher takes over for good once the divergence is far above its running mean.

    Attributes:
        times: The divergence as a multiple of the mean of all places before.
        first: Places at the beginning that only count towards the mean.
    """

    times: Number = 3.0
    first: Whole = 8

    def problems(self) -> list[tuple[str, str]]:
        """Numbers that every divergence is above."""
        found = []
        if not 0 < self.times < math.inf:
            found.append(("times", f"is {self.times:g}; give a finite number more than 0"))
        if self.first < 1:
            found.append(("first", f"is {self.first}; give 1 or more"))
        return found


RULE_OPTIONS: dict[str, type] = {
    "student": StudentOptions,
    "teacher": TeacherOptions,
    "switch": SwitchOptions,
    "speculative": SpeculativeOptions,
    "adaptive": AdaptiveOptions,
}

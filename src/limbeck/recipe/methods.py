"""Whole methods by name: what a recipe's ``method`` puts into its student and its stages.

The recipe's own keys override the method's, so that one line names a method and another changes a
part of it.

Source: the combined method, Mokretsov, Tatarnikova 2025, doi:10.17586/2226-1494-2025-25-4-737-743,
and its baselines; GKD, Agarwal et al. 2024, arXiv:2306.13649; SKD, Xu et al. 2024,
arXiv:2410.11325.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import Problem, nearest
from .part import as_model

_LABELS: dict[str, Any] = {"labels": {}}
_TAUGHT: dict[str, Any] = {
    "labels": {"weight": 0.5},
    "logits": {"weight": 0.5, "temperature": 2.0},
}
_LORA = {"kind": "lora", "target_modules": "all", "rank": 8}
_LOW_RANK = {"kind": "factorize", "target_modules": "feed_forward", "parameter_ratio": 0.5}


class Method(NamedTuple):
    """A method: what it is, and what it puts into the student and into every stage."""

    about: str
    policy: str
    objectives: Mapping[str, Any]
    low_rank: Mapping[str, Any] | None = None

    @property
    def student(self) -> dict[str, Any]:
        """Keys of the student."""
        return {"low_rank": self.low_rank} if self.low_rank else {}

    @property
    def stage(self) -> dict[str, Any]:
        """Keys of every stage."""
        stage = {"policy": self.policy, "objectives": self.objectives}
        return stage | ({"trainable": "low_rank"} if self.low_rank is _LOW_RANK else {})


METHODS: dict[str, Method] = {
    "full-fine-tuning": Method("all weights learn from the references", "corpus", _LABELS),
    "lora": Method(
        "adapters of rank 8 on all linear layers learn from the references",
        "corpus",
        _LABELS,
        _LORA,
    ),
    "classical-distillation": Method(
        "labels and the teacher's logits, over the references", "corpus", _TAUGHT
    ),
    "intervention": Method(
        "labels, and the teacher's logits over text that both generate by the switch",
        "switch",
        _TAUGHT,
    ),
    "low-rank": Method(
        "low-rank feed-forward layers with half the parameters, which alone learn, from the"
        " references",
        "corpus",
        _LABELS,
        _LOW_RANK,
    ),
    "long-sequence": Method(
        "both: low-rank layers learn from labels, and from the teacher's logits over text of the"
        " switch",
        "switch",
        _TAUGHT,
        _LOW_RANK,
    ),
    "on-policy": Method(
        "the reverse KL to the teacher over text that the student generates, no labels",
        "student",
        {"logits": {"divergence": "reverse_kl"}},
    ),
    "gkd": Method(
        "the teacher's logits over text of which the student generates half", "mixed", _TAUGHT
    ),
    "skd": Method(
        "the teacher's logits over text in which it replaces tokens that it finds unlikely",
        "speculative",
        _TAUGHT,
    ),
}


def with_method(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """A recipe with its method written out, and a problem if there is no such method."""
    recipe = dict(raw)
    name = recipe.pop("method", None)
    if name is None:
        return recipe, []
    if name not in METHODS:
        return recipe, [("method", f"no method is called {name!r}{nearest(str(name), METHODS)}")]
    method = METHODS[name]
    student, stages = recipe.get("student"), recipe.get("stages")
    if student is None or isinstance(student, str | dict):
        recipe["student"] = {**method.student, **(as_model(student) or {})}
    if isinstance(stages, list):
        recipe["stages"] = [
            {**method.stage, **stage} if isinstance(stage, dict) else stage for stage in stages
        ]
    return recipe, []

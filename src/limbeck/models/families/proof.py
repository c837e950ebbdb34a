"""What of a proposed row holds, shown by a forward of a tiny random model.

A row is used where hidden states and sizes hold. What else does not hold is left out of it, and
said: queries, keys and values; the vocabulary head; isolated documents; the axes of weights.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from ...activations import EMBEDDINGS, Name, Needs
from ...batch import Tokens
from ...errors import first_line
from ..architecture import Architecture, Axes
from ..capture import capture, capture_tensors
from ..shapes import shape_of, unused_positions
from .attending import attending_layers
from .attention_inputs import Match, attended, match
from .proposal import Projections, candidates, proposed_row
from .roles import as_axes, axis_roles_of, reordering_problem
from .tiny import TinyModel

_KINDS = ("queries", "keys", "values")
_NO_PROJECTIONS = "no modules were found that return what attention uses"
_LONGEST = 4096  # tokens of a text that is still run on a tiny model


@dataclass(frozen=True)
class Proof:
    """A proposed row after its proof.

    Attributes:
        architecture: The row, without what did not hold; None where there is none.
        missing: What was left out of it, each with the reason, in a sentence.
        refused: Why the row cannot be used at all; empty where it can.
    """

    architecture: Architecture | None
    missing: tuple[str, ...] = ()
    refused: str = ""


def prove(tiny: TinyModel) -> Proof:
    """The proposed row of a type as far as it holds on a tiny model of it."""
    row = proposed_row(tiny)
    row, matched = _with_projections(tiny, row)
    missing = [] if matched else ["relations: " + _NO_PROJECTIONS]
    if matched == "rotated":
        row = replace(row, positions="rotary")
    problem = _said(lambda: _states_problem(tiny, row) or _shape_problem(tiny, row))
    if problem:
        return Proof(row, tuple(missing), problem)
    row, problem = _with_head(tiny, row)
    missing += [f"logits: {problem}"] if problem else []
    if row.causal and (problem := _said(lambda: _documents_problem(tiny, row))):
        row = replace(row, separable_documents=False)
        missing.append(f"isolate_documents: {problem}")
    roles: dict[str, Axes] = {}
    if problem := _said(lambda: _roles_problem(tiny, row, roles)):
        missing.append(f"init_from_teacher at another width: {problem}")
        return Proof(row, tuple(missing))
    return Proof(replace(row, axes=as_axes(roles, row)), tuple(missing))


def _roles_problem(tiny: TinyModel, row: Architecture, found: dict[str, Axes]) -> str | None:
    """Why the roles that are ``found`` for the axes of weights do not hold; None where they do."""
    found.update(axis_roles_of(tiny, row))
    return reordering_problem(tiny, row, found)


def _said(check: Callable[[], str | None]) -> str | None:
    """What a check says, or the error of a model that does not run as the check runs it."""
    try:
        with torch.no_grad():
            return check()
    except Exception as error:  # models of other people raise errors of many types
        return first_line(error)


def _with_projections(tiny: TinyModel, row: Architecture) -> tuple[Architecture, Match | None]:
    """The row with the first projections that return what every layer attends with."""
    seen = attended(tiny)
    for paths in candidates(tiny):
        tried = paths.in_row(row)
        layers = attending_layers(tiny.body, tried)
        if not layers or not set(layers) <= seen.keys():
            continue
        try:
            found = _captured(tiny, tried, {(k, n) for k in _KINDS for n in layers})
        except Exception:  # of many types, for sizes other than the row says
            continue
        matches = {
            (kind, layer): match(part, getattr(seen[layer], kind))
            for (kind, layer), part in found.items()
        }
        plain = all(matches["values", layer] == "equal" for layer in layers)
        if plain and None not in matches.values():
            rotated = "rotated" in matches.values()
            return tried, "rotated" if rotated else "equal"
    return Projections("", "", "").in_row(row), None


def _captured(tiny: TinyModel, row: Architecture, wanted: set[Name]) -> dict[Name, Tensor]:
    with torch.no_grad():
        return capture_tensors(tiny.model, row, _tokens(tiny.input_ids), wanted)


def _on(tiny: TinyModel, row: Architecture, tokens: Tokens, wanted: Name) -> Tensor:
    """One tensor of the tiny model."""
    return capture_tensors(tiny.model, row, tokens, {wanted})[wanted]


def _tokens(ids: Tensor, positions: Tensor | None = None) -> Tokens:
    mask = torch.ones_like(ids, dtype=torch.bool)
    return Tokens(ids, mask, ids, mask, positions)


def _states_problem(tiny: TinyModel, row: Architecture) -> str | None:
    """Hidden states that are not the model's own, or tokens that see what they should not."""
    layers = tiny.config.num_hidden_layers
    wanted: set[Name] = {EMBEDDINGS, *(("hidden", layer) for layer in range(layers))}
    found = _captured(tiny, row, wanted)
    if len(tiny.states) != layers + 1:
        return f"the model returns {len(tiny.states)} hidden states for its {layers} layers"
    own = {EMBEDDINGS: tiny.states[0]}
    own |= {("hidden", layer): tiny.states[layer + 1] for layer in range(layers - 1)}
    wrong = [name for name, state in own.items() if not _close(found[name], state)]
    if wrong:
        return f"the outputs of {row.layers!r} are not the model's hidden states ({wrong[0]})"
    changed = tiny.input_ids.clone()
    changed[:, -1] = 20 + (changed[:, -1] - 19) % 300
    last: Name = ("hidden", layers - 1)
    other = _on(tiny, row, _tokens(changed), last)
    sees = not _close(found[last][:, :-1], other[:, :-1])
    if sees == row.causal:
        return "tokens see those behind them" if sees else "tokens do not see those behind them"
    return None


def _shape_problem(tiny: TinyModel, row: Architecture) -> str | None:
    """Sizes that the configuration does not say, or a longest text that does not run."""
    shape = shape_of(tiny.config, row)
    if shape.hidden_size != tiny.states[0].shape[-1]:
        return f"hidden_size is {shape.hidden_size}, its states have {tiny.states[0].shape[-1]}"
    longest = tiny.config.to_dict().get("max_position_embeddings")
    if row.positions != "table" or longest is None or longest > _LONGEST:
        return None
    kept = longest - unused_positions(tiny.config, row)
    try:
        _on(tiny, row, _tokens(torch.full((1, kept), 20)), ("hidden", 0))
    except (RuntimeError, IndexError):
        return f"a text of {kept} tokens, its max_position_embeddings, does not run"
    return None


def _with_head(tiny: TinyModel, row: Architecture) -> tuple[Architecture, str | None]:
    """The row with a vocabulary head that gives the model's own logits; or without, and why."""
    bare = _changing(replace(row, head=(), output=""), "", "", "")
    if tiny.logits is None or not row.head:
        return bare, "it has no vocabulary head"
    problem = None
    fields = (row.soft_cap_field, row.logits_divisor_field, row.logits_multiplier_field)
    # A field may be there and have no effect.
    for names in product(*(dict.fromkeys((field, "")) for field in fields)):
        tried = _changing(row, *names)
        problem = _said(partial(_head_problem, tiny, tried))
        if problem is None:
            return tried, None
    return bare, problem


def _changing(row: Architecture, soft_cap: str, divisor: str, multiplier: str) -> Architecture:
    """The row with such fields of the configuration that change the logits."""
    return replace(
        row,
        soft_cap_field=soft_cap,
        logits_divisor_field=divisor,
        logits_multiplier_field=multiplier,
    )


def _head_problem(tiny: TinyModel, row: Architecture) -> str | None:
    needs = Needs(predictions=True)
    found = capture(tiny.model, row, _tokens(tiny.input_ids), needs).predictions
    own = tiny.logits
    if found is not None and own is not None and _close(found.logits(), own.flatten(0, 1)):
        return None
    return "what the head returns are not the model's logits, which are changed further"


def _documents_problem(tiny: TinyModel, row: Architecture) -> str | None:
    """Why documents in one row do not stay apart; None where they do."""
    first = tiny.input_ids.shape[1] // 2
    positions = torch.arange(tiny.input_ids.shape[1]).expand_as(tiny.input_ids).clone()
    positions[:, first:] -= first
    last: Name = ("hidden", tiny.config.num_hidden_layers - 1)
    joined = _on(tiny, row, _tokens(tiny.input_ids, positions), last)
    alone = _on(tiny, row, _tokens(tiny.input_ids[:, first:]), last)
    return None if _close(joined[:, first:], alone) else "documents of one row see each other"


def _close(one: Tensor, other: Tensor) -> bool:
    same = one.shape == other.shape
    return same and bool((one - other).abs().max() < 1e-3 * other.abs().mean())

"""What an objective needs of a teacher's predictions that are kept in part, or given in part."""

from ..objectives.contract import Objective
from ..objectives.logits import Logits
from ..teacher.manifest import Kind
from ..token_ids import TokenIds


def kept_logits_problem(
    objective: Objective, kind: Kind, *, aligned: bool, served: bool = False
) -> str | None:
    """Why an objective cannot learn from predictions of such a kind, and what to change.

    Args:
        objective: Needs predictions of the teacher.
        kind: Which of them there are.
        aligned: Two vocabularies are compared.
        served: A server gives them.
    """
    some = "a server gives some" if served else f"{kind.logits} keeps some"
    exact = "run the teacher here (leave `server` out)" if served else "keep them as exact"
    if not isinstance(objective, Logits) or aligned:
        return f"needs every logit, and {some}; {exact}"
    if kind.logits == "top_k":
        compared = TokenIds.given(objective.vocabulary or 0)
        if 0 < len(compared) <= kind.tokens:
            fewer = "give a smaller server.top_k" if served else "keep fewer of them"
            return f"compares {len(compared)} tokens; {fewer}, or exact logits"
        short = objective.signal == "top_k" and objective.compared > kind.tokens
        as_many = "give as large a server.top_k" if served else "keep as many"
        return f"needs {objective.compared} tokens; {as_many}" if short else None
    if objective.divergence != "forward_kl" or objective.temperature != 1.0:
        return "samples stand for forward_kl at temperature 1 alone; keep logits as exact"
    return None

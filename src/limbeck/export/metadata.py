"""The metadata of a model card in the form of the hub, written by its own library."""

from collections.abc import Iterable, Sequence

from huggingface_hub import EvalResult, ModelCardData

from ..evaluation.tasks import METRICS, TaskKind
from .origin import Origin, licence_warnings

_TYPES = {
    TaskKind.CLASSIFICATION: "text-classification",
    TaskKind.MULTI_LABEL: "text-classification",
    TaskKind.REGRESSION: "text-classification",
    TaskKind.TAGGING: "token-classification",
    TaskKind.JOINT: "token-classification",
    TaskKind.GENERATION: "text-generation",
}
_OF_METRICS = {name: _TYPES[kind] for kind, names in METRICS.items() for name in names}
_RANKING = ("ndcg_at_10", "mrr")


def evaluation(
    task: str, metric: str, score: float, *, split: str | None = None, file: str | None = None
) -> EvalResult:
    """A score as it stands in ``model-index``.

    Args:
        task: Its name.
        metric: As reports name it.
        score: A share of 1.
        split: The rows that were scored.
        file: Of several that were scored on the same rows.
    """
    kind = "text-ranking" if metric in _RANKING else _OF_METRICS.get(metric, "sentence-similarity")
    return EvalResult(
        task_type=kind,
        dataset_type=task,
        dataset_name=task,
        dataset_split=split,
        metric_type=metric,
        metric_name=f"{metric} of {file}" if file else None,
        metric_value=round(score, 4),
    )


def metadata_of(
    name: str,
    origins: Sequence[Origin],
    *,
    library: str | None,
    pipeline_tag: str,
    tags: Sequence[str],
    datasets: Sequence[str] = (),
    results: Sequence[EvalResult] = (),
    same_model: bool = False,
) -> ModelCardData:
    """The block at the top of a card.

    Args:
        name: Of the model.
        origins: The models that it was made of.
        library: That loads it.
        pipeline_tag: What it does.
        tags: Further words.
        datasets: On the hub, that it learned from.
        results: Its scores.
        same_model: Whether it is the origin in another form, and no student: it has all languages.
    """
    languages = {one.languages for one in origins}
    spoken = next(iter(languages)) if len(languages) == 1 else ()
    license_id, license_name, license_link = _licence(origins)
    return ModelCardData(
        base_model=_list(name for one in origins for name in one.hub_names),
        datasets=_list(datasets),
        # Of a model of many languages its student may have learned some.
        language=list(spoken) if len(spoken) == 1 or (spoken and same_model) else None,
        license=license_id,
        license_name=license_name,
        license_link=license_link,
        library_name=library,
        pipeline_tag=pipeline_tag,
        tags=list(tags),
        model_name=name,
        eval_results=list(results) or None,
    )


def card_of(metadata: ModelCardData, lines: Sequence[str]) -> str:
    """A whole card.

    Args:
        metadata: On top.
        lines: Of Markdown, below.
    """
    return "\n".join(["---", metadata.to_yaml(), "---", "", *lines]) + "\n"


def licence_lines(origins: Sequence[Origin]) -> list[str]:
    """The section of a card about what may be done with the model; empty without origins."""
    if not origins:
        return []
    listed = [
        f"- `{one.name}`: {one.licence}" + (f" ({one.license_link})" if one.license_link else "")
        for one in origins
    ]
    warnings = [f"> **Warning:** {said}.\n" for said in licence_warnings(origins)]
    return ["## Licence", "", *warnings, "Made of:", "", *listed, ""]


def _licence(origins: Sequence[Origin]) -> tuple[str | None, str | None, str | None]:
    """The licence, its name and its link as the hub has them; of several, a name of them all."""
    found = list(dict.fromkeys((x.license, x.license_name, x.license_link) for x in origins))
    if not found:
        return None, None, None
    if len(found) > 1:
        return "other", "-and-".join(dict.fromkeys(one.licence for one in origins)), None
    licence, name, link = found[0]
    return licence or "unknown", name, link


def _list(names: Iterable[str]) -> list[str] | None:
    """Each name once; None of none, which is then left out."""
    return list(dict.fromkeys(names)) or None

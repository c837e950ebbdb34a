"""Where a model comes from, as its card says: its name on the hub, its licence, its languages."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import hf_hub_download, metadata_load, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from ..models.locate import DEMO_TEACHER, locate, model_of_run
from ..system.files import expanded

_CARD = "README.md"
_DEMO_HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"  # whose files the demo's package holds
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
# How the hub's names of licences begin that allow any use and passing changed versions on.
_OPEN = (
    *("afl-", "agpl-", "apache-", "artistic-", "bsd", "bsl-1", "cc0-", "cdla-", "ecl-", "epl-"),
    *("etalab-", "eupl-", "gfdl", "gpl", "isc", "lgpl", "lppl-", "mit", "mpl-", "ms-pl", "ncsa"),
    *("odbl", "odc-by", "ofl-", "openmdw-", "osl-", "pddl", "postgresql", "unlicense", "wtfpl"),
    *("zlib", "cc-by-2", "cc-by-3", "cc-by-4", "cc-by-sa-"),
)
_FORBID = (
    (r"\bnc\b|non-?commercial", "forbids commercial use"),
    (r"\bnd\b", "forbids passing changed versions on, as smaller or rounded models may be"),
    (r"research", "allows research alone"),
    (r"^(llama|gemma)", "has conditions of use and on the names of models that are made of it"),
    (r"\b(open)?rail\b", "forbids some uses, also of models that are made of it"),
)


@dataclass(frozen=True)
class Origin:
    """A model that another is made of.

    Attributes:
        name: How it is called; of a folder the last part of its path, of a run of a study the last
            parts.
        hub_names: Its name on the hub; of a folder, of those that its card says it was made of.
        license: The hub's name of its licence; None where its card does not say.
        license_name: Of a licence that is ``other`` to the hub.
        license_link: To its text.
        languages: That its card names.
        datasets: That its card names.
    """

    name: str
    hub_names: tuple[str, ...] = ()
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()

    @property
    def licence(self) -> str:
        """The licence in words."""
        named = self.license_name if self.license == "other" else self.license
        return named or self.license or "unknown"

    @property
    def restriction(self) -> str | None:
        """What its licence forbids, as the rest of a sentence; None where it is an open one.

        >>> Origin("a", license="apache-2.0").restriction
        >>> Origin("a", license="cc-by-nc-4.0").restriction
        'forbids commercial use'
        """
        licence = self.licence.lower()
        if licence == "unknown":
            return "is not known; only its authors can say whether models made of it may be used"
        found = [said for pattern, said in _FORBID if re.search(pattern, licence)]
        if found:
            return " and ".join(found)
        if self.license != "other" and licence.startswith(_OPEN):
            return None
        return "is none that limbeck knows; read it before the model is used or passed on"


def origin_of(model: str) -> Origin:
    """What the card of a model says; nothing where it has none, or none that can be read.

    Args:
        model: A model or run folder, a GGUF file, a hub name, or ``minilm-demo``.
    """
    model = model_of_run(model)
    folder = expanded(model)
    says = _metadata(model, folder)
    if model == DEMO_TEACHER:
        names: tuple[str, ...] = (_DEMO_HUB_NAME,)
    else:
        names = _texts(says, "base_model") if folder.exists() else (model,)
    shown = folder.resolve() if folder.exists() else folder
    return Origin(
        name=model if names == (model,) else _name_of(shown),
        hub_names=tuple(name for name in names if _HUB_NAME.fullmatch(name)),
        license=next(iter(_texts(says, "license")), None),
        license_name=next(iter(_texts(says, "license_name")), None),
        license_link=next(iter(_texts(says, "license_link")), None),
        languages=_texts(says, "language"),
        datasets=_texts(says, "datasets"),
    )


def licence_warnings(origins: Sequence[Origin]) -> list[str]:
    """A sentence for each model whose licence restricts its use or is not known."""
    return [
        f"the licence of {one.name} ({one.licence}) {one.restriction}"
        if one.licence != "unknown"
        else f"the licence of {one.name} {one.restriction}"
        for one in origins
        if one.restriction
    ]


def _name_of(folder: Path) -> str:
    """The last part of a path; of the student in a run folder, that of the run.

    The runs of a study are called by their seeds, so that of one of them the study, the student
    and the arm are named too.

    >>> _name_of(Path("runs/mine/student")), _name_of(Path("runs/sizes/arms/small/plain/0/student"))
    ('mine', 'sizes/arms/small/plain/0')
    """
    run = folder.parent if folder.name == "student" else folder
    of_study = run.name.isdigit() and run.parts[-4:-3] in (("arms",), ("search",))
    return "/".join(run.parts[-5:]) if of_study else run.name


def _metadata(model: str, folder: Path) -> Mapping[str, Any]:
    """The block of YAML at the top of a card."""
    try:
        if model == DEMO_TEACHER:
            card = Path(locate(model)) / _CARD
        elif folder.exists():
            card = (folder.parent if folder.is_file() else folder) / _CARD
        else:
            found = _card_on_hub(model)
            if found is None:
                return {}
            card = Path(found)
        return metadata_load(card) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}


# Looked for once: without a network the hub's library tries for half a minute.
@lru_cache
def _card_on_hub(model: str) -> str | None:
    try:
        cached = try_to_load_from_cache(model, _CARD)
        return cached if isinstance(cached, str) else hf_hub_download(model, _CARD)
    except (OSError, ValueError, HfHubHTTPError):
        return None


def _texts(says: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The texts of a field that holds one or a list of them, each on one line."""
    found = says.get(key)
    listed = found if isinstance(found, list) else [found]
    return tuple(" ".join(one.split()) for one in listed if isinstance(one, str) and one.strip())

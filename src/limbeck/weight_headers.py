"""What the headers of a model's files tell of it, before a weight is loaded."""

from functools import lru_cache
from pathlib import Path

from .anatomy import Anatomy
from .errors import ModelError
from .model_folders import locate
from .pretrained import language_model_class, load_config
from .weight_files import read_headers, weight_files
from .weight_fit import WeightFit, check_layers, fit_of_names, unwrapped, wrapping_note


def check_weights(
    name: str, *, anatomy: Anatomy, head_in_part: bool = True
) -> tuple[str | None, str | None]:
    """Why a model's weights cannot be used, and what is done with their names, or None.

    Nothing is said of a name on the hub that has not been loaded yet.

    Args:
        name: As for `locate`.
        anatomy: Its family's.
        head_in_part: Half of a vocabulary head is fine: nobody asks for it.

    Raises:
        ModelError: Files are missing or damaged.
    """
    found = _fit_of_files(name, anatomy)
    if found is None:
        return None, None
    fit, note = found
    return fit.problem(name, head_in_part=head_in_part), note


def has_vocabulary_head(name: str, *, anatomy: Anatomy) -> bool | None:
    """Whether a model's files have all of the vocabulary head.

    None where it cannot be told, as for a name on the hub that has not been loaded yet.
    """
    found = _fit_of_files(name, anatomy)
    return None if found is None else not found[0].missing_in_head


def _fit_of_files(name: str, anatomy: Anatomy) -> tuple[WeightFit, str | None] | None:
    files = weight_files(locate(name))
    if files is None or not anatomy.head:
        return None
    state = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _fit_in_state(name, load_config(name).to_json_string(), anatomy.causal, state)


# A plan asks again and again, and a study for every arm.
@lru_cache(maxsize=64)
def _fit_in_state(
    name: str, config: str, causal: bool, state: tuple[tuple[str, int, int], ...]
) -> tuple[WeightFit, str | None]:
    weights = read_headers([Path(file) for file, _, _ in state])
    renamed = unwrapped(name, weights)
    given = {plain: weights[weight] for plain, weight in renamed.items()}
    found = load_config(name)
    check_layers(name, found, weights)
    try:
        fit = fit_of_names(language_model_class(causal=causal), found, given)
    except Exception as error:  # whatever the library raises at a field that it does not expect
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"cannot build {name!r} as its config.json says: {first}. Copy the model anew"
        ) from error
    return fit, wrapping_note(name, renamed)

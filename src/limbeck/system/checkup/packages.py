"""What is installed, against what limbeck needs, read from the metadata of packages alone."""

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

_DISTRIBUTION = "limbeck"
_OF_DEVELOPERS = ("dev", "docs")


@dataclass(frozen=True)
class Package:
    """A package that limbeck needs.

    Attributes:
        name: As pip knows it.
        needed: The versions that suit, as `>=2.6`.
        version: The one that is installed; None where none is.
        suits: Whether that version is one of them.
    """

    name: str
    needed: str
    version: str | None
    suits: bool


@dataclass(frozen=True)
class Extra:
    """Packages for one purpose.

    Attributes:
        name: As in `limbeck[NAME]`.
        packages: That it installs.
        install: The command that installs them.
    """

    name: str
    packages: list[Package]
    install: str

    @property
    def complete(self) -> bool:
        """Whether all of it is installed, in versions that suit."""
        return all(package.suits for package in self.packages)


def installed_packages() -> tuple[list[Package], list[Extra]]:
    """What every command needs, and the extras; empty where limbeck itself is not installed."""
    try:
        texts = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return [], []
    always: list[Package] = []
    extras: dict[str, list[Package]] = {}
    for requirement in map(Requirement, texts):
        extra = _extra_of(requirement)
        if extra is None:
            always.append(_package(requirement))
        elif extra not in _OF_DEVELOPERS:
            extras.setdefault(extra, []).append(_package(requirement))
    return always, [
        Extra(name, found, f"pip install 'limbeck[{name}]'") for name, found in extras.items()
    ]


def version_of(name: str) -> str | None:
    """The version of an installed package; None where it is not."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def python_version() -> str:
    """Python's, and where it is."""
    return f"{sys.version.split()[0]} ({sys.executable})"


def _package(requirement: Requirement) -> Package:
    found = version_of(requirement.name)
    suits = found is not None and requirement.specifier.contains(found, prereleases=True)
    return Package(requirement.name, str(requirement.specifier), found, suits)


def _extra_of(requirement: Requirement) -> str | None:
    """The extra that a requirement belongs to; None where every installation has it."""
    marker = str(requirement.marker or "")
    _, named, rest = marker.partition('extra == "')
    return rest.partition('"')[0] if named else None

"""All that is found of a machine and an installation, as plain values and as tables."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .findings import Finding, findings
from .machine import Machine, examine_machine, uses
from .packages import Extra, Package, installed_packages, python_version, version_of
from .places import Place, places

Table = list[list[str]]
_MAIN = (
    "limbeck",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "accelerate",
    "datasets",
    "huggingface-hub",
    "numpy",
    "pydantic",
)
_VARIABLES = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HF_ENDPOINT",
    "LIMBECK_CACHE",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "CUDA_VISIBLE_DEVICES",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "WORLD_SIZE",
)
_SECRETS = ("HF_TOKEN",)  # of which is told whether they are set, and nothing else


@dataclass(frozen=True)
class Examined:
    """What was found.

    Attributes:
        findings: Problems first.
        machine: What is computed on.
        python: Its version, and where it is.
        versions: Of the main libraries, by name; None where one is not installed.
        packages: What every command needs.
        extras: What some need.
        places: Where files are stored.
        environment: Variables that are set, of those that matter.
    """

    findings: list[Finding]
    machine: Machine
    python: str
    versions: dict[str, str | None]
    packages: list[Package]
    extras: list[Extra]
    places: list[Place]
    environment: dict[str, str]

    @property
    def problems(self) -> list[Finding]:
        """Findings that are no mere notes."""
        return [finding for finding in self.findings if finding.problem]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def examine(environment: Mapping[str, str] = os.environ) -> Examined:
    """Look at the machine, the packages and the folders; nothing is downloaded or changed."""
    machine, stored = examine_machine(), places(environment)
    packages, extras = installed_packages()
    told = {name: environment[name] for name in _VARIABLES if environment.get(name)}
    told |= {name: "set" for name in _SECRETS if environment.get(name)}
    return Examined(
        findings(machine, packages, extras, stored, environment),
        machine,
        python_version(),
        {name: version_of(name) for name in _MAIN},
        packages,
        extras,
        stored,
        told,
    )


def examination_tables(found: Examined) -> list[tuple[str, Table]]:
    """Tables with their headings, problems first."""
    tables: list[tuple[str, Table]] = []
    for heading, some in (
        ("Problems", found.problems),
        ("Notes", [finding for finding in found.findings if not finding.problem]),
    ):
        if some:
            tables.append(
                (heading, [["found", "what to do"], *([f.found, f.change] for f in some)])
            )
    tables.append(("Machine", _machine(found)))
    if torch := found.machine.torch:
        rows = [
            [name, "yes" if has else "no", uses().get(name, "")]
            for name, has in torch.instructions.items()
        ]
        tables.append(("Instructions of the processor", [["", "has", "for"], *rows]))
    versions = [[name, version or "not installed"] for name, version in found.versions.items()]
    tables.append(("Versions", [["", ""], ["Python", found.python], *versions]))
    tables.append(("Extras", _extras(found.extras)))
    tables.append(("Folders", _places(found.places)))
    if found.environment:
        rows = [[name, value] for name, value in found.environment.items()]
        tables.append(("Environment", [["", ""], *rows]))
    return tables


def _machine(found: Examined) -> Table:
    machine, torch = found.machine, found.machine.torch
    rows = [["", ""], ["system", machine.system]]
    if torch:
        rows += [
            ["device", f"{torch.device}: {torch.device_name}"],
            ["torch", f"{torch.version}, built for {torch.built_for}"],
            ["precision", f"{torch.precision}: {torch.reason}"],
            ["files in 8 bits", torch.int8],
            ["threads", f"{torch.threads} of {machine.processors} processors"],
        ]
        if torch.gpu_bytes:
            rows.append(["memory of the GPU", _of(torch.gpu_bytes)])
    if machine.limit is not None:
        rows.append(["limit of the container", f"{machine.limit:g} processors"])
    rows.append(["memory", _of(machine.memory) if machine.memory else "not told by the system"])
    return rows


def _extras(extras: list[Extra]) -> Table:
    rows = [["extra", "state", "packages", "to install it"]]
    for extra in extras:
        there = sum(package.version is not None for package in extra.packages)
        state = "installed" if extra.complete else "in part" if there else "missing"
        shown = ", ".join(f"{p.name} {p.version or 'missing'}" for p in extra.packages)
        rows.append([extra.name, state, shown, "" if extra.complete else extra.install])
    return rows


def _places(stored: list[Place]) -> Table:
    rows = [["what", "where", "holds", "free", "moved by"]]
    for place in stored:
        held = size(place.held_bytes) if place.held_bytes else ""
        more = "" if place.counted else "more than "
        free = "" if place.free_bytes is None else size(place.free_bytes)
        rows.append([place.what, place.path, more + held, free, place.variable])
    return rows


def _of(memory: tuple[int, int]) -> str:
    return f"{size(memory[0])} of {size(memory[1])} free"


def size(number: int) -> str:
    """Bytes in a form for people.

    >>> size(1_234), size(56_000_000), size(7_800_000_000)
    ('0.0 MB', '56.0 MB', '7.8 GB')
    """
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"

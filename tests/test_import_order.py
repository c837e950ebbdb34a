"""The house as the architecture page has it: few entries at the top, and no import upward."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from house import SOURCE, tree

ORDER = list(tree())


def room_of(module: str) -> str:
    return module.split(".")[0]


def module_of(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and parts[1:] else parts)


def imported(file: Path) -> Iterator[str]:
    """Every module of limbeck that a file imports, wherever in it."""
    folder = file.relative_to(SOURCE).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = (*folder[: len(folder) - node.level + 1], *(node.module or "").split("."))
        base = tuple(part for part in base if part)
        for name in node.names:
            deeper = SOURCE.joinpath(*base, f"{name.name}.py").is_file()
            if deeper or base:
                yield ".".join((*base, name.name) if deeper else base)


def imports() -> dict[str, set[str]]:
    return {module_of(file): set(imported(file)) for file in SOURCE.rglob("*.py")}


def test_the_page_names_every_room():
    assert {room_of(module) for module in imports()} == set(ORDER)


def test_few_entries_stand_at_the_top():
    no_code = {"__pycache__", "py.typed"}
    assert len([entry for entry in SOURCE.iterdir() if entry.name not in no_code]) <= 25


def test_a_room_says_in_a_sentence_what_it_is_for():
    for room in SOURCE.iterdir():
        if room.is_dir() and room.name != "__pycache__":
            said = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
            assert said and said.splitlines()[0].endswith("."), room.name


def test_rooms_import_only_what_stands_above_them():
    wrong = [
        f"{module} imports {other}"
        for module, others in imports().items()
        if module != "__init__"  # which imports the rest lazily
        for other in others
        if ORDER.index(room_of(other)) > ORDER.index(room_of(module))
    ]
    assert wrong == []


def test_no_two_modules_import_each_other():
    inside = {
        # A room whose __init__ hands out its modules lazily is no cycle.
        module: {other for other in others if other != room_of(module)}
        for module, others in imports().items()
        if module != "__init__" and not (SOURCE / module / "__init__.py").is_file()
    }
    TopologicalSorter(inside).prepare()


def test_the_loop_can_be_read_in_one_sitting():
    lines = (SOURCE / "training" / "loop.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 250


def test_functions_and_files_are_short():
    long = []
    for file in SOURCE.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if len(text.splitlines()) > 300:
            long.append(module_of(file))
        long += [
            f"{module_of(file)}.{node.name}"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60
        ]
    assert long == []

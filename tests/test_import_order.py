"""A room may import only what stands above it."""

import ast
from pathlib import Path

import limbeck

SOURCE = Path(limbeck.__file__).parent
ORDER = [
    "errors",
    "faults",
    "given_numbers",
    "files",
    "contents",
    "memory",
    "system",
    "reports",
    "batch",
    "anatomy",
    "token_ids",
    "architectures",
    "modules",
    "families",
    "activations",
    "capture",
    "attention",
    "low_rank_loading",
    "factored",
    "low_rank_quantizer",
    "weight_files",
    "weight_names",
    "model_folders",
    "quiet",
    "stored_weights",
    "weight_fit",
    "weight_plan",
    "tied_head",
    "post_processor",
    "lost_letters",
    "pretrained",
    "weight_headers",
    "loading",
    "data",
    "tokenization",
    "teacher",
    "student",
    "objectives",
    "generation",
    "training",
    "evaluation",
    "export",
    "recipe",
    "methods",
    "parse_options",
    "parse_policy",
    "parse",
    "models",
    "describe",
    "lowered",
    "two_vocabularies",
    "prompted",
    "build_stages",
    "amounts",
    "build",
    "sources",
    "prompt_corpora",
    "corpora",
    "assemble",
    "cacheable",
    "cached",
    "costs",
    "measure_pieces",
    "measure_writing",
    "measure",
    "run",
    "plan",
    "study",
    "equal_time",
    "claims",
    "study_report",
    "compare",
    "vocabulary",
    "sample",
    "demo",
    "choices",
    "terminal",
    "cli_evaluate",
    "cli_sample",
    "cli_vocabulary",
    "cli",
    "__main__",
]


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).with_suffix("").parts[0]


def imported_rooms(file: Path) -> set[str]:
    found = set()
    depth = len(file.relative_to(SOURCE).parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            if node.module:
                found.add(node.module.split(".")[0])
            else:
                found |= {name.name for name in node.names}
    return found - {"__version__"}


def test_every_room_is_in_the_order():
    rooms = {room_of(file) for file in SOURCE.rglob("*.py")} - {"__init__"}
    assert rooms == set(ORDER)


def test_rooms_import_only_what_stands_above_them():
    wrong = [
        f"{room_of(file)} imports {room}"
        for file in SOURCE.rglob("*.py")
        if file.name != "__init__.py" or file.parent != SOURCE
        for room in imported_rooms(file)
        if ORDER.index(room) >= ORDER.index(room_of(file)) and room != room_of(file)
    ]
    assert wrong == []


def test_the_loop_can_be_read_in_one_sitting():
    lines = (SOURCE / "training" / "loop.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 250

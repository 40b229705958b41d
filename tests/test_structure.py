"""What holds for all of the package's files: who may import what, and what may stand where."""

import ast
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

import multitask
from multitask.data.class_tables import FOLDER, built_in

PACKAGE = Path(multitask.__file__).parent
TASK_NAMES = {"semantic", "instance", "depth"}
OF_THE_SCRIPTS = {"hydra", "omegaconf"}
MODULES = sorted(PACKAGE.rglob("*.py"))

ORDER = {
    "errors": -2,
    "files": -1,
    "console": -1,
    "data": 0,
    "likelihoods": 1,
    "metrics": 1,
    "instances": 1,
    "models": 2,
    "tasks": 2,
    "weighting": 3,
    "engine": 4,
    "config": 5,
    "synthetic": 6,
    "reporting": 6,
    "evaluation": 6,
    "prediction": 7,
    "runs": 7,
    "comparison": 8,
}
"""The way of the data; what is not named here joins all of it and stands behind."""


def _literals(source: str) -> list[tuple[int, str]]:
    """String literals with their lines; no docstrings, of attributes neither."""
    tree = ast.parse(source)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
    ]


@cache
def _imports(path: Path) -> set[str]:
    """Dotted names of all that a module imports, wherever in it the import stands."""
    module = ["multitask", *path.relative_to(PACKAGE).with_suffix("").parts]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module[: -node.level] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{start}.{alias.name}" for alias in node.names}
    return names


def _place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _part(dotted: str) -> str:
    """Which part of the package a dotted name belongs to: ``multitask.<part>...``."""
    return [*dotted.split("."), ""][1]


def _parts_imported(path: Path) -> set[str]:
    """Parts of the package that a module imports; the package's own attributes are none."""
    parts = {_part(name) for name in _imports(path) if name.split(".")[0] == "multitask"}
    return {part for part in parts if (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()} - {""}


def test_scan_finds_literals_but_not_docstrings() -> None:
    source = '"""depth"""\nx = 1\n"""depth"""\ndef f():\n    "depth"\n    return {"depth": f"{x}"}\n'
    assert [line for line, value in _literals(source) if value == "depth"] == [6]


def test_scan_sees_the_whole_package() -> None:
    found = {path.relative_to(PACKAGE).parts[0] for path in MODULES}
    assert {"data", "tasks", "models", "engine", "likelihoods.py", "weighting", "config"} <= found
    assert "torch" in {name.split(".")[0] for name in _imports(PACKAGE / "weighting/base.py")}
    assert _parts_imported(PACKAGE / "weighting/base.py") == {"errors", "likelihoods"}


def test_no_module_outside_the_tasks_names_one() -> None:
    # One's own files of metric depth are described under the key data.depth, whatever is learned from them.
    may_name = {"data/description.py": {"depth"}}
    found = [
        f"{_place(path)}:{line} {value!r}"
        for path in MODULES
        if path.parent.name != "tasks"
        for line, value in _literals(path.read_text())
        if value in TASK_NAMES - may_name.get(_place(path), set())
    ]
    assert found == []


def test_task_s_own_module_names_no_other() -> None:
    for name in TASK_NAMES:
        named = {value for _, value in _literals((PACKAGE / "tasks" / f"{name}.py").read_text())} & TASK_NAMES
        assert named == {name}


NAMES_A_TABLE = {
    "synthetic": "draws street scenes, whose classes are those of Cityscapes",
    "benchmark/official.py": "calls the official scripts, which know these classes alone",
    "evaluation/result_files.py": "writes the files of Cityscapes' server",
    "data/formats.py": "says which table each published layout's files have, by whose folders data=mixed knows them",
    "engine/checkpoint.py": "reads checkpoints of before there were tables",
    "runs/same_run.py": "goes on with runs of before there were tables",
}
"""Where a class table is named, and why; everything else gets the table of its data."""


def _tables_named(source: str) -> list[str]:
    """Where a module gets a table by its name, or has the name of a table or mapping in a literal."""
    tables = {path.stem for path in FOLDER.glob("*.yaml")}
    lines = [line for line, value in _literals(source) if value.removesuffix(".yaml").rpartition("/")[2] in tables]
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        names += [node.attr] if isinstance(node, ast.Attribute) else []
        lines += [node.lineno for name in names if name == built_in.__name__]
    return [source.splitlines()[line - 1].strip() for line in sorted(set(lines))]


def test_only_where_there_is_a_reason_a_class_table_is_named() -> None:
    named = {_place(path): found for path in MODULES if (found := _tables_named(path.read_text()))}
    by_place = {name: next((place for place in NAMES_A_TABLE if name.startswith(place)), None) for name in named}
    assert {name: named[name] for name, place in by_place.items() if place is None} == {}
    assert set(by_place.values()) == NAMES_A_TABLE.keys(), "a place that names no table needs no reason"


@pytest.mark.parametrize(
    "line",
    [
        "from multitask.data.class_tables import built_in, read_table",
        "CLASSES = tables.built_in(name)",
        "CLASSES = read_table('camvid')",
        "CLASSES = read_table(f'{folder}/configs/classes/cityscapes.yaml')",
        "MAPPINGS = ['camvid_to_cityscapes']",
    ],
)
def test_scan_would_find_a_new_module_that_names_a_table(line: str) -> None:
    assert _tables_named(f'"""cityscapes"""\n\nOTHER = "cityscapes of mine"\n{line}\n') == [line]


def _imported_parts(modules: Iterable[Path]) -> list[tuple[str, str]]:
    """Each module with each part of the package that it imports."""
    return [(_place(path), part) for path in modules for part in sorted(_parts_imported(path))]


def test_module_imports_only_what_stands_before_it() -> None:
    last = len(ORDER)
    later = [
        f"{module} imports {part}"
        for module, part in _imported_parts(MODULES)
        if ORDER.get(part, last) > ORDER.get(module.removesuffix(".py").split("/")[0], last)
    ]
    assert later == []


def test_no_module_imports_hydra() -> None:
    found = [_place(path) for path in MODULES if {name.split(".")[0] for name in _imports(path)} & OF_THE_SCRIPTS]
    assert found == [], "only scripts/ imports Hydra"


def test_models_import_neither_tasks_nor_data() -> None:
    parts = _imported_parts((PACKAGE / "models").glob("*.py"))
    assert [f"{module} imports {part}" for module, part in parts if part not in ("models", "errors")] == []


def test_tasks_do_not_know_the_models() -> None:
    parts = _imported_parts((PACKAGE / "tasks").glob("*.py"))
    assert [module for module, part in parts if part == "models"] == []


def test_nothing_but_the_package_s_own_load_needs_predictions() -> None:
    needs = [module for module, part in _imported_parts(MODULES) if part == "prediction"]
    assert [module for module in needs if module != "__init__.py" and not module.startswith("prediction/")] == []


def test_every_file_and_folder_has_a_name_of_its_own() -> None:
    files = [path for path in MODULES if path.stem not in ("__init__", "base")]
    folders = [path.parent for path in MODULES if path.name == "__init__.py"]
    places = defaultdict(list)
    for path in [*files, *folders]:
        places[path.stem].append(_place(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_file_is_longer_than_300_lines() -> None:
    long = {_place(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > 300}
    assert long == {}

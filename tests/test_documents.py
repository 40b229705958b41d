"""What the documentation names must exist: links, headings, commands, keys, files."""

import importlib
import itertools
import re
import shlex
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

import multitask
from multitask.runs.same_run import flatten
from tests.compose import ROOT, config
from tests.documents import PAGES, anchors, blocks, code_lines, links, named, prose, spans, tables_in, tree
from tests.test_structure import MODULES, ORDER

CONFIGS = ROOT / "configs"
GROUPS = [path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name not in ("classes", "shared")]
ENTRIES = [path.stem for path in CONFIGS.glob("*.yaml") if "defaults" not in path.stem]

PLACEHOLDERS = {"experiment=NAME": "experiment=table1", "data=NAME": "data=kitti"}
"""What stands for any choice, and one of them."""


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def test_every_page_is_in_the_index() -> None:
    found = {(ROOT / "docs" / link).resolve() for link in links(ROOT / "docs/README.md")}
    results = {(ROOT / "docs/results" / link).resolve() for link in links(ROOT / "docs/results/README.md")}
    pages = {page for page in PAGES if page.parts[-2] in ("docs", "results")} - {ROOT / "docs/README.md"}
    assert {named(page) for page in pages - found - results} == set()


def test_every_link_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        for link in links(page):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if "://" in link:
                continue
            if not target.is_relative_to(ROOT) or not target.exists():
                broken.append(f"{named(page)}: {link}")
            elif anchor and anchor not in anchors(target):
                broken.append(f"{named(page)}: {link}: no such heading, only {sorted(anchors(target))}")
    assert broken == []


def _commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Name of the script and what is typed behind it, of each command of a page."""
    for line in code_lines(page):
        found = re.search(r"(?:^|\s)(?:python scripts/)?(\w+)\.py (.*)", line)
        if not found or not (ROOT / f"scripts/{found[1]}.py").is_file():
            continue
        optional = re.sub(r"\[(\w+=[\w.]+|'[^']*'|key=value \.\.\.)\](?=\s|$)", r"\1", found[2])
        typed = shlex.split(optional, comments=True)
        yield found[1], [PLACEHOLDERS.get(part, part) for part in typed if part not in ("key=value", "...")]


def _written(page: Path, folder: Path) -> Path:
    """A folder with the YAML files that a page has its readers write: each path in backticks, and the block behind."""
    for path, block in re.findall(r"`([\w/]+\.yaml)`[^`]*?\n\n((?:^ {4,}.*\n)+)", page.read_text(), re.MULTILINE):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(textwrap.dedent(block))
    return folder


def _overrides(page: Path, typed: list[str], folder: Path) -> list[str]:
    """What is typed, with the folder of ``--config-dir`` (a page's own or the project's) as compose wants it."""
    if "--config-dir" not in typed:
        return typed
    place = typed.index("--config-dir")
    name = typed[place + 1]
    found = next(path for path in (_written(page, folder / page.stem) / name, ROOT / name) if path.is_dir())
    return [*typed[:place], *typed[place + 2 :], f"hydra.searchpath=[file://{found}]"]


def test_every_command_composes(tmp_path: Path) -> None:
    refused = []
    commands = {(script, tuple(typed)): page for page in PAGES for script, typed in _commands(page)}
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for (script, typed), page in commands.items():
            try:
                compose(script, _overrides(page, list(typed), tmp_path))
            except (HydraException, OmegaConfBaseException) as error:
                refused.append(f"{named(page)}: {script}.py {shlex.join(typed)}: {error}")
    assert refused == []
    scripts = {script for script, _ in commands}
    assert scripts >= {"train", "evaluate", "predict", "compare", "prepare_data", "export", "plot"}


@cache
def _composed() -> list[dict[str, object]]:
    """Configurations that together have every entry, and every choice of every group."""
    choices = [[f"{group}={path.stem}" for path in sorted((CONFIGS / group).glob("*.yaml"))] for group in GROUPS]
    together = zip(*(itertools.islice(itertools.cycle(one), max(map(len, choices))) for one in choices), strict=True)
    found = [config(name=name) for name in ENTRIES]
    found += [config(*(part for part in given if not part.startswith("task="))) for given in together]
    return list(map(flatten, found))


def _known_keys() -> set[str]:
    """Keys, and groups of them, that some script takes with some choice."""
    found = set(GROUPS)
    for key in {key for composed in _composed() for key in composed}:
        parts = key.split(".")
        found |= {".".join(parts[: n + 1]) for n in range(len(parts))}
    return found


def test_every_key_in_the_text_is_one_of_the_configuration() -> None:
    known = _known_keys()
    example = yaml.safe_load((ROOT / "examples/normals/experiment/normals.yaml").read_text())
    known |= {f"task.normals.{key}" for key in example["task"]["normals"]} | {"weighting.weights.normals"}
    unknown = [
        f"{named(page)}: {span}"
        for page in PAGES
        for span in spans(page)
        for key in re.findall(r"(?:^|[ '+])([a-z_]+(?:\.\w+)*)=", span)
        if key not in known and not re.search(r"^(group|key)[.=]|make |docker", span)
    ]
    assert unknown == []


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named_targets = {
        target
        for page in PAGES
        for line in code_lines(page)
        if (found := re.match(r"make ([a-z ]+)", line))
        for target in found[1].split()
    }
    assert named_targets - targets == set()
    assert {"train", "test", "reproduce", "kitti"} <= named_targets


def test_every_path_in_the_text_exists() -> None:
    top = r"(?:multitask|configs|scripts|tests|docs|examples|results/embedded|results/transfer|data/README|\.github)\b"
    missing = [
        f"{named(page)}: {path}"
        for page in PAGES
        for span in spans(page)
        for path in re.findall(rf"(?:^|[\s=\[])({top}/[\w./-]*)", span)
        if "NAME" not in path and not (ROOT / path).exists()
    ]
    assert missing == []


def test_every_name_of_the_package_in_the_text_exists() -> None:
    wrong = []
    for page in PAGES:
        for dotted in re.findall(r"\bmultitask(?:\.\w+)+", "\n".join(spans(page)).replace(".NAME", "")):
            module, _, name = dotted.rpartition(".")
            if not hasattr(importlib.import_module(module), name):
                try:
                    importlib.import_module(dotted)
                except ModuleNotFoundError:
                    wrong.append(f"{named(page)}: {dotted}")
    assert wrong == []


SECTIONS = {"Top level": "train"} | {f"{name}.py": name for name in ("evaluate", "predict", "compare")}
"""Heading on the page of the configuration, where it is no group's -> the entry that has the keys."""


def _stated_defaults() -> Iterator[tuple[str, str, str]]:
    """Entry, key and default, where the page of the configuration has the value itself."""
    for section in (ROOT / "docs/configuration.md").read_text().split("\n## "):
        heading = section.partition("\n")[0]
        for row in itertools.chain(*tables_in(section)):
            if re.fullmatch(r"`[^`<]+`", default := row.get("default", "")):
                entry = row.get("script", SECTIONS.get(heading, "train"))
                yield entry.strip("`").removesuffix(".py"), row["key"].strip("`"), default.strip("`")


def test_defaults_are_those_of_the_configuration() -> None:
    composed = dict(zip(ENTRIES, _composed(), strict=False))
    stated = list(_stated_defaults())
    wrong = [
        f"{entry}: {key}: {default}"
        for entry, key, default in stated
        if yaml.safe_load(default) != composed[entry].get(key, "no such key")
    ]
    assert wrong == []
    assert len(stated) > 60


def test_every_key_is_documented() -> None:
    documented = {word.rstrip("=") for text in spans(ROOT / "docs/configuration.md") for word in text.split()}
    documented |= {f"task.{name}._target_" for name in ("semantic", "instance", "depth")}
    documented |= {"comparison"}  # which an experiment sets
    missing = {key for composed in _composed() for key in composed if not key.startswith("starts.")} - documented
    # What a description of files has below its own keys is on the page of folders.
    described = re.compile(r"data\.(class_ids|instance_ids|disparity|depth|splits)\.")
    assert {key for key in missing if not described.match(key)} == set()


def test_architecture_shows_the_package_as_it_is() -> None:
    shown = (ROOT / "docs/architecture.md").read_text().partition("## Where things stand\n")[2]
    assert tree(ROOT / "multitask") in shown, (
        "each line is the first sentence of the file's docstring, or its beginning"
    )


def test_architecture_gives_the_order_of_imports() -> None:
    groups: dict[int, list[str]] = {}
    names = {path.relative_to(ROOT / "multitask").parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    for name in sorted(names):
        groups.setdefault(ORDER.get(name, len(ORDER)), []).append(name)
    wanted = (
        "; ".join(", ".join(groups[rank]) for rank in sorted(groups))
        .replace(", __init__", "")
        .replace("__init__, ", "")
    )
    assert f"earlier group: {wanted}." in " ".join((ROOT / "docs/architecture.md").read_text().split())


def test_citation_is_of_this_version_and_of_the_paper_that_readme_cites() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == multitask.__version__
    assert citation["preferred-citation"]["doi"] in (ROOT / "README.md").read_text()


def test_parts_of_a_page_are_told_apart() -> None:
    page = ROOT / "docs/export.md"
    assert "pip install" not in prose(page)
    assert blocks(page)[0].splitlines()[1].startswith("python scripts/export.py checkpoint=")
    assert anchors(ROOT / "docs/photographs.md") >= {"photographs-kitti-2015", "the-data"}
    assert "the-papers-configuration" in anchors(ROOT / "docs/training.md")

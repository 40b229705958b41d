"""The documentation's pages, taken apart: code, links, headings, tables."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from tests.compose import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md", "results/README.md")),
    *(ROOT / "examples").rglob("*.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:^\n|\A)((?:^ {4,}\S.*\n|^\n(?= {4}))+)", re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:/\d+)?")

Table = list[dict[str, str]]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def prose(path: Path) -> str:
    """The page without its blocks of code."""
    return _INDENTED.sub("\n", _FENCED.sub("", path.read_text()))


@cache
def blocks(path: Path) -> list[str]:
    """The indented blocks of code, without the indentation, and with continued lines joined."""
    found = _INDENTED.findall(_FENCED.sub("", path.read_text()))
    return [re.sub(r" \\\n\s*", " ", "\n".join(line.strip() for line in block.splitlines())) for block in found]


@cache
def spans(path: Path) -> list[str]:
    """What stands between backticks in the text, each on one line."""
    return [" ".join(span.split()).replace("\\|", "|") for span in _SPAN.findall(prose(path))]


def code_lines(path: Path) -> list[str]:
    return [line for block in blocks(path) for line in block.splitlines()] + spans(path)


def links(path: Path) -> list[str]:
    """Targets of links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", _SPAN.sub("", prose(path)))


@cache
def anchors(path: Path) -> set[str]:
    """The names by which GitHub links to the page's headings."""
    found: dict[str, int] = {}
    names = set()
    for title in re.findall(r"^#{1,6} (.+)$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return names


def cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def tables_in(text: str) -> list[Table]:
    """The tables, each row by its columns' titles."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        heading, _, *rows = map(cells, block.splitlines())
        found.append([dict(zip(heading, row, strict=True)) for row in rows])
    return found


@cache
def tables(path: Path) -> list[Table]:
    return tables_in(path.read_text())


def table(path: Path, *titles: str) -> Table:
    """The first table that has all these columns."""
    return next(found for found in tables(path) if set(titles) <= found[0].keys())


def by_name(rows: Table) -> dict[str, dict[str, str]]:
    """Rows by what stands in their first column, without emphasis."""
    return {next(iter(row.values())).strip("*"): row for row in rows}


def numbers(text: str) -> Iterator[tuple[float, float]]:
    """Every number in a text, and half a unit of its last digit."""
    for found in _NUMBER.findall(text):
        top, _, bottom = found.partition("/")
        _, _, digits = top.partition(".")
        yield float(top) / float(bottom or 1), 0.5 * 10 ** -len(digits)


def same(shown: str, stored: str) -> bool:
    """Whether a cell shows the numbers of another, which may have more digits."""
    one, other = list(numbers(shown)), list(numbers(stored))
    if len(one) != len(other):
        return False
    # Of a number that was rounded twice, the first time to `finer`, the last digit may be one off.
    return all(
        abs(a - b) <= (coarse + finer if finer < coarse else 0) + 1e-9
        for (a, coarse), (b, finer) in zip(one, other, strict=True)
    )


_WIDTH = 84
"""Characters that a line of the tree has for what a file is."""


def tree(package: Path) -> str:
    """A package as a tree: a line for each folder and file, with the first words of its docstring."""
    lines = [f"{package.name}/"]
    for path in sorted(package.rglob("*.py"), key=_in_order(package)):
        parts = path.relative_to(package).parts
        if path.name == "__init__.py":
            if len(parts) > 1:
                lines.append(_line(f"  {parts[0]}/", path))
        else:
            lines.append(_line("  " * len(parts) + path.name, path))
    return "\n".join(lines)


def _in_order(package: Path) -> Callable[[Path], tuple[object, ...]]:
    """Files at the top first; of a folder its ``__init__.py`` first."""

    def key(path: Path) -> tuple[object, ...]:
        parts = path.relative_to(package).parts
        return len(parts) > 1, parts[:-1], parts[-1] != "__init__.py", parts[-1]

    return key


def _line(name: str, path: Path) -> str:
    words = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0].rstrip(".")
    while len(words) > _WIDTH:  # a part of the sentence less
        ends = [found.start() for found in re.finditer(r"[,:;] | \(", words)]
        words = words[: ends[-1]] if ends else words[:_WIDTH].rpartition(" ")[0]
    if words.count("(") > words.count(")"):
        words = words.rpartition(" (")[0]
    return f"{name:<28} {words}"

"""The documentation holds together: its links lead somewhere and its Python compiles."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("example_project/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"^python3 -m venv \.venv && \.venv/bin/pip install -q -e '\.\[\w+\]' && \.venv/bin/python -m \w+(?: -n \d)?$", re.MULTILINE
)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose_of(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors_of(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@every_page
def test_every_relative_link_leads_to_a_file_and_a_title(page):
    for link in LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or target.suffix != ".md" or anchor in anchors_of(target), f"{page.name} links to {link}"


@every_page
def test_python_in_the_pages_compiles(page):
    for language, code in FENCE.findall(page.read_text()):
        if language in ("python", "py"):
            ast.parse(code, filename=str(page))


def test_the_readme_opens_with_the_two_commands_for_a_fresh_machine():
    commands = COMMAND.findall((ROOT / "README.md").read_text())
    assert [command.rpartition(" -m ")[2].split()[0] for command in commands] == ["example_project", "pytest"]

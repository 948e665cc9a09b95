"""The documents: their links lead somewhere, and the files that they name for a newcomer hold what they say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.S)
    targets = re.findall(r"\]\(([^)\s#]+)", text)
    missing = [t for t in targets if ":" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_the_files_of_the_exercise_hold_what_they_should() -> None:
    rows = re.findall(
        r"^\| .+? \| `([\w/.]+)`(?: \(`([\w-]+)`\))? \|$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M
    )
    assert len(rows) == 7
    wrong = [(path, name) for path, name in rows if name not in (ROOT / path).read_text("utf-8")]
    assert wrong == []


def test_the_site_names_pages_that_are_there() -> None:
    made = {"reference/rest.md", "reference/settings.md", "reference/commands.md", "reference/python.md"}
    named = re.findall(r": ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    missing = [n for n in named if n not in made and not any((ROOT / d / n).is_file() for d in ("docs", "."))]
    assert missing == []
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert pages - set(named) == set(), "a page of docs/ stands in no part of the site"

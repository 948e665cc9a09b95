"""The documents: their links lead somewhere, and the files that they name for a newcomer hold what they say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


WRAPPED = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *(ROOT / "docs").rglob("*.md")]
MAX_PROSE, MAX_ROW = 100, 160
"""Characters of a line of prose, and of a table's row or a line of code."""


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


@pytest.mark.parametrize("page", WRAPPED, ids=_name)
def test_lines_are_short(page: Path) -> None:
    long: list[str] = []
    is_code = False
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        is_fence = line.lstrip().startswith("```")
        is_code ^= is_fence
        most = MAX_ROW if is_code or is_fence or line.startswith(("|", "    ")) else MAX_PROSE
        if len(line) > most:
            long.append(f"line {number} has {len(line)} characters, at most {most} are readable")
    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_headings(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.S)
    missing: list[str] = []
    for target, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", text):
        linked = (page.parent / target) if target else page
        headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.M)
        if anchor not in {_anchor(h) for h in headings}:
            missing.append(f"{target}#{anchor}")
    assert missing == []


def test_tests_that_documents_name_exist() -> None:
    stems = {p.stem for p in (ROOT / "tests").rglob("test_*.py")}
    missing: list[str] = []
    for page in (ROOT / "docs").rglob("*.md"):
        if page.name == "lab-notes.md":  # notes of a day name the files of that day
            continue
        text = page.read_text("utf-8")
        missing += [p for p in re.findall(r"\btests/[\w/]+\.py", text) if not (ROOT / p).is_file()]
        missing += [m for m in re.findall(r"`(test_\w+)::", text) if m not in stems]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
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
    assert pages - set(named) == set(), "a page of docs/ is in no part of the site"

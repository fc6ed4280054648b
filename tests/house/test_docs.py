"""Links between the pages lead somewhere, and every page can be found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from elf_sdk.cli.reference import commands_markdown
from elf_sdk.deploy.values_reference import values_markdown
from elf_sdk.server.metrics.exposition import metrics_markdown
from elf_sdk.server.team_server import TeamServer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def _text(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(_text(page))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    dead: list[str] = []
    for link in LINK.findall(_text(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in _anchors(target)):
            dead.append(link)
    assert dead == []


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(_text(index))}
    missing = [str(page.relative_to(ROOT)) for page in PAGES[2:] if page != index and page.resolve() not in listed]
    assert missing == []


def test_the_page_of_commands_is_up_to_date() -> None:
    page = ROOT / "docs" / "reference" / "commands.md"
    assert page.read_text(encoding="utf-8") == commands_markdown(), "run scripts/docs"


def test_the_page_of_metrics_is_up_to_date() -> None:
    page = ROOT / "docs" / "reference" / "metrics.md"
    assert page.read_text(encoding="utf-8") == metrics_markdown(), "run scripts/docs"


def test_the_page_of_values_is_up_to_date() -> None:
    page = ROOT / "docs" / "reference" / "chart-values.md"
    assert page.read_text(encoding="utf-8") == values_markdown(), "run scripts/docs"


def test_every_setting_is_on_its_page() -> None:
    code = (ROOT / "elf_sdk" / "settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r"`((?:DOCKER|ELF|GITOPS|JWT|REGISTRY|SOURCE|SUPABASE)_[A-Z0-9_]+)`", code))
    providers = re.search(r"_PROVIDERS: Final = \((.*?)\)", code)
    assert providers is not None
    read |= {f"{name.upper()}_API_KEY" for name in re.findall(r'"(\w+)"', providers[1])}
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert shown - {"ELF_TOKEN"} == read  # the one that a command reads, by click


def test_every_hook_has_a_heading() -> None:
    page = ROOT / "docs" / "reference" / "team-server.md"
    hooks = {name for name in vars(TeamServer) if not name.startswith("_")} - {"running"}
    assert hooks <= _anchors(page)

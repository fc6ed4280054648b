"""Text in a terminal: read as it streams in, in pieces of any size."""

import pytest

from elf_sdk.server.chat.prose import Prose


def shown(text: str, width: int = 24, prefix: str = "", size: int = 1000) -> str:
    """What is on the screen; bold in angle brackets."""
    screen: list[str] = []
    prose = Prose(screen.append, lambda part, role: f"<{part}>" if role == "title" else part, width)
    for start in range(0, len(text), size):
        prose.add(text[start : start + size], prefix)
    prose.end()
    return "".join(screen)


TEXTS = [
    ("a few words that need two lines", "a few words that need\ntwo lines\n"),
    ("- an item that needs two lines\n- two", "- an item that needs two\n  lines\n- two\n"),
    ("10. an item that needs two lines", "10. an item that needs\n    two lines\n"),
    ("one\n\n\n\ntwo\n", "one\n\ntwo\n"),
    ("# A title\ntext", "<A>< title>\ntext\n"),
    ("**For whom.** People", "<For>< whom.> People\n"),
    ("a **word**, and 2**3 and ** stay", "a< word,> and 2**3 and **\nstay\n"),
    ("```\n# **code**\n```", "```\n# **code**\n```\n"),
    ("averyveryverylongwordthatfitsnowhere no", "averyveryverylongwordthatfitsnowhere\nno\n"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_text_is_shown_the_same_in_whatever_pieces_it_comes(text: str, expected: str, size: int) -> None:
    assert shown(text, size=size) == expected


def test_each_line_of_another_team_has_its_prefix() -> None:
    assert (
        shown("- one two three four five\n\nsix", prefix="| ", width=16)
        == "| - one two\n|   three four\n|   five\n|\n| six\n"
    )

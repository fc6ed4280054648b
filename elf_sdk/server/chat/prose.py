"""Text for a terminal, shown as it streams in: wrapped at words, with the little Markdown that models write."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

__all__ = ["Prose", "Style"]

Style = Callable[[str, str], str]
"""Colours a text: `style(text, role)` with the roles title, you, team, quiet, good, bad and box."""

_NEXT: Final = re.compile(r"[^\S\n]*(?:\n|\S+(?=\s))")
_BULLET: Final = re.compile(r"[-*•]|\d{1,3}[.)]")


class Prose:
    """Writes text in pieces of any size; a word is written once its end is known.

    Headings and `**bold**` are shown so, lists hang, and runs of blank lines become one. Text between fences stays
    as it is.

    Args:
        write: puts text on the screen, without a line's end of its own.
        style: colours it.
        width: characters in a line.
    """

    def __init__(self, write: Callable[[str], None], style: Style, width: int) -> None:
        self._write = write
        self._style = style
        self._width = width
        self._prefix = ""
        self._rest = ""
        self._column = 0  # where the cursor is; 0 means that nothing is on the line, not even the prefix
        self._begins = True  # no word of the present paragraph was seen
        self._hang = 0
        self._blank = False
        self._heading = self._bold = self._fenced = False

    def add(self, text: str, prefix: str = "") -> None:
        """The next piece. Each line begins with `prefix`; another one than before ends what was there."""
        if prefix != self._prefix:
            self.end()
            self._prefix = prefix
        self._rest += text
        while found := _NEXT.match(self._rest):
            self._rest = self._rest[found.end() :]
            self._part(found[0])

    def end(self) -> None:
        """Write what is left, and end the line. What comes next is a new text."""
        if self._rest.strip():
            self._part(self._rest.rstrip())
        self._rest = ""
        if self._column:
            self._new_line()
        self._begin()
        self._blank = self._fenced = False

    def _part(self, part: str) -> None:
        if part.endswith("\n"):
            self._end_of_paragraph()
            return
        word = part.lstrip()
        spaces = part[: len(part) - len(word)].replace("\t", "    ")
        if self._begins:
            self._begins = False
            if word.startswith("```"):
                self._fenced = not self._fenced
            elif not self._fenced and re.fullmatch("#{1,6}", word):
                self._heading = True
                return
            self._hang = len(spaces) + (len(word) + 1 if _BULLET.fullmatch(word) else 0)
        elif self._column == 0:
            spaces = ""  # the mark of a heading was before it
        self._word(spaces, word)

    def _word(self, spaces: str, word: str) -> None:
        bold = self._bold or self._heading
        if not self._fenced:
            if len(word) > 2 and word.startswith("**"):
                word, bold, self._bold = word[2:], True, True
            if self._bold and (closing := re.search(r"\*\*(?=\W*$)", word)):
                word = word[: closing.start()] + word[closing.end() :]
                self._bold = False
        start = len(self._prefix) + self._hang
        if self._column > start and self._column + len(spaces) + len(word) > self._width:
            self._new_line()
            spaces = " " * self._hang
        if self._column == 0:
            self._write(self._style(self._prefix, "box") if self._prefix else "")
            self._column = len(self._prefix)
        self._write(self._style(spaces + word, "title") if bold else spaces + word)
        self._column += len(spaces) + len(word)
        self._blank = False

    def _end_of_paragraph(self) -> None:
        if self._column:
            self._new_line()
        elif not self._blank:
            self._write(self._style(self._prefix.rstrip(), "box") if self._prefix else "")
            self._new_line()
            self._blank = True
        self._begin()

    def _new_line(self) -> None:
        self._write("\n")
        self._column = 0

    def _begin(self) -> None:
        self._begins, self._hang = True, 0
        self._heading = self._bold = False

"""Where a team's files come from: the commit and the repository, as git knows them, for an image's labels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from elf_sdk.deploy.image.program import asked
from elf_sdk.deploy.images import IMAGES_FILE

__all__ = ["Provenance", "provenance_of"]

_SCP: Final = re.compile(r"^(?:[\w.-]+@)?([\w.-]+):(?!/)(.+)$")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What git says of a directory.

    Attributes:
        revision: the last commit that changed it; empty where there is none, or where files differ from it.
        source: address of the repository, without credentials; empty where it has none that others can open.
    """

    revision: str = ""
    source: str = ""


def provenance_of(directory: Path) -> Provenance:
    """What git says of `directory`; nothing where git, or a repository, is not there.

    The revision is the directory's and not the repository's, so that a commit elsewhere does not make another image.
    The digests, which a push writes there, are no part of the image and do not count.
    """
    git = ("git", "-C", str(directory))
    here = (".", f":(exclude){IMAGES_FILE}")
    changed = asked([*git, "status", "--porcelain", "--", *here])
    if changed is None:
        return Provenance()
    revision = asked([*git, "log", "-1", "--format=%H", "--", *here]) if not changed else ""
    return Provenance(revision or "", _public(asked([*git, "remote", "get-url", "origin"]) or ""))


def _public(address: str) -> str:
    """`address` without a user and a password; empty for a path of this machine."""
    if scp := _SCP.match(address):
        return f"ssh://{scp[1]}/{scp[2]}"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https", "ssh", "git") or not parts.hostname:
        return ""
    host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    return urlunsplit((parts.scheme, host, parts.path, "", ""))

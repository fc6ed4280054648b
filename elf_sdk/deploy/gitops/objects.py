"""The names that git gives to files and directories, computed without git.

With them thousands of directories are compared with a commit by one listing, and none of their files is read.
Format: git's documentation of its objects, gitformat-pack(5) and git-hash-object(1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal

from elf_sdk.deploy.gitops.layout import Tree

__all__ = ["Hash", "blob_id", "tree_id"]

Hash = Literal["sha1", "sha256"]

_FILE: Final = "100644"
_DIRECTORY: Final = "40000"


@lru_cache(maxsize=4096)
def blob_id(content: bytes, algorithm: Hash = "sha1") -> str:
    """The id of a file with this content."""
    return _id("blob", content, algorithm)


def tree_id(tree: Tree, algorithm: Hash = "sha1") -> str:
    """The id of a place: of the directory, or of the file where it is one."""
    if "" in tree:
        return blob_id(tree[""], algorithm)
    inner: dict[str, dict[str, bytes]] = {}
    entries: dict[str, tuple[str, str]] = {}
    for path, content in tree.items():
        name, below, rest = path.partition("/")
        if below:
            inner.setdefault(name, {})[rest] = content
        else:
            entries[name] = (_FILE, blob_id(content, algorithm))
    for name, files in inner.items():
        entries[name] = (_DIRECTORY, tree_id(files, algorithm))
    return _id("tree", _listing(entries), algorithm)


def _listing(entries: Mapping[str, tuple[str, str]]) -> bytes:
    # A directory sorts as if its name ended in a slash.
    ordered = sorted(entries, key=lambda name: f"{name}/" if entries[name][0] == _DIRECTORY else name)
    return b"".join(f"{entries[name][0]} {name}\0".encode() + bytes.fromhex(entries[name][1]) for name in ordered)


def _id(kind: str, content: bytes, algorithm: Hash) -> str:
    digest = hashlib.new(algorithm, f"{kind} {len(content)}\0".encode(), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()

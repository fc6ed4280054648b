"""The files of a GitOps repository on disk: what is there, and how places are replaced whole.

One place is replaced by one exchange of two names. Several are, too: the next tree is built beside, what stays as it is
is taken over by links, and the directory that ELF writes is exchanged. So whoever looks, and whenever a kill comes,
there is the old tree or the new one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from elf_sdk.deploy.gitops.directory import is_ours
from elf_sdk.deploy.gitops.layout import Tree, environment_of, place_of
from elf_sdk.errors import BadInput
from elf_sdk.files import keep_tree, list_tree, staged, swap, write_tree

__all__ = ["read_place", "replace_places"]


def read_place(root: Path, place: str) -> Tree | None:
    """The files of a place; None where there is none. Links are read as what they point to is called.

    What git does not know, such as a pipe, is not there.
    """
    path = f"{root}/{place}"
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        return {"": _read(path, link=stat.S_ISLNK(mode))}
    if not stat.S_ISDIR(mode):
        return None
    tree: dict[str, bytes] = {}
    _read_directory(path, "", tree)
    return dict(sorted(tree.items()))


def _read_directory(path: str, prefix: str, tree: dict[str, bytes]) -> None:
    # Thousands of them are read for one commit, so by names and not by objects.
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _read_directory(entry.path, f"{prefix}{entry.name}/", tree)
            elif entry.is_symlink() or entry.is_file():
                tree[prefix + entry.name] = _read(entry.path, link=entry.is_symlink())


def _read(path: str, *, link: bool) -> bytes:
    if link:
        return os.fsencode(os.readlink(path))  # noqa: PTH115 - as above
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as above
        return file.read()


def replace_places(root: Path, places: Mapping[str, Tree | None]) -> None:
    """Make places what they should be, all of them or none.

    To be used inside `tree_lock(root)`.

    Args:
        root: the directory that ELF writes.
        places: that differ from what is there.

    Raises:
        BadInput: a team's directory holds a file that `elf gitops` did not write.
        Failure: something cannot be written; then all is as it was.
    """
    _refuse_foreign(root, places)
    if not places:
        return
    with staged(root) as stage:
        if len(places) == 1 and root.is_dir():
            ((place, tree),) = places.items()
            if tree is not None and (root / place).exists():
                # Under a name of its own, so that the exchange has its stage beside it on the same file system.
                _write(stage / "place", tree)
                swap(stage / "place", root / place)
                return
        for place, tree in places.items():
            if tree is not None:
                _write(stage / place, tree)
        if root.is_dir():
            keep_tree(root, stage, [path for path in list_tree(root) if place_of(path) not in places])
        swap(stage, root)


def _write(target: Path, tree: Tree) -> None:
    if "" in tree:
        write_tree(target.parent, {target.name: tree[""]})
    else:
        write_tree(target, tree)


def _refuse_foreign(root: Path, places: Mapping[str, Tree | None]) -> None:
    for place, tree in places.items():
        if environment_of(place) and (root / place).is_dir():
            foreign = [
                name for name in list_tree(root / place) if name not in (tree or {}) and not is_ours(place, name)
            ]
            if foreign:
                raise BadInput(f"{root / place} holds {foreign[0]}, which elf gitops did not write; move it elsewhere")

"""Commits made of objects alone: no index, no file of the work tree and no branch takes part."""

from __future__ import annotations

import json
import os
from typing import Final

from elf_sdk.deploy.gitops.change import OPERATION, SCOPE, Change, message
from elf_sdk.deploy.gitops.git import Git, said
from elf_sdk.deploy.gitops.layout import place_of
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.errors import BadInput, Failure

__all__ = ["between", "change_of", "store"]

_OURS: Final = (OPERATION, SCOPE, "Elf-Environments")
_FIELDS: Final = f"%s%x00%B%x00%(trailers:key={OPERATION},valueonly)%x00%(trailers:key={SCOPE},valueonly)"


def store(git: Git, change: Change, base: Snapshot) -> str:
    """Make the commit that puts `change` on `base`; nothing refers to it yet.

    Args:
        git: in the repository.
        change: with nothing but what differs from `base`.
        base: the commit below; one without an id makes the first commit.

    Returns:
        The id of the commit.

    Raises:
        BadInput: nobody has told git who commits.
        Failure: the objects cannot be written.
    """
    for role in ("AUTHOR", "COMMITTER"):
        if git.attempt("var", f"GIT_{role}_IDENT").returncode != 0:
            raise BadInput(
                "git does not know who commits here; tell it with: git config --global user.name NAME, and: "
                "git config --global user.email ADDRESS"
            )
    done = git.attempt("fast-import", "--quiet", "--date-format=raw", stdin=_stream(change, base))
    if done.returncode != 0:
        raise Failure(f"git cannot write into {git.directory}: {said(done)}; nothing was committed")
    tree = git("rev-parse", "--verify", f"{done.stdout.decode().strip()}^{{tree}}").strip()
    sign = git.attempt("config", "--type=bool", "--get", "commit.gpgSign").stdout.strip() == b"true"
    options = [*(["-S"] if sign else []), *(["-p", base.commit] if base.commit else [])]
    return git("commit-tree", tree, *options, "-F", "-", stdin=message(change, base).encode()).strip()


def _stream(change: Change, base: Snapshot) -> bytes:
    """What git fast-import(1) is told: each content once, then a commit, whose tree is all that is wanted of it."""
    marks: dict[bytes, int] = {}
    contents: list[bytes] = []
    edits: list[bytes] = []
    for place, tree in change.places.items():
        where = f"{base.path}/{place}"
        if place in base.ids:
            edits.append(f"D {_quoted(where)}\n".encode())
        for name, content in (tree or {}).items():
            mark = marks.get(content)
            if mark is None:
                mark = marks[content] = len(marks) + 2  # 1 is the commit's
                contents += [f"blob\nmark :{mark}\ndata {len(content)}\n".encode(), content, b"\n"]
            edits.append(f"M 100644 :{mark} {_quoted(f'{where}/{name}' if name else where)}\n".encode())
    # Its branch is gone again before the program ends.
    branch = f"refs/elf/{os.getpid()}"
    begin = f"commit {branch}\nmark :1\ncommitter elf <elf> 0 +0000\ndata 0\n"
    begin += f"from {base.commit}\n" if base.commit else ""
    end = f"\nget-mark :1\nreset {branch}\nfrom {'0' * len(base.commit or _NO_COMMIT)}\n\n"
    return b"".join([*contents, begin.encode(), *edits, end.encode()])


_NO_COMMIT: Final = "0" * 40


def _quoted(path: str) -> str:
    return json.dumps(path, ensure_ascii=False)


def between(git: Git, below: str | None, commit: str) -> list[str]:
    """The commits above `below` up to `commit`, oldest first; without `below`, all."""
    return git("rev-list", "--reverse", "--first-parent", commit, *([f"^{below}"] if below else []), "--").split()


def change_of(git: Git, commit: str, path: str) -> Change:
    """What a commit of ours changed.

    Args:
        git: in the repository.
        commit: its id.
        path: of the directory that ELF writes.

    Raises:
        BadInput: people made it, or it changed something else too.
    """
    title, body, operation, scope = git("show", "-s", f"--format={_FIELDS}", commit).split("\0")
    listed = git("diff-tree", "-r", "-z", "--root", "--no-commit-id", "--name-only", "--no-renames", commit)
    names = [name for name in listed.split("\0") if name]
    if not operation.strip() or not all(name.startswith(f"{path}/") for name in names):
        raise BadInput(
            f"the remote has moved, and the commit {commit[:10]} ({title!r}) is none that elf can make again; run "
            f"git -C {git.directory} pull --rebase, and push again"
        )
    places = sorted({place_of(name.removeprefix(f"{path}/")) for name in names})
    trees = Snapshot(git, commit, path).read_all(places)
    change = Change({place: trees.get(place) for place in places}, operation.strip(), scope.strip())
    if change.operation == "write":
        return change
    trailers = dict(line.split(": ", 1) for line in body.strip().rpartition("\n\n")[2].splitlines() if ": " in line)
    others = {name: value for name, value in trailers.items() if name not in _OURS}
    return Change(change.places, change.operation, change.scope, title, (), others)

"""A clone of the GitOps repository: what its commits hold, how a change is written and committed, and how it is pushed.

A commit is built from objects, and neither the index nor a file takes part: until the branch moves, which is one step,
nothing has happened. A push that comes too late is built anew on what is there by then, and never forced.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, cast

from elf_sdk.deploy.gitops.argocd import Source
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.commits import between, change_of, store
from elf_sdk.deploy.gitops.git import Git, said, without_credentials
from elf_sdk.deploy.gitops.layout import Tree, place_of
from elf_sdk.deploy.gitops.objects import Hash, tree_id
from elf_sdk.deploy.gitops.pending import PENDING_FILE, Pending
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.deploy.gitops.worktree import read_place, replace_places
from elf_sdk.errors import BadInput, Failure, Retryable
from elf_sdk.files import tree_lock

__all__ = ["REMOTE", "Pushed", "Render", "Repository"]

Render = Callable[[str, Snapshot], Change]
"""What `elf gitops write`, asked for that scope, makes of a commit; called when a push has to be built anew."""

REMOTE: Final = "origin"

_ATTEMPTS: Final = 30
_RACE: Final = re.compile(
    r"fetch first|non-fast-forward|stale info|cannot lock ref|failed to update ref|incorrect old value|failed to lock"
)
_UNDERWAY: Final = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
}


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    Attributes:
        branch: on the remote.
        commits: that are new there, oldest first.
        attempts: how often it was tried.
        behind: whether the clone could not be brought to what was pushed, because of changes in it.
    """

    branch: str
    commits: tuple[str, ...]
    attempts: int
    behind: bool = False


class Repository:
    """A clone, or the repository that the project itself is in.

    Args:
        top: the top of its work tree, without links.
        root: the directory in it that ELF writes.
        url: of the remote.
        follows: the branch that Argo CD follows.
        own: whether it holds the project too, which may be on any branch.

    Attributes:
        git: in `top`.
        source: where Argo CD reads.
    """

    def __init__(self, top: Path, root: Path, url: str, follows: str, *, own: bool) -> None:
        self.git = Git(top)
        self.top = top
        self.root = root
        self.source = Source(without_credentials(url), follows, root.relative_to(top).as_posix())
        self._url = url
        self._own = own
        self._snapshots: dict[str | None, Snapshot] = {}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Exclude every other `elf` that works in this clone.

        Raises:
            Retryable: another one does.
        """
        with tree_lock(self.root):
            yield

    @cached_property
    def algorithm(self) -> Hash:
        """How the repository names objects."""
        return cast("Hash", self.git("rev-parse", "--show-object-format").strip())

    def branch(self) -> str:
        """The branch that the clone is on.

        Raises:
            BadInput: it is on none, on one that Argo CD does not follow, or in the middle of something.
        """
        done = self.git.attempt("symbolic-ref", "--quiet", "--short", "HEAD")
        name, follows = done.stdout.decode().strip(), self.source.branch
        if not name:
            raise BadInput(f"{self.top} is on no branch (a detached HEAD); go to one with: git switch {follows}")
        if not self._own and name != follows:
            raise BadInput(
                f"{self.top} is on the branch {name}, and Argo CD follows {follows}; go there with: git switch "
                f"{follows}"
            )
        for state, what in _UNDERWAY.items():
            if self._git_path(state).exists():
                raise BadInput(f"{self.top} is in the middle of a {what}; finish or abort it first")
        return name

    def head(self, branch: str | None = None) -> Snapshot:
        """What a branch holds; by default what the clone has checked out."""
        name = f"refs/heads/{branch}" if branch else "HEAD"
        done = self.git.attempt("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return self.at(done.stdout.decode().strip() or None)

    def at(self, commit: str | None) -> Snapshot:
        """What a commit holds; None stands for the time before the first one."""
        if commit not in self._snapshots:
            self._snapshots[commit] = Snapshot(self.git, commit, self.source.path)
        return self._snapshots[commit]

    def dirty(self) -> tuple[str, ...]:
        """The places whose files are not those of the checked-out commit, sorted."""
        options = ("--porcelain=v1", "-z", "--no-renames", "--untracked-files=all")
        listed = self.git("status", *options, "--", self._pathspec)
        prefix = f"{self.source.path}/"
        return tuple(sorted({place_of(entry[3:].removeprefix(prefix)) for entry in listed.split("\0") if entry}))

    def write(self, change: Change, dirty: Collection[str] | None = None) -> Change:
        """Write `change` into the work tree, and remember that it was ELF that did.

        Args:
            change: what places become.
            dirty: what `dirty()` has just said.

        Returns:
            What differs from the checked-out commit.

        Raises:
            BadInput: a file that ELF did not write is in the way.
            Failure: something cannot be written; then all is as it was.
        """
        different = change.against(self.head(), self.algorithm)
        there = set(self.dirty() if dirty is None else dirty)
        touched = {place: tree for place, tree in change.places.items() if place in different.places or place in there}
        self._replace(touched)
        file = self._git_path(PENDING_FILE)
        known = Pending.read(file).places
        kept = {place: known[place] for place in there & known.keys() - touched.keys()}
        Pending.of(change, {**kept, **{p: self._id(tree) for p, tree in different.places.items()}}).save(file)
        return different

    def changed(self) -> Change:
        """What the work tree holds instead of the checked-out commit, whoever it was."""
        pending = Pending.read(self._git_path(PENDING_FILE))
        places = {place: read_place(self.root, place) for place in self.dirty()}
        # The index may be behind, which is no change.
        return pending.change(places).against(self.head(), self.algorithm)

    def written(self) -> Change:
        """What `write` has left in the work tree since the last commit.

        Raises:
            BadInput: somebody else has changed one of its files since, or another one.
        """
        known = Pending.read(self._git_path(PENDING_FILE)).places
        change = self.changed()
        for place, tree in change.places.items():
            if place not in known and (added := self._added(place)):
                raise BadInput(
                    f"{self.top / added} was put there, and not by elf gitops; commit that yourself, or move it "
                    "elsewhere"
                )
            if place not in known or known[place] != self._id(tree):
                raise BadInput(
                    f"{self.root / place} was changed, and not by elf gitops; commit that yourself, or discard it "
                    f"with: git -C {self.top} restore {self.source.path}/{place}"
                )
        return change

    def _added(self, place: str) -> str:
        """A file of a place that git does not know, below the top of the repository; empty where there is none."""
        listed = self.git("ls-files", "--others", "--exclude-standard", "-z", "--", f"{self.source.path}/{place}")
        return listed.partition("\0")[0]

    def refresh(self) -> None:
        """Bring the branch that the clone is on to what the remote has, where it has nothing of its own.

        A repository that holds the project too is left alone: its teams have been read already.

        Raises:
            BadInput: the clone is in no state for it, or holds changes that are in the way.
            Failure: git cannot fetch.
            Retryable: the remote cannot be reached.
        """
        name = self.branch()
        if self._own:
            return
        local, there = self.head().commit, self._fetch(name)
        if there is None or local == there:
            return
        if local and self.git.attempt("merge-base", "--is-ancestor", local, there).returncode != 0:
            return  # commits of its own; a push brings both together
        if not self._bring(name, local or "", there, here=True):
            raise BadInput(
                f"{self.top} has changes that are in the way of what the remote has; commit or discard them first"
            )

    def commit_written(self, branch: str | None = None) -> str | None:
        """Commit what `write` has left.

        Args:
            branch: on this one instead; then the work tree goes back to what is checked out.

        Raises:
            ElfError: as `written` and `commit`.
        """
        change = self.written()
        made = self._commit(change, branch, in_place=True)
        if made and branch and branch != self.branch():
            before = self.head().read_all(change.places)
            self._replace({place: before.get(place) for place in change.places})
            self._git_path(PENDING_FILE).unlink(missing_ok=True)
        return made

    def commit(self, change: Change, branch: str | None = None) -> str | None:
        """Commit `change`, and bring the work tree to it.

        Args:
            change: what places become.
            branch: commit on this one instead, which is made where there is none; then the work tree stays.

        Returns:
            The commit; None where there is nothing to commit.

        Raises:
            BadInput: nobody has told git who commits, or the work tree holds other changes in these places.
            Failure: something cannot be written.
            Retryable: the branch has moved meanwhile.
        """
        return self._commit(change, branch, in_place=False)

    def _commit(self, change: Change, branch: str | None, *, in_place: bool) -> str | None:
        """As `commit`; `in_place` says that the work tree holds the change already, and has just been read."""
        current = self.branch()
        target = branch or current
        tip = self.head(target)
        base = tip if tip.commit else self.head()
        narrow = change.against(base, self.algorithm)
        if not narrow.places:
            if target == current and tip.commit:
                # Killed after the last commit, before the index followed.
                self._settle()
            return None
        if target != current:
            made = store(self.git, narrow, base)
            self._move(target, made, tip.commit)
            return made
        stale = {} if in_place else self._stale(narrow.places)
        if stale and (dirty := sorted(stale.keys() & set(self.dirty()))):
            raise BadInput(f"{self.root / dirty[0]} has changes that are not committed; commit or discard them first")
        made = store(self.git, narrow, base)
        replace_places(self.root, stale)
        self._move(target, made, tip.commit)
        self._settle()
        return made

    def push(self, render: Render | None = None, branch: str | None = None) -> Pushed:
        """Push what was committed; where the remote has moved, build it anew on what is there, and never force.

        Args:
            render: makes what `elf gitops write` would write now; without it, what was committed is put there as it is.
            branch: push this one; default: the one that the clone is on.

        Raises:
            BadInput: the clone is in no state for it.
            Failure: the remote refuses; its own words are in the message. The clone is as it was.
            Retryable: it cannot be reached, or others were faster every time.
        """
        current = self.branch()
        name = branch or current
        local = self.head(name).commit
        if local is None:
            what = f"there is no branch {name} here" if branch else "there is no commit yet"
            raise BadInput(f"{what}; elf gitops commit makes it")
        for attempt in range(1, _ATTEMPTS + 1):
            there = self._fetch(name)
            below = there or (self._fetch(self.source.branch) if name != self.source.branch else None)
            candidate = self._onto(below, local, render, here=name == current)
            refused = self._send(candidate, name) if candidate != there else ""
            if not refused:
                # All that can be seen is done; the clone follows.
                behind = not self._bring(name, local, candidate, here=name == current)
                return Pushed(name, tuple(between(self.git, below, candidate)), attempt, behind)
            if not _RACE.search(refused):
                raise Failure(f"{self.source.url} refuses {name}: {refused}; nothing was pushed")
            # Not all at the same moment again.
            time.sleep(random.uniform(0, min(2.0, 0.05 * attempt)))  # noqa: S311 - when to try again
        raise Retryable(f"others were faster {_ATTEMPTS} times in pushing to {self.source.url}; push again")

    def _settle(self) -> None:
        """Let the index follow the commit, and forget what was written for it."""
        self.git("reset", "--quiet", "HEAD", "--", self._pathspec)
        self._git_path(PENDING_FILE).unlink(missing_ok=True)

    @property
    def _pathspec(self) -> str:
        return f":(literal,top){self.source.path}"

    def _id(self, tree: Tree | None) -> str | None:
        return None if tree is None else tree_id(tree, self.algorithm)

    def _stale(self, places: Mapping[str, Tree | None]) -> dict[str, Tree | None]:
        """Those of `places` that the work tree does not hold so."""
        return {place: tree for place, tree in places.items() if read_place(self.root, place) != tree}

    def _replace(self, places: Mapping[str, Tree | None]) -> None:
        replace_places(self.root, self._stale(places))

    def _move(self, branch: str, commit: str, before: str | None) -> None:
        # What was there is part of the request: whoever came in between is not undone.
        done = self.git.attempt(
            "update-ref", "-m", "elf gitops", f"refs/heads/{branch}", commit, before or "0" * len(commit)
        )
        if done.returncode != 0:
            raise Retryable(f"the branch {branch} of {self.top} has moved meanwhile: {said(done)}; try again")

    def _fetch(self, branch: str) -> str | None:
        tracking = f"refs/remotes/{REMOTE}/{branch}"
        options = ("--quiet", "--no-tags", "--no-write-fetch-head")
        done = self.git.remote(self._url, "fetch", *options, REMOTE, f"+refs/heads/{branch}:{tracking}")
        if done.returncode == 0:
            return self.git("rev-parse", "--verify", f"{tracking}^{{commit}}").strip()
        if b"couldn't find remote ref" in done.stderr:
            return None
        raise Failure(f"git fetch from {self.source.url} failed: {said(done)}")

    def _onto(self, tip: str | None, local: str, render: Render | None, *, here: bool) -> str:
        """`local`, or what becomes of its own commits on top of `tip`."""
        if tip is None or self.git.attempt("merge-base", "--is-ancestor", tip, local).returncode == 0:
            return local
        commits = between(self.git, tip, local)
        changes = [change_of(self.git, commit, self.source.path) for commit in commits]
        if here and changes and (dirty := self.dirty()):
            raise BadInput(
                f"the remote has moved, and {self.root / dirty[0]} has changes that are not committed; commit or "
                "discard them, and push again"
            )
        for commit, change in zip(commits, changes, strict=True):
            base = self.at(tip)
            again = change
            if change.operation != "write":
                # Made from what somebody has looked at: it goes where that is still true, and is never made anew.
                change.refuse_overlap(self.at(self._parent(commit)), base, self.algorithm)
            elif render:
                again = render(change.scope, base)
            narrow = again.against(base, self.algorithm)
            if narrow.places:
                tip = store(self.git, narrow, base)
        return tip

    def _parent(self, commit: str) -> str | None:
        done = self.git.attempt("rev-parse", "--verify", "--quiet", f"{commit}^1")
        return done.stdout.decode().strip() or None

    def _send(self, commit: str, branch: str) -> str:
        """Push; what the remote has against it, or nothing."""
        refspec = f"{commit}:refs/heads/{branch}"
        done = self.git.remote(self._url, "push", "--porcelain", "--no-verify", REMOTE, refspec)
        if done.returncode == 0:
            return ""
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        reasons = [line.split("\t")[-1] for line in lines if line.startswith("!\t")]
        words = [said(done)] if b"remote:" in done.stderr or not reasons else []
        return ": ".join([*reasons, *words])

    def _bring(self, branch: str, before: str, after: str, *, here: bool) -> bool:
        """Bring the branch of the clone to what was pushed; whether that worked."""
        if before == after:
            return True
        if not here:
            self._move(branch, after, before)
            return True
        # Keeps changes of other files, and does nothing where one of them is in the way.
        return self.git.attempt("reset", "--quiet", "--keep", after).returncode == 0

    def _git_path(self, name: str) -> Path:
        return self.top / self.git("rev-parse", "--git-path", name).strip()

"""A tree of files written whole or not at all.

    with tree_lock(output):                 # one writer at a time; leftovers of a killed one are cleared away
        with staged(output) as stage:       # a hidden directory beside it, on the same file system
            write_tree(stage, files)
            swap(stage, output)             # one rename: whoever looks sees the old tree or the new one

Nothing here follows a symbolic link inside a tree.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elf_sdk.errors import BadInput, Failure, Retryable

__all__ = ["Drift", "compare", "keep_tree", "list_tree", "replace_file", "staged", "swap", "tree_lock", "write_tree"]


@dataclass(frozen=True, slots=True)
class Drift:
    """How a tree on disk differs from what it should be; paths relative to it, sorted.

    Attributes:
        added: files that should be there and are not.
        changed: files with other content, and links or directories where a file should be.
        removed: files that are there and should not be.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def list_tree(root: Path) -> Iterator[str]:
    """Every entry below `root` that is no directory, links and empty directories included, as paths relative to it."""
    yield from _list(str(root), "")


def _list(directory: str, prefix: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            inside = list(_list(entry.path, f"{prefix}{entry.name}/"))
            yield from inside or [f"{prefix}{entry.name}"]
        else:
            yield f"{prefix}{entry.name}"


def compare(files: Mapping[str, bytes], root: Path) -> Drift:
    """How the tree at `root` differs from `files` (content by relative path); a missing `root` is an empty tree."""
    there = set(list_tree(root)) if root.is_dir() else set()
    wanted = set(files)
    changed = [path for path in sorted(there & wanted) if not _holds(root / path, files[path])]
    return Drift(tuple(sorted(wanted - there)), tuple(changed), tuple(sorted(there - wanted)))


def _holds(path: Path, content: bytes) -> bool:
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size == len(content) and path.read_bytes() == content


def write_tree(root: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` below `root`, each flushed to the disk; modes do not depend on the umask.

    Raises:
        Failure: a file cannot be written, such as on a full disk.
    """
    directories: set[str] = set()
    path = root
    try:
        for name, content in files.items():
            path = root / name
            parent = str(path.parent)
            if parent not in directories:
                path.parent.mkdir(parents=True, exist_ok=True)
                directories.add(parent)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
        for directory in _parents(root, directories):
            Path(directory).chmod(0o755)
            _sync_directory(Path(directory))
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}; nothing was replaced") from None


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Put a file with `content` in the place of `path`, whole, and flushed to the disk.

    Raises:
        Failure: it cannot be written, such as on a full disk; `path` is as it was.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise Failure(f"{path} cannot be written: {error.strerror}; it is as it was") from None


def _parents(root: Path, directories: set[str]) -> Iterator[str]:
    """The directories with all between them and the root, deepest first."""
    every = {str(root), *directories}
    for directory in directories:
        path = Path(directory)
        while path != root:
            every.add(str(path))
            path = path.parent
    yield from sorted(every, key=len, reverse=True)


def keep_tree(source: Path, target: Path) -> None:
    """Take over the tree or file `source` as `target`: by links to the same content where possible, else by copies."""
    try:
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, copy_function=_link)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(str(source), str(target))
    except (OSError, shutil.Error) as error:
        raise Failure(f"{source} cannot be kept: {error}; nothing was replaced") from None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


@contextmanager
def tree_lock(output: Path) -> Iterator[None]:
    """Exclude every other writer of `output`, and clear away what a killed one left.

    The lock is a hidden file beside `output`; it is gone afterwards.

    Raises:
        Retryable: another process is writing it.
        BadInput: `output` is a link, no directory, or in a place that cannot be written.
    """
    _require_directory(output)
    lock = _beside(output, "lock")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(lock)
    except BlockingIOError:
        raise Retryable(f"another process is writing {output}; wait until it is done") from None
    except OSError as error:
        raise BadInput(
            f"{output.parent} cannot be written: {error.strerror}; choose another place for {output.name}"
        ) from None
    try:
        _recover(output)
        yield
    finally:
        with suppress(FileNotFoundError):
            lock.unlink()
        os.close(descriptor)


def _locked(lock: Path) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before us may have removed the file between our open and our lock.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), lock.lstat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _require_directory(output: Path) -> None:
    if output.is_symlink():
        raise BadInput(f"{output} is a link; name the directory itself")
    if output.exists() and not output.is_dir():
        raise BadInput(f"{output} is no directory; choose another place")


def _recover(output: Path) -> None:
    old = _beside(output, "old")
    if old.is_dir() and not output.exists():
        # Killed between the two renames of a system that cannot exchange.
        old.rename(output)
    for leftover in (_beside(output, "new"), old):
        if leftover.is_dir():
            _remove(leftover)


def _beside(output: Path, what: str) -> Path:
    return output.parent / f".{output.name}.{what}"


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """An empty directory beside `output` in which its next tree is built; what is left of it goes at the end.

    To be used inside `tree_lock(output)`.
    """
    stage = _beside(output, "new")
    try:
        stage.mkdir(mode=0o755)
    except OSError as error:
        raise BadInput(f"{output.parent} cannot be written: {error.strerror}") from None
    try:
        yield stage
    finally:
        if stage.is_dir():
            _remove(stage)


def _remove(tree: Path) -> None:
    try:
        shutil.rmtree(tree)
    except OSError as error:
        raise Failure(f"{tree} cannot be removed: {error}; remove it by hand") from None


def swap(stage: Path, output: Path) -> None:
    """Put `stage` in the place of `output`, whole; what was there is removed.

    Linux exchanges the two in one step. Elsewhere there are two renames, and `tree_lock` repairs what a kill between
    them leaves.

    Raises:
        Failure: the system refuses; then `output` is as it was.
    """
    try:
        if not output.exists():
            stage.rename(output)
        elif _exchange is None or not _exchange(stage, output):
            old = _beside(output, "old")
            output.rename(old)
            try:
                stage.rename(output)
            except OSError:
                old.rename(output)
                raise
            old.rename(stage)
        _sync_directory(output.parent)
    except OSError as error:
        reason = "it is a mount point, which cannot be replaced" if error.errno == errno.EBUSY else error.strerror
        raise Failure(f"{output} cannot be replaced: {reason}; it is as it was") from None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV})


def _linux_exchange() -> Callable[[Path, Path], bool] | None:
    """renameat2(2) with RENAME_EXCHANGE; the function says whether the file system knows it."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)

    def exchange(one: Path, other: Path) -> bool:
        if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
            return True
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            return False
        raise OSError(code, os.strerror(code))

    return exchange


_exchange = _linux_exchange()

"""The build context: everything that the Dockerfile copies, and nothing else.

    context/
    ├── Dockerfile
    ├── packages/          requirements.txt with hashes, and what pip finds on this machine
    ├── elf-sdk/           the elf-sdk that runs here, as a wheel
    └── team/              the team's directory, without what does not belong into an image

A context is written into a directory of its own, and no link of the team's leads out of it. Modes do not depend on the
umask, so the same files give the same layers.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from elf_sdk.deploy.image.requirements import OWN_LOCK, OWN_REQUIREMENTS
from elf_sdk.deploy.images import IMAGES_FILE
from elf_sdk.errors import BadInput, Failure
from elf_sdk.team.project import LoadedTeam

__all__ = ["IGNORE_FILE", "team_files", "write_context"]

IGNORE_FILE: Final = ".dockerignore"
DOCKERFILE: Final = "Dockerfile"

_NEVER: Final = frozenset({"__pycache__", "conftest.py", "node_modules"})
"""Names that are no part of a running team, wherever they stand; so is every name that starts with a dot."""
_NOT_AT_THE_TOP: Final = frozenset({"build", "dist", "tests", "venv", IMAGES_FILE, OWN_LOCK, OWN_REQUIREMENTS})
_NEVER_SUFFIXES: Final = (".pyc", ".pyo", ".egg-info")
_OFFLINE: Final = "offline.yaml"


def team_files(team: LoadedTeam) -> Mapping[str, Path]:
    """What of a team's directory goes into its image: the file to copy by its path there, sorted.

    Left out are the evals, tests, caches, environments, locks and every name with a dot in front (`.env`), the offline
    model's script where no model is `offline`, and what a `.dockerignore` in the directory names.

    Raises:
        BadInput: a link leads out of the directory, something is neither file nor directory, or there is a Dockerfile.
    """
    root = team.directory
    ignored = _ignore_rules(root / IGNORE_FILE)
    spec = team.spec
    models = [model for here in (spec, *map(spec.for_environment, spec.environments)) for model in here.llm.chain()]
    without = {*_NOT_AT_THE_TOP, spec.evals.strip("/").removeprefix("./")}
    if all(model.provider != "offline" for model in models):
        without.add(_OFFLINE)
    label = team.file.removesuffix("team.yaml")
    found = {
        path: file
        for path, file in _walk(root, "", label, without)
        if not _matches(ignored, path) or path == "team.yaml"
    }
    if DOCKERFILE in found:
        raise BadInput(
            f"{label}{DOCKERFILE}: elf image build writes the Dockerfile itself; build what yours adds as a base image "
            f"and name that under image.base, and name {DOCKERFILE} in {label}{IGNORE_FILE} if it is for something else"
        )
    return dict(sorted(found.items()))


def _walk(directory: Path, prefix: str, label: str, without: set[str]) -> Iterator[tuple[str, Path]]:
    with os.scandir(directory) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = f"{prefix}{name}"
        if name.startswith(".") or name in _NEVER or name.endswith(_NEVER_SUFFIXES) or path in without:
            continue
        file = directory / name
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            # realpath() and not resolve(), which fails on a link that leads to itself.
            target = Path(os.path.realpath(file))
            inside = Path(os.path.realpath(directory.joinpath(*[".."] * prefix.count("/"))))
            if not target.is_relative_to(inside) or not target.is_file():
                raise BadInput(
                    f"{label}{path}: this link leads out of the team's directory, or to no file; put the file there"
                )
            yield path, target
        elif stat.S_ISDIR(mode):
            if not (file / "pyvenv.cfg").exists():
                yield from _walk(file, f"{path}/", label, without)
        elif stat.S_ISREG(mode):
            yield path, file
        else:
            raise BadInput(f"{label}{path}: this is neither a file nor a directory; move it elsewhere")


def write_context(
    place: Path, files: Mapping[str, bytes], team: Mapping[str, Path], wheels: Mapping[str, Path]
) -> None:
    """Write a context into the directory `place`, which is there and empty.

    Args:
        place: the context.
        files: content by path.
        team: files to copy by their path below `team/`.
        wheels: files to copy by their name below `packages/wheels/`.

    Raises:
        Failure: something cannot be written, such as on a full disk, or read.
    """
    (place / "packages" / "wheels").mkdir(parents=True)
    (place / "team").mkdir()
    copied = {f"team/{path}": file for path, file in team.items()}
    copied |= {f"packages/wheels/{name}": file for name, file in wheels.items()}
    path = ""
    try:
        for path, content in files.items():
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o644)
        for path, file in copied.items():
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            target.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
        for directory, _, _ in os.walk(place):
            Path(directory).chmod(0o755)
    except OSError as error:
        raise Failure(f"the build context cannot be written: {path}: {error.strerror}; nothing was built") from None


def _ignore_rules(path: Path) -> list[tuple[re.Pattern[str], bool]]:
    """The rules of a .dockerignore, in order, each with whether it takes out or (`!`) in again.

    Docker's own: paths from the directory's root, `*` and `?` within a name, `**` over names, the last rule that
    matches counts, and a directory stands for all that is in it.
    """
    if not path.is_file():
        return []
    rules = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        out = not rule.startswith("!")
        pattern = rule.removeprefix("!").strip().removeprefix("./").strip("/")
        if pattern:
            rules.append((re.compile(_regular(pattern) + r"(/.*)?", re.DOTALL), out))
    return rules


def _regular(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]*\])", pattern)
    known = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(known.get(part) or (part if part[:1] == "[" else re.escape(part)) for part in parts)


def _matches(rules: list[tuple[re.Pattern[str], bool]], path: str) -> bool:
    ignored = False
    for pattern, out in rules:
        if pattern.fullmatch(path):
            ignored = out
    return ignored

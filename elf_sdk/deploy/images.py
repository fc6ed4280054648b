"""`images.lock.yaml` in a team's directory: which image each environment runs, by digest.

    dev: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    prod: sha256:486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7

An environment that is not in it runs the image by its tag, the team's version.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from elf_sdk.errors import BadInput, BadSpec
from elf_sdk.files import replace_file
from elf_sdk.team.document import parse, read
from elf_sdk.team.organisation import Organisation

__all__ = ["IMAGES_FILE", "read_digests", "write_digest"]

IMAGES_FILE: Final = "images.lock.yaml"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def read_digests(team_directory: Path, organisation: Organisation) -> Mapping[str, str]:
    """The digests by environment; none where there is no file.

    Raises:
        BadSpec: something in the file is no environment or no digest.
    """
    path = team_directory / IMAGES_FILE
    if not os.path.lexists(path):
        return {}
    document = read(path, str(path))
    known = [environment.name for environment in organisation.environments]
    problems = list(document.problems)
    for name, digest in document.data.items():
        if name not in known:
            problems.append(document.problem((name,), f"there is no such environment; there are: {', '.join(known)}"))
        elif not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            problems.append(document.problem((name,), "it is no digest; write sha256: and 64 hexadecimal digits"))
    if problems:
        raise BadSpec(problems)
    return {name: str(digest) for name, digest in document.data.items()}


def write_digest(team_directory: Path, organisation: Organisation, environment: str, digest: str) -> bool:
    """Say that `environment` runs the image with `digest`. Every other line, and what stands behind this one, stays.

    The file is replaced whole: whoever reads it meanwhile finds the old one or the new one.

    Args:
        team_directory: the team's.
        organisation: to which it belongs.
        environment: one of the organisation's.
        digest: `sha256:` and 64 hexadecimal digits.

    Returns:
        Whether the file said something else before.

    Raises:
        BadInput: the file is a link, or (BadSpec) something in it is no environment or no digest; it is as it was.
        Failure: it cannot be written; it is as it was.
    """
    if not _DIGEST.fullmatch(digest):
        raise BadInput(f"{digest!r} is no digest; it is written as sha256: and 64 hexadecimal digits")
    path = team_directory / IMAGES_FILE
    digests = dict(read_digests(team_directory, organisation))
    if digests.get(environment) == digest:
        return False
    if path.is_symlink():
        raise BadInput(f"{path} is a link; put the file itself there")
    there = os.path.lexists(path)
    # Bytes and not text, so that the ends of lines stay what they are.
    text = path.read_bytes().decode("utf-8") if there else ""
    names = [each.name for each in organisation.environments]
    written = _with_line(text, environment, digest, names)
    if parse(written, str(path)).data != {**digests, environment: digest}:
        raise BadInput(
            f"{path} is not written as one line an environment, such as `{environment}: {digest}`; write it so"
        )
    replace_file(path, written.encode("utf-8"), mode=stat.S_IMODE(path.stat().st_mode) if there else 0o644)
    return True


def _with_line(text: str, environment: str, digest: str, names: list[str]) -> str:
    """`text` with the line of `environment`: changed where it is, else behind those of the environments before it."""
    lines = text.splitlines(keepends=True)
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += end
    at = {name: index for index, line in enumerate(lines) for name in names if _line_of(name).match(line)}
    if environment in at:
        line = lines[at[environment]]
        lines[at[environment]] = _line_of(environment).sub(lambda found: f"{found[1]}{digest}", line, count=1)
        return "".join(lines)
    before = [at[name] for name in names[: names.index(environment)] if name in at]
    lines.insert(max(before) + 1 if before else min(at.values(), default=len(lines)), f"{environment}: {digest}{end}")
    return "".join(lines)


def _line_of(environment: str) -> re.Pattern[str]:
    return re.compile(rf"""^(["']?{re.escape(environment)}["']?\s*:\s*)["']?sha256:[0-9a-f]{{64}}["']?""")

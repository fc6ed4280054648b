"""`images.lock.yaml` in a team's directory: which image each environment runs, by digest.

    dev: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    prod: sha256:486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7

An environment that is not in it runs the image by its tag, the team's version.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from elf_sdk.errors import BadSpec
from elf_sdk.team.document import read
from elf_sdk.team.organisation import Organisation

__all__ = ["IMAGES_FILE", "read_digests"]

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

"""The Dockerfile of a team's image. Pure: the same team gives the same bytes.

Three stages: what the packages index gives, the team on top of it, and the image, which takes the finished trees of the
two and runs nothing itself. So it has no build tools but those that its base has, and no cache of pip.

The packages are a layer of their own. Nothing in it depends on the team, so teams with the same packages share it, in
the registry and on every node. Files among them that are no Python of this version, such as templates, stay source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from elf_sdk.deploy.encode import one_line
from elf_sdk.deploy.reference import qualified
from elf_sdk.team.spec import TeamSpec

__all__ = ["SBOM_PATH", "USER_ID", "dockerfile"]

USER_ID: Final = 10001
"""Of user and group that the team's process runs as; the chart demands the same."""
SBOM_PATH: Final = "/opt/elf-sdk/sbom.cdx.json"

_TEMPLATE: Final = """\
# Written by elf image build; changes belong in team.yaml or elf.yaml.
ARG BASE={base}

FROM ${{BASE}} AS packages
ENV PYTHONHASHSEED=0 PIP_NO_INPUT=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 14) or sys.exit("elf: the base image has \
Python %d.%d; take one with 3.11, 3.12 or 3.13" % v)' \\
 && python3 -m venv --without-pip /opt/elf \\
 && echo /opt/elf-sdk >"$(/opt/elf/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/elf-sdk.pth"
COPY packages/ /build/
# The secrets are pip's configuration and the certificates that it trusts; neither stays in a layer.
RUN --mount=type=secret,id=pip,target=/run/elf/pip.conf --mount=type=secret,id=certificates,target=/run/elf/ca.pem \\
    export PIP_CONFIG_FILE=/run/elf/pip.conf PIP_PYTHON=/opt/elf/bin/python \\
 && python3 -m pip install --quiet --no-compile --only-binary :all: --find-links /build/wheels --require-hashes{own} \\
{unlocked} && rm -rf /opt/elf/share/man \\
 && {{ {compile} -q /opt/elf || :; }}

FROM packages AS team
COPY elf-sdk/ /build/elf-sdk/
RUN python3 -m pip --python /opt/elf/bin/python install --quiet --no-compile --no-deps --no-index \\
    --target /image/opt/elf-sdk /build/elf-sdk/*.whl
COPY team/ /image/app/{name}/
RUN {compile} /image/opt/elf-sdk /image/app \\
 && PYTHONPATH=/image/opt/elf-sdk /opt/elf/bin/python -m elf_sdk.deploy.image.sbom {name} {version} \\
    >/image{sbom} \\
 && mkdir -m 1777 /image/data && mkdir /image/etc && cp /etc/passwd /etc/group /image/etc/ \\
 && echo 'elf:x:{user}:{user}::/data:/usr/sbin/nologin' >>/image/etc/passwd && echo 'elf:x:{user}:' >>/image/etc/group

FROM ${{BASE}}
COPY --from=packages /opt/elf /opt/elf
COPY --from=team /image/ /
ENV PATH=/opt/elf/bin:/opt/elf-sdk/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    HOME=/data ELF_STORE=/data/elf.db ELF_HOST=0.0.0.0 ELF_PORT=8000 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
{labels}
USER {user}:{user}
WORKDIR /app/{name}
EXPOSE 8000
ENTRYPOINT {entrypoint}
CMD []
"""

_COMPILE: Final = "/opt/elf/bin/python -m compileall -q --invalidation-mode unchecked-hash"
"""Bytecode that holds no time, in one process: with several the order in which files are read would be chance."""


def dockerfile(spec: TeamSpec, labels: Mapping[str, str], *, own: bool = False, locked: bool = True) -> bytes:
    """The Dockerfile of `spec`'s image, for the context that `context` writes.

    Args:
        spec: the team.
        labels: of the image, such as `org.opencontainers.image.title`.
        own: whether the team has requirements of its own.
        locked: whether those have hashes.
    """
    unlocked = ""
    if own and not locked:
        unlocked = (
            " && python3 -m pip install --quiet --no-compile --only-binary :all: --find-links /build/wheels \\\n"
            "    --constraint /build/constraints.txt -r /build/team.txt \\\n"
        )
    text = _TEMPLATE.format(
        base=qualified(spec.image.base),
        own=" \\\n    -r /build/requirements.txt" + (" -r /build/team.txt" if own and locked else ""),
        unlocked=unlocked,
        compile=_COMPILE,
        name=spec.name,
        version=spec.version,
        sbom=SBOM_PATH,
        user=USER_ID,
        labels="LABEL " + " \\\n      ".join(f"{key}={_quoted(value)}" for key, value in sorted(labels.items())),
        entrypoint=json.dumps(["/opt/elf/bin/python", "-m", "elf_sdk", "serve", f"/app/{spec.name}"]),
    )
    return text.encode("utf-8")


def _quoted(text: str) -> str:
    """`text` as one word of a Dockerfile, in which no variable is replaced; it stays on its line."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", one_line(text)) + '"'

"""docker, podman and buildah, behind one small seam: build, push, save, and what is known of an image.

Which one (`auto`): the first whose engine answers. A docker client without an engine is common, so the engine is asked
and not the PATH.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from elf_sdk.deploy.image.failures import build_failure, push_failure
from elf_sdk.deploy.image.index import PackageIndex
from elf_sdk.deploy.image.program import Tell, asked, last_line, output, run
from elf_sdk.deploy.reference import Reference, is_loopback, qualified, registry_of
from elf_sdk.errors import BadInput, Failure, Missing

__all__ = ["BUILDERS", "Builder", "BuilderName", "choose_builder"]

BuilderName = Literal["docker", "podman", "buildah"]
BUILDERS: Final[tuple[BuilderName, ...]] = ("docker", "podman", "buildah")

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Builder:
    """One of the three.

    Attributes:
        name: which.
        version: of the engine, as it says itself.
    """

    name: BuilderName
    version: str

    def build(
        self,
        context: Path,
        reference: Reference,
        base: str,
        index: PackageIndex,
        tell: Tell,
        *,
        epoch: int | None = None,
        cache: bool = True,
    ) -> None:
        """Build `context` and call the image `reference`.

        Args:
            context: with a Dockerfile.
            reference: of the image.
            base: the image to build on.
            index: where packages come from.
            tell: hears what the builder prints.
            epoch: what every time in the image is set to, in seconds since 1970; None means 1970 itself.
            cache: whether layers of earlier builds are used.

        Raises:
            Failure: it failed; the message has the reason, or the last lines.
        """
        with tempfile.TemporaryDirectory(prefix="elf-secrets-") as place:
            secrets = {"pip": Path(place, "pip.conf")}
            secrets["pip"].touch(mode=0o600)
            secrets["pip"].write_text(index.configuration, encoding="utf-8")
            if index.certificates is not None:
                secrets["certificates"] = index.certificates
            command = self.build_command(context, reference, base, secrets, local=index.local, epoch=epoch, cache=cache)
            # BuildKit alone mounts secrets; and what it knows of this build is no part of the image.
            extra = {
                "DOCKER_BUILDKIT": "1",
                "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
                "SOURCE_DATE_EPOCH": str(epoch or 0),
            }
            done = run(command, tell, extra)
        if done.code:
            raise build_failure(base, done.lines)

    def build_command(
        self,
        context: Path,
        reference: Reference,
        base: str,
        secrets: Mapping[str, Path],
        *,
        local: bool = False,
        epoch: int | None = None,
        cache: bool = True,
    ) -> list[str]:
        """The command that builds. Nothing in it is secret."""
        command = [self.name, "build", "--file", str(context / "Dockerfile"), "--tag", str(reference)]
        command += ["--build-arg", f"BASE={base}"]
        for name, path in secrets.items():
            command += ["--secret", f"id={name},src={path}"]
        if local:
            command += ["--network", "host"]
        if not cache:
            command += ["--no-cache"]
        if self.name == "docker":
            command += ["--progress", "plain"]
        else:
            # Layers, so that what teams have in common is kept, and sent, once.
            command += ["--layers", "--format", "oci", "--identity-label=false", "--timestamp", str(epoch or 0)]
            if is_loopback(registry_of(base)):
                command += ["--tls-verify=false"]
        return [*command, str(context)]

    def image_id(self, reference: Reference) -> str | None:
        """The id of a local image, `sha256:…` of its configuration; None where there is no such image."""
        found = self._inspect(reference)
        if found is None:
            return None
        identity = str(found.get("Id") or found.get("FromImageID") or "")
        return identity if identity.startswith("sha256:") else f"sha256:{identity}"

    def size(self, reference: Reference) -> int:
        """Bytes of a local image, uncompressed, its base included; 0 where the builder does not say."""
        if self.name == "buildah":
            listed = asked([self.name, "images", "--json", str(reference)])
            images = json.loads(listed) if listed else []
            return _bytes(str(images[0].get("size", ""))) if images else 0
        found = self._inspect(reference)
        return int(found.get("Size", 0)) if found else 0

    def read(self, reference: Reference, path: str) -> bytes:
        """A file of a local image.

        Raises:
            Failure: it cannot be read.
        """
        made = ("from", "--pull-never") if self.name == "buildah" else ("create",)
        container = output([self.name, *made, str(reference)]).decode().strip()
        try:
            if self.name == "buildah":
                return output([self.name, "run", container, "--", "cat", path])
            # The others need not run it: they give the file as an archive.
            with tarfile.open(fileobj=io.BytesIO(output([self.name, "cp", f"{container}:{path}", "-"]))) as archive:
                [entry] = archive.getmembers()
                content = archive.extractfile(entry)
                return content.read() if content else b""
        finally:
            asked([self.name, "rm", container])

    def _inspect(self, reference: Reference) -> Mapping[str, Any] | None:
        command = [self.name, "inspect", "--type", "image", str(reference)]
        said = asked(command)
        if not said:
            return None
        data = json.loads(said)
        found: Mapping[str, Any] = data[0] if isinstance(data, list) else data
        return found

    def push(self, reference: Reference, tell: Tell) -> str:
        """Push a local image.

        Returns:
            The digest of its manifest, as the registry has it.

        Raises:
            Denied: the registry wants other credentials.
            Retryable: the registry is not reached.
            Failure: it failed otherwise.
        """
        with tempfile.TemporaryDirectory(prefix="elf-push-") as place:
            file = Path(place, "digest")
            done = run(self.push_command(reference, file), tell, {})
            said = file.read_text(encoding="utf-8") if file.exists() else "\n".join(done.lines[-3:])
        if done.code:
            raise push_failure(reference, done.lines)
        digest = _DIGEST.search(said)
        if digest is None:
            raise Failure(f"{self.name} pushed {reference} and named no digest; push it with another --builder")
        return digest[0]

    def push_command(self, reference: Reference, digest: Path) -> list[str]:
        """The command that pushes, and writes the digest to a file where it can."""
        if self.name == "docker":
            return [self.name, "push", str(reference)]
        insecure = ["--tls-verify=false"] if is_loopback(reference.registry) else []
        return [self.name, "push", "--digestfile", str(digest), *insecure, str(reference), f"docker://{reference}"]

    def save(self, reference: Reference, archive: Path, tell: Tell) -> None:
        """Write a local image as an archive that containerd imports.

        Raises:
            Failure: it failed.
        """
        if self.name == "docker":
            command = [self.name, "save", "--output", str(archive), str(reference)]
        else:
            # containerd takes the name as it is, and Kubernetes asks for it written out.
            command = [self.name, "push", str(reference), f"oci-archive:{archive}:{qualified(str(reference))}"]
        done = run(command, tell, {})
        if done.code:
            raise Failure(f"{reference} could not be saved: {last_line(done.lines)}")


def choose_builder(choice: str = "auto") -> Builder:
    """The builder called `choice`, or for `auto` the first that answers.

    Raises:
        Missing: it does not answer, or none does; the message says what to install.
    """
    if choice != "auto" and choice not in BUILDERS:
        raise BadInput(f"there is no builder {choice!r}; choose one of: {', '.join(BUILDERS)}")
    silent = []
    for name in BUILDERS:
        if choice not in ("auto", name):
            continue
        version, reason = _answers(name)
        if version:
            return Builder(name, version)
        silent.append(f"{name} {reason}")
    if choice != "auto":
        others = " or ".join(name for name in BUILDERS if name != choice)
        raise Missing(f"{silent[0]}; mend that, or build with another: --builder {others}")
    raise Missing(
        f"nothing here builds images: {'; '.join(silent)}; start an engine, or install buildah, which needs none "
        "(apt-get install buildah)"
    )


_VERSION: Final[Mapping[BuilderName, Sequence[str]]] = {
    "docker": ("info", "--format", "{{.ServerVersion}}"),
    "podman": ("info", "--format", "{{.Version.Version}}"),
    "buildah": ("info",),
}


def _answers(name: BuilderName) -> tuple[str, str]:
    """The engine's version, or why there is none."""
    if shutil.which(name) is None:
        return "", "is not installed"
    try:
        done = subprocess.run(  # noqa: S603 - one of three names
            [name, *_VERSION[name]], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "", "does not answer"
    version = done.stdout.strip()
    # docker's client reports a daemon that is not there on stderr, and in some versions with exit code 0.
    if done.returncode or not version:
        return "", f"does not answer ({last_line(done.stderr.splitlines()) or 'no engine'})"
    if name == "buildah":
        version = (asked([name, "--version"]) or "").removeprefix("buildah version ").partition(" ")[0]
    return version, ""


_UNITS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def _bytes(size: str) -> int:
    found = re.fullmatch(r"([\d.]+) ?([KMG]?B)", size)
    return round(float(found[1]) * _UNITS[found[2]]) if found else 0

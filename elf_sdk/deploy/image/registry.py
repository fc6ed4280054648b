"""What a registry says of an image (OCI distribution specification 1.1): asked before a push, and after it.

    HEAD /v2/<path>/manifests/<tag>     Docker-Content-Digest: sha256:…

Plain HTTP is spoken to this machine only. Credentials are those that docker or podman keep for this user.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from elf_sdk.deploy.reference import DOCKER_HUB, Reference, is_loopback
from elf_sdk.errors import BadInput, Failure, Forbidden, Retryable, Unauthenticated

__all__ = ["Manifest", "Registry"]

_TYPES: Final = (
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
_HUB_HOST: Final = "registry-1.docker.io"
_HUB_CREDENTIALS: Final = "https://index.docker.io/v1/"
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tag means in the registry.

    Attributes:
        digest: of the manifest.
        image_id: digest of the image's configuration; empty where the tag means several images.
    """

    digest: str
    image_id: str


class Registry:
    """One registry, asked as this user.

    Args:
        host: with a port where there is one.
        credentials: files in which docker and podman keep credentials; the first that knows the registry counts.
    """

    def __init__(self, host: str, credentials: Iterable[str] = ()) -> None:
        import httpx  # not needed by what only names images

        self._host = host
        plain = is_loopback(host)
        scheme = "http" if plain else "https"
        self._base = f"{scheme}://{_HUB_HOST if host == DOCKER_HUB else host}/v2"
        self._user = _credentials_for(host, credentials)
        # No proxy stands between this machine and itself.
        self._client = httpx.Client(
            timeout=_SECONDS, follow_redirects=True, trust_env=not plain, verify=not plain and _trusted(host)
        )
        self._errors = httpx.HTTPError

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def manifest(self, reference: Reference) -> Manifest | None:
        """What the registry has under a tag; None where there is nothing.

        Raises:
            Unauthenticated: it wants credentials, or others.
            Forbidden: they do not give this right.
            Retryable: it is not reached, or is not well.
            Failure: it answers something else.
        """
        answer = self._get(reference)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise Failure(
                f"the registry {self._host} answers {answer.status_code} when it is asked for {reference}; is it one?"
            )
        digest = answer.headers.get("Docker-Content-Digest", "")
        if not _DIGEST.fullmatch(digest):
            raise Failure(f"the registry {self._host} names no digest of {reference}; is it one?")
        try:
            body: Mapping[str, Any] = answer.json()
        except ValueError:
            raise Failure(f"the registry {self._host} has no manifest for {reference} but something else") from None
        return Manifest(digest, str((body.get("config") or {}).get("digest", "")))

    def holds(self, reference: Reference, digest: str) -> bool:
        """Whether the registry has the image with `digest` in the repository of `reference`, whatever its tag means.

        Raises:
            ElfError: as `manifest`.
        """
        answer = self._get(replace(reference, tag=digest))
        if answer.status_code not in (200, 404):
            raise Failure(
                f"the registry {self._host} answers {answer.status_code} when it is asked for {digest} in "
                f"{reference.repository}; is it one?"
            )
        return bool(answer.status_code == 200)

    def _get(self, reference: Reference) -> Any:
        path = f"{reference.path}/manifests/{reference.tag}"
        if self._host == DOCKER_HUB and "/" not in reference.path:
            path = f"library/{path}"
        headers = {"Accept": _TYPES}
        try:
            answer = self._client.get(f"{self._base}/{path}", headers=headers)
            if answer.status_code == 401:
                authorization = self._authorization(answer.headers.get("WWW-Authenticate", ""))
                if authorization:
                    headers["Authorization"] = authorization
                    answer = self._client.get(f"{self._base}/{path}", headers=headers)
        except self._errors as error:
            raise Retryable(
                f"the registry {self._host} is not reached ({_reason(error)}); start it, or name another under "
                "registry in elf.yaml or in DOCKER_REGISTRY"
            ) from None
        # 401 also for a repository that is not there and that nobody may see.
        if answer.status_code == 401:
            what = "the credentials that are kept for it" if self._user else "a request without credentials"
            raise Unauthenticated(
                f"the registry {self._host} refuses {what} for {reference.repository}; log in to it (docker login "
                f"{self._host}, or podman login, or buildah login)"
            )
        if answer.status_code == 403:
            raise Forbidden(
                f"the registry {self._host} lets this user not at {reference.repository}; ask for the right to push"
            )
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Retryable(f"the registry {self._host} answers {answer.status_code}; try again later")
        return answer

    def _authorization(self, challenge: str) -> str:
        """The header that answers a challenge (RFC 7235; for Bearer the distribution project's specification)."""
        scheme, _, rest = challenge.partition(" ")
        basic = f"Basic {base64.b64encode(self._user.encode()).decode()}" if self._user else ""
        if scheme.lower() == "basic":
            return basic
        told = dict(_CHALLENGE.findall(rest))
        # A token is asked for where the registry says, and credentials go there: not in clear to another machine.
        realm = told.pop("realm", "")
        if scheme.lower() != "bearer" or not (realm.startswith("https://") or is_loopback(_host_of(realm))):
            return ""
        parameters = {name: told[name] for name in ("service", "scope") if name in told}
        answer = self._client.get(realm, params=parameters, headers={"Authorization": basic} if basic else {})
        if answer.status_code != 200:
            return ""
        try:
            body = answer.json()
        except ValueError:
            return ""
        token = body.get("token") or body.get("access_token")
        return f"Bearer {token}" if token else ""


def _trusted(host: str) -> ssl.SSLContext:
    """What builders trust, too: the system's certificates, and those that are kept for this one registry."""
    context = ssl.create_default_context()
    for place in ("/etc/docker/certs.d", "/etc/containers/certs.d", "~/.config/containers/certs.d"):
        for file in sorted(Path(place).expanduser().joinpath(host).glob("*.crt")):
            try:
                context.load_verify_locations(file)
            except OSError as error:
                raise BadInput(f"{file} cannot be trusted, for it is read as no certificate: {error}") from None
    return context


def _host_of(address: str) -> str:
    return address.partition("://")[2].partition("/")[0]


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return re.sub(r"^\[Errno -?\d+\] ", "", text)


def _credentials_for(host: str, files: Iterable[str]) -> str:
    """`user:password` that docker or podman keep for a registry; empty where they keep none."""
    names = (host, f"https://{host}", f"https://{host}/v1/", *([_HUB_CREDENTIALS] if host == DOCKER_HUB else []))
    for file in files:
        try:
            kept = json.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not isinstance(kept, dict):
            continue
        for name in names:
            helper = (kept.get("credHelpers") or {}).get(name) or ""
            found = _from_helper(helper, name) if helper else _plain((kept.get("auths") or {}).get(name))
            if found:
                return found
        if kept.get("credsStore"):
            for name in names:
                if found := _from_helper(str(kept["credsStore"]), name):
                    return found
    return ""


def _plain(entry: object) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("auth"), str):
        return ""
    try:
        return base64.b64decode(entry["auth"]).decode()
    except ValueError:
        return ""


def _from_helper(helper: str, name: str) -> str:
    """What `docker-credential-<helper>` keeps (docker-credential-helpers)."""
    program = shutil.which(f"docker-credential-{helper}")
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own helper, as docker runs it
            [program, "get"], input=name, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        kept = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    user, secret = kept.get("Username", ""), kept.get("Secret", "")
    return f"{user}:{secret}" if user and secret and user != "<token>" else ""

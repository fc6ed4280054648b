"""How a context is let in: the certificates that the API server is known by, and what proves who asks.

Client certificates, tokens, files with tokens, and the programs of
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins (`exec`).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from elf_sdk.deploy.cluster.kubeconfig import Context, Entry
from elf_sdk.errors import BadInput, Failure, Missing

__all__ = ["Credentials", "tls_context"]

_EXEC_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_EXEC_SECONDS: Final = 300
"""A person may have to sign in with a browser meanwhile."""
_EARLY: Final = timedelta(seconds=10)
"""A token that ends so soon is not begun with."""


@dataclass(frozen=True, slots=True)
class _Proof:
    token: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    expires: datetime | None = None

    @property
    def stale(self) -> bool:
        return self.expires is not None and datetime.now(UTC) + _EARLY >= self.expires


class Credentials(httpx.Auth):
    """Who asks. Safe to use from several threads.

    Raises:
        BadInput: the user's entry names a way that Kubernetes, or this release, does not know.
        Failure, Missing: its program fails, or is not there.
    """

    def __init__(self, context: Context) -> None:
        user = context.user
        for name, remedy in (
            ("auth-provider", "a program under exec"),
            ("username", "a token, or a program under exec"),
        ):
            if name in user.fields:
                raise BadInput(
                    f"the context {context.name!r} signs in by {name}, which is out of use; give it {remedy}"
                )
        self._context = context
        self._lock = threading.Lock()
        self._exec = _exec_of(context)
        self._proof = self._run() if self._exec is not None else _Proof(user.text("token"))
        self._headers = _impersonation(user)

    @property
    def certificate(self) -> tuple[str, str] | None:
        """The client's certificate and key that a program gave, in PEM."""
        return (self._proof.certificate, self._proof.key) if self._proof.certificate else None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """As in httpx: a token that is refused is fetched anew, once."""
        request.headers.update(self._headers)
        used = self._token()
        if used:
            request.headers["Authorization"] = f"Bearer {used}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED and self._exec is not None:
            request.headers["Authorization"] = f"Bearer {self._token(refused=used)}"
            yield request

    def _token(self, refused: str = "") -> str:
        if file := self._context.user.path("tokenFile"):
            # The kubelet and other tools write it anew before it runs out.
            try:
                return file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise BadInput(f"the token in {file} cannot be read: {error.strerror}") from None
        with self._lock:
            if self._exec is not None and (self._proof.stale or (refused and refused == self._proof.token)):
                self._proof = self._run()
            return self._proof.token

    def _run(self) -> _Proof:
        assert self._exec is not None  # noqa: S101 - for the type checker; every caller has looked
        return _run(self._exec, self._context)


def _impersonation(user: Entry) -> list[tuple[str, str]]:
    """Headers that ask in somebody else's name, as `as`, `as-groups` and `as-user-extra` say."""
    headers = [(header, value) for name, header in _IMPERSONATE.items() if (value := user.text(name))]
    headers += [("Impersonate-Group", str(group)) for group in user.fields.get("as-groups") or ()]
    for name, values in (user.fields.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{name}", str(value)) for value in values]
    return headers


_IMPERSONATE: Final = {"as": "Impersonate-User", "as-uid": "Impersonate-Uid"}


def _exec_of(context: Context) -> Mapping[str, Any] | None:
    program = context.user.fields.get("exec")
    if program is None:
        return None
    where = f"the context {context.name!r} signs in by a program"
    if not isinstance(program, dict) or not isinstance(program.get("command"), str):
        raise BadInput(f"{where} that its kubeconfig does not name; write exec: {{command: …}}")
    if program.get("apiVersion") not in _EXEC_VERSIONS:
        raise BadInput(
            f"{where} of the version {program.get('apiVersion')!r}; write one of: {', '.join(_EXEC_VERSIONS)}"
        )
    return program


def _run(program: Mapping[str, Any], context: Context) -> _Proof:
    command = str(program["command"])
    # As kubectl does: a path is relative to the file, a bare name is looked for on the PATH.
    argv = [str(context.user.directory / command) if os.sep in command else command, *(program.get("args") or ())]
    interactive = program.get("interactiveMode") != "Never" and sys.stdin.isatty()
    spec: dict[str, Any] = {"interactive": interactive}
    if program.get("provideClusterInfo"):
        spec["cluster"] = dict(context.cluster.fields)
    wanted = {"apiVersion": program["apiVersion"], "kind": "ExecCredential", "spec": spec}
    environ = {str(each["name"]): str(each["value"]) for each in program.get("env") or ()}
    about = f"{command}, by which the context {context.name!r} signs in,"
    try:
        done = subprocess.run(  # noqa: S603 - the program that this person's own kubeconfig names
            argv,
            env={**os.environ, **environ, "KUBERNETES_EXEC_INFO": json.dumps(wanted)},
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_EXEC_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise Missing(f"{about} is not installed{_hint(program)}") from None
    except OSError as error:
        raise Failure(f"{about} does not run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{about} took more than {_EXEC_SECONDS // 60} minutes; sign in, and try again") from None
    if done.returncode:
        raise Failure(f"{about} ended with exit code {done.returncode}; what it said is above")
    return _proof(done.stdout, str(program["apiVersion"]), about)


def _hint(program: Mapping[str, Any]) -> str:
    hint = " ".join(str(program.get("installHint") or "").split())
    return f": {hint}" if hint else "; install it"


def _proof(said: bytes, version: str, about: str) -> _Proof:
    try:
        answer = json.loads(said)
        status = answer["status"]
        if answer.get("apiVersion") != version:
            raise Failure(f"{about} answers in {answer.get('apiVersion')!r}, and was asked for {version}; update it")
        expires = status.get("expirationTimestamp")
        proof = _Proof(
            status.get("token") or "",
            status.get("clientCertificateData") or "",
            status.get("clientKeyData") or "",
            datetime.fromisoformat(expires) if expires else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure(f"{about} answers something else than a credential; run it by hand to see what") from None
    if not proof.token and not (proof.certificate and proof.key):
        raise Failure(f"{about} gives neither a token nor a certificate; sign in anew")
    return proof


def tls_context(context: Context, credentials: Credentials) -> ssl.SSLContext:
    """The certificates of both sides, for `context`.

    Raises:
        BadInput: a certificate or key cannot be read.
    """
    cluster, user = context.cluster, context.user
    about = f"of the context {context.name!r}"
    try:
        data, file = _data(cluster, "certificate-authority-data"), cluster.path("certificate-authority")
        tls = ssl.create_default_context(cafile=None if data or file is None else file, cadata=data or None)
        # The authorities of clusters are often older than what Python 3.13 asks of one (RFC 5280, 4.2.1.1).
        tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if cluster.fields.get("insecure-skip-tls-verify"):
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        if credentials.certificate is not None:
            _load_pair(tls, *credentials.certificate)
        elif certificate := _data(user, "client-certificate-data"):
            key = user.path("client-key")
            _load_pair(tls, certificate, _data(user, "client-key-data") or (key.read_text() if key else ""))
        elif path := user.path("client-certificate"):
            key = user.path("client-key")
            if key_data := _data(user, "client-key-data"):
                _load_pair(tls, path.read_text(), key_data)
            else:
                tls.load_cert_chain(path, key)
    except (OSError, ssl.SSLError, binascii.Error, UnicodeDecodeError) as error:
        raise BadInput(f"the certificates {about} cannot be used: {error}; fetch its kubeconfig anew") from None
    return tls


def _data(entry: Entry, name: str) -> str:
    """A field that holds PEM in base64."""
    value = entry.text(name)
    return base64.b64decode(value, validate=True).decode("ascii") if value else ""


def _load_pair(tls: ssl.SSLContext, certificate: str, key: str) -> None:
    # Python reads a key from a file only; the directory is this user's alone, and gone at once.
    with tempfile.TemporaryDirectory(prefix="elf-") as directory:
        file = Path(directory) / "client.pem"
        file.touch(0o600)
        file.write_text(f"{certificate.rstrip()}\n{key}", encoding="ascii")
        tls.load_cert_chain(file)

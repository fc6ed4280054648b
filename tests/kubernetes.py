"""A Kubernetes API server for tests: etcd and kube-apiserver on ports of their own, without nodes, gone afterwards.

What is written to it is checked, defaulted and admitted as in any cluster. No controller runs and no kubelet: a test
that needs a pod's status writes it, as a kubelet would.

The programs are those in the directory `ELF_KUBE_BINARIES`, else on the PATH; a `hyperkube` does for kube-apiserver.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ["INSTALL", "ApiServer", "Programs", "programs", "running"]

INSTALL = (
    "there is no kube-apiserver with etcd here; put them on the PATH, or into a directory that ELF_KUBE_BINARIES names"
)

Programs = tuple[list[str], str]
"""The command of kube-apiserver, and etcd."""

_SECONDS = 60


def programs() -> Programs | None:
    """The programs; None where they are missing."""
    directory = os.environ.get("ELF_KUBE_BINARIES", "")
    path = os.pathsep.join(filter(None, (directory, os.environ.get("PATH", ""))))
    etcd = shutil.which("etcd", path=path)
    if etcd is None:
        return None
    if server := shutil.which("kube-apiserver", path=path):
        return [server], etcd
    if server := shutil.which("hyperkube", path=path):
        return [server, "kube-apiserver"], etcd
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ApiServer:
    """One API server.

    Attributes:
        url: its address.
        directory: where its files are, `ca.crt` among them.
        tokens: of its users `admin`, who may do all, and `guest`, who may do nothing.
    """

    def __init__(self, found: Programs, directory: Path) -> None:
        self.directory = directory
        self.tokens = {name: f"{name}-of-a-test" for name in ("admin", "guest")}
        self.url = f"https://127.0.0.1:{_free_port()}"
        self._found = found
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start, and wait until it answers."""
        (server, etcd), directory = self._found, self.directory
        client, peer = _free_port(), _free_port()
        key = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (directory / "sa.key").write_bytes(key)
        (directory / "tokens.csv").write_text(
            f'{self.tokens["admin"]},admin,1,"system:masters"\n{self.tokens["guest"]},guest,2\n'
        )
        store = f"http://127.0.0.1:{client}"
        self._start(
            etcd,
            *("--data-dir", str(directory / "etcd"), "--unsafe-no-fsync", "--log-level", "error"),
            *("--listen-client-urls", store, "--advertise-client-urls", store),
            *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
            *("--initial-cluster", f"default=http://127.0.0.1:{peer}"),
        )
        self._start(
            *server,
            f"--etcd-servers={store}",
            f"--secure-port={httpx.URL(self.url).port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={directory}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",  # no controller makes the accounts that it asks for
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={directory / 'sa.key'}",
            f"--service-account-signing-key-file={directory / 'sa.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--profiling=false",
            "--v=0",
        )
        self._wait()

    @property
    def authority(self) -> Path:
        """The certificate that it is known by."""
        return self.directory / "apiserver.crt"

    def _start(self, *command: str) -> None:
        with (self.directory / "log").open("ab") as log:
            self._processes.append(subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log))

    def _wait(self) -> None:
        until = time.monotonic() + _SECONDS
        while True:
            log = (self.directory / "log").read_text(errors="replace")[-3000:]
            assert all(process.poll() is None for process in self._processes), log
            assert time.monotonic() < until, log
            try:
                if self.authority.exists() and self.request("GET", "/readyz").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)

    def request(self, method: str, path: str, body: object = None, kind: str = "application/json") -> httpx.Response:
        """Ask it as its administrator."""
        return httpx.request(
            method,
            f"{self.url}{path}",
            content=None if body is None else json.dumps(body),
            headers={"Authorization": f"Bearer {self.tokens['admin']}", "Content-Type": kind},
            verify=ssl.create_default_context(cafile=self.authority),
            timeout=20,
        )

    def put(self, path: str, body: Mapping[str, Any], status: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make an object below `path`, and then what only a controller or a kubelet writes."""
        made = self.request("POST", path, body)
        assert made.is_success, made.text
        answer: dict[str, Any] = made.json()
        if status is not None:
            name = answer["metadata"]["name"]
            patched = self.request("PATCH", f"{path}/{name}/status", {"status": status}, "application/merge-patch+json")
            assert patched.is_success, patched.text
            answer = patched.json()
        return answer

    def settle(self, path: str) -> None:
        """Wait until a kind that was just defined is served."""
        until = time.monotonic() + _SECONDS
        while not self.request("GET", path).is_success:
            assert time.monotonic() < until, path
            time.sleep(0.05)

    def kubeconfig(self, file: Path, user: str = "admin", **contexts: str) -> Path:
        """Write a kubeconfig with the current context `test`, as `user`, and others by name and user."""
        every = {"test": user, **contexts}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "it", "cluster": {"server": self.url, "certificate-authority": str(self.authority)}}],
            "users": [{"name": name, "user": {"token": token}} for name, token in self.tokens.items()],
            "contexts": [{"name": name, "context": {"cluster": "it", "user": whose}} for name, whose in every.items()],
        }
        file.write_text(json.dumps(content), encoding="utf-8")
        return file

    def namespace(self, name: str) -> str:
        """Make a namespace."""
        self.put("/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def stop(self) -> None:
        """Stop it, and the store after it."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running(found: Programs) -> Generator[ApiServer, None, None]:
    """A server in a directory of its own."""
    with TemporaryDirectory(prefix="elf-kube-") as directory:
        server = ApiServer(found, Path(directory))
        try:
            server.start()
            yield server
        finally:
            server.stop()

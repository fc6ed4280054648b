"""Pods of rendered charts as processes of this machine: what a kubelet would mount and set is mounted and set."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.organisations import Object
from tests.faults.replicas import Replica
from tests.server.signing import Publisher, SigningKey, service_account

__all__ = ["ISSUER", "Kubelet", "Pod"]

ISSUER = "https://kubernetes.default.svc.cluster.local"
API_SERVER = "https://kubernetes.default.svc"


@dataclass
class Kubelet:
    """Gives pods what their volumes name.

    Attributes:
        directory: for all pods.
        key: which the API server signs service accounts' tokens with.
        api_server: publishes its public half.
        authority: the certificate by which the API server is trusted.
    """

    directory: Path
    key: SigningKey
    api_server: Publisher
    authority: Path

    def token(self, namespace: str, account: str, audience: str) -> str:
        """A projected service-account token."""
        return self.key.sign(service_account(ISSUER, audience, namespace, account))

    def mount(self, objects: Mapping[str, Object], where: Path) -> None:
        """Write the files of the volume `workload` below `where`."""
        pod = objects["Deployment"]["spec"]["template"]["spec"]
        (volume,) = [each["projected"] for each in pod["volumes"] if each["name"] == "workload"]
        namespace = objects["Deployment"]["metadata"]["namespace"]
        maps = {each["metadata"]["name"]: each["data"] for each in objects.values() if each["kind"] == "ConfigMap"}
        maps["kube-root-ca.crt"] = {"ca.crt": self.authority.read_text()}
        for path, content in _files(
            volume, maps, lambda audience: self.token(namespace, pod["serviceAccountName"], audience)
        ):
            file = where / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)


def _files(volume: Mapping[str, Any], maps: Mapping[str, Mapping[str, str]], token: Any) -> Iterator[tuple[str, str]]:
    for source in volume["sources"]:
        if "configMap" in source:
            for item in source["configMap"]["items"]:
                yield item["path"], maps[source["configMap"]["name"]][item["key"]]
        else:
            about = source["serviceAccountToken"]
            yield about["path"], token(about.get("audience", API_SERVER))


class Pod:
    """One replica of a team, as its chart says.

    Args:
        kubelet: mounts its files.
        objects: of its chart.
        program: the directory with team.yaml and team.py, as they are in the image.
        environ: further variables, as Secrets would set them.

    Attributes:
        name: of the team.
        files: what is at /run/elf.
        replica: the process.
    """

    def __init__(
        self, kubelet: Kubelet, objects: Mapping[str, Object], program: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = str(objects["Deployment"]["metadata"]["name"])
        self.namespace = str(objects["Deployment"]["metadata"]["namespace"])
        self.files = kubelet.directory / self.name
        kubelet.mount(objects, self.files)
        place = kubelet.directory / f"{self.name}-data"
        place.mkdir()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ELF_", "JWT_", "SUPABASE_"))}
        settings = {
            name: value.replace("/run/elf", str(self.files)).replace(API_SERVER + "/", kubelet.api_server.address + "/")
            for name, value in objects["ConfigMap"]["data"].items()
        }
        settings |= {
            "ELF_HOST": "127.0.0.1",
            "ELF_METRICS_PORT": "0",
            "ELF_STORE": str(place / "elf.db"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        self.replica = Replica(program, inherited | settings | dict(environ or {}), place / "log")

    @property
    def service(self) -> str:
        """The address of its Service."""
        return f"http://{self.name}.{self.namespace}.svc:8000"

    def resolve(self, services: Mapping[str, str]) -> None:
        """Have it find others: there is no name service here that knows the addresses of Services."""
        file = self.files / "edges.json"
        text = file.read_text()
        for service, address in services.items():
            text = text.replace(f'"{service}"', f'"{address}"')
        file.write_text(text)

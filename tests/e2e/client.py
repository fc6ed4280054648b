"""A pod from which teams are called: what runs in it comes from `programs/`, on the image of a team."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.cluster import Cluster, until

__all__ = ["Client", "Running"]

_PROGRAMS = Path(__file__).parent / "programs"


class Client:
    """The pod.

    Args:
        cluster: where it runs.
        namespace: in which.
        name: of the pod, and its label `app`.
        image: with Python and what elf-sdk needs.
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str, image: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        files = {path.name: path.read_text(encoding="utf-8") for path in sorted(_PROGRAMS.glob("*.py"))}
        metadata = {"namespace": namespace, "name": name, "labels": {"app": name}}
        cluster.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files},
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _pod(name, image, cluster.first_node())},
        )
        until("client", lambda: cluster.ready_pods(namespace, f"app={name}"), 120, lambda: cluster.why(namespace))

    def run(self, program: str, *arguments: str, stdin: Any = None, timeout: float = 120) -> Any:
        """What a program prints as JSON; `stdin` is given to it as JSON."""
        command = ["exec", "-i", "-n", self._namespace, self._name, "--", "python", f"/programs/{program}.py"]
        given = None if stdin is None else json.dumps(stdin)
        return json.loads(self._cluster.run(*command, *arguments, stdin=given, timeout=timeout).stdout)

    @contextmanager
    def running(self, program: str, *arguments: str) -> Generator[Running, None, None]:
        """A program that goes on until it is told to finish, or the block ends."""
        command = [
            "kubectl",
            "exec",
            "-i",
            "-n",
            self._namespace,
            self._name,
            "--",
            "python",
            f"/programs/{program}.py",
        ]
        with subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield Running(process)
            finally:
                process.kill()


class Running:
    """A program at work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def finish(self, timeout: float = 120) -> Any:
        """Close its standard input; what it prints then, as JSON."""
        printed, said = self._process.communicate(timeout=timeout)
        assert self._process.returncode == 0, said
        return json.loads(printed)


def _pod(name: str, image: str, node: str) -> dict[str, object]:
    container = {
        "name": "client",
        "image": image,
        "command": ["python", "-c", "import signal; signal.pause()"],
        "resources": {"requests": {"cpu": "25m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "programs", "mountPath": "/programs"}],
    }
    return {
        "automountServiceAccountToken": False,
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "programs", "configMap": {"name": name}}],
    }

"""A Kubernetes cluster as a person with kubectl has it; and waiting that says what is wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["Cluster", "Json", "free_port", "until"]

Json = dict[str, Any]
_Found = TypeVar("_Found")


def until(what: str, look: Callable[[], _Found | None], seconds: float, why: Callable[[], str] = str) -> _Found:
    """What `look` finds, as soon as that is something.

    Args:
        what: what is waited for, as it stands in the error.
        look: asked over and over; something true ends the waiting.
        seconds: how long at most.
        why: asked once, when the time is over, for what can be seen then.
    """
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds:.0f} s there is still no {what}\n{why()}")
        time.sleep(0.5)
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


class Cluster:
    """The cluster that KUBECONFIG names, by kubectl."""

    def run(
        self, *arguments: str, stdin: str | None = None, timeout: float = 60, fine: Iterable[int] = (0,)
    ) -> subprocess.CompletedProcess[str]:
        """One call of kubectl; a failure is an assertion with its words."""
        done = subprocess.run(
            ["kubectl", *arguments], input=stdin, check=False, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode in fine, f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
        return done

    def apply(self, *objects: Json) -> None:
        """Create or change objects."""
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=_stream(objects))

    def try_apply(self, thing: Json) -> str:
        """Why the API server refuses an object."""
        return self.run("apply", "--server-side", "-f", "-", stdin=json.dumps(thing), fine=(1,)).stderr

    def delete(self, *arguments: str, timeout: float = 120) -> None:
        """Delete what is there, and wait until it is gone."""
        self.run("delete", "--ignore-not-found", *arguments, timeout=timeout)

    def get(self, *arguments: str) -> Json:
        """An object, or a list of them."""
        found: Json = json.loads(self.run("get", *arguments, "-o", "json").stdout)
        return found

    def items(self, *arguments: str) -> list[Json]:
        """The objects of a list."""
        found: list[Json] = self.get(*arguments)["items"]
        return found

    def find(self, *arguments: str) -> Json | None:
        """An object, if it is there."""
        done = self.run("get", "--ignore-not-found", *arguments, "-o", "json")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def has(self, resource: str) -> bool:
        """Whether the API server knows a kind, such as `applications.argoproj.io`."""
        return bool(self.run("get", "crd", resource, "--ignore-not-found", "-o", "name").stdout.strip())

    def namespace(self, name: str, *, restricted: bool = True) -> None:
        """A namespace; with the restricted Pod Security Standard enforced unless told otherwise."""
        modes = ("enforce", "audit", "warn") if restricted else ()
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def secret(self, namespace: str, name: str, values: Mapping[str, str]) -> None:
        """A Secret."""
        metadata = {"name": name, "namespace": namespace}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(values)})

    def first_node(self) -> str:
        """The node that nobody cuts off."""
        return min(str(item["metadata"]["labels"]["kubernetes.io/hostname"]) for item in self.items("nodes"))

    def ready_pods(self, namespace: str, selector: str) -> list[Json]:
        """The pods that answer, and are not going, oldest first."""
        pods = [
            pod
            for pod in self.items("pods", "-n", namespace, "-l", selector)
            if "deletionTimestamp" not in pod["metadata"] and _is_ready(pod)
        ]
        return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def rolled_out(self, namespace: str, deployment: str, seconds: float = 120) -> None:
        """Wait until all replicas of a Deployment are there as it says now."""

        def is_there() -> bool:
            found = self.get("deployment", deployment, "-n", namespace)
            status, wanted = found.get("status", {}), found["spec"].get("replicas", 1)
            seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
            numbers = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
            return seen and numbers == [wanted] * 3

        until(f"rollout of {namespace}/{deployment}", is_there, seconds, lambda: self.why(namespace))

    def issuer(self) -> str:
        """Who signs the tokens of service accounts, as in their `iss`."""
        return str(json.loads(self.run("get", "--raw", "/.well-known/openid-configuration").stdout)["issuer"])

    def api_server(self) -> tuple[list[str], int]:
        """The addresses behind the API server's Service, and their port."""
        (found,) = self.items("endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes")
        return [address for endpoint in found["endpoints"] for address in endpoint["addresses"]], found["ports"][0][
            "port"
        ]

    def dns(self) -> list[str]:
        """The addresses of the cluster's DNS where it does not run in pods; none where it does."""
        slices = self.items("endpointslices", "-n", "kube-system", "-l", "kubernetes.io/service-name=kube-dns")
        endpoints = [endpoint for found in slices for endpoint in found["endpoints"]]
        return [address for each in endpoints if "targetRef" not in each for address in each["addresses"]]

    def why(self, *namespaces: str) -> str:
        """What is not as it should be in some namespaces: pods, events, the last lines of logs."""
        return "\n".join(line for namespace in namespaces for line in self._why(namespace))

    def _why(self, namespace: str) -> Iterable[str]:
        for pod in self.items("pods", "-n", namespace):
            if _is_ready(pod) or pod["status"].get("phase") == "Succeeded":
                continue
            name = pod["metadata"]["name"]
            yield f"{namespace}/{name}: {pod['status'].get('phase')}"
            status = pod["status"]
            for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
                yield f"  {container['name']}: {json.dumps(container['state'])}"
            said = self.run(
                "logs", name, "-n", namespace, "--all-containers", "--prefix", "--tail=15", fine=(0, 1)
            ).stdout
            yield from (f"  | {line}" for line in said.splitlines())
        warnings = self.items("events", "-n", namespace, "--field-selector", "type=Warning")
        for event in warnings[-8:]:
            yield f"  event: {event['involvedObject'].get('name')}: {event.get('message', '')[:300]}"

    def python(self, namespace: str, pod: str, program: str, *arguments: str, timeout: float = 120) -> Any:
        """What a Python program prints as JSON that runs in a pod's first container."""
        command = ["exec", "-i", "-n", namespace, pod, "--", "python", "-", *arguments]
        done = self.run(*command, stdin=program, timeout=timeout)
        return json.loads(done.stdout)

    @contextmanager
    def forwarded(self, namespace: str, target: str, port: int) -> Generator[int, None, None]:
        """A port of this machine that leads to one of a pod, whatever the policies say."""
        local = free_port()
        command = ["kubectl", "port-forward", "-n", namespace, target, f"{local}:{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line.startswith("Forwarding from"), line
                yield local
            finally:
                process.terminate()


def _stream(objects: Iterable[Json]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def _is_ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

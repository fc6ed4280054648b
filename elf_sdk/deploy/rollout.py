"""How far a Deployment is, and in plain sentences what keeps it: from its objects alone, without asking anybody.

Health has Argo CD's words and meaning: https://argo-cd.readthedocs.io/en/stable/operator-manual/health/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from elf_sdk.deploy.cluster.api import Object

__all__ = ["CONTAINER", "Health", "crashed", "health", "is_ready", "obstacles", "running_digest", "wanted_replicas"]

Health = Literal["Healthy", "Progressing", "Degraded", "Suspended", "Missing"]

CONTAINER: Final = "team"
"""The container that runs the team, in every chart."""

_IMAGE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable"}
)
_CONFIG: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def wanted_replicas(deployment: Object) -> int:
    """How many replicas there should be; an autoscaler may have changed it."""
    replicas = deployment.get("spec", {}).get("replicas", 1)
    return int(replicas)


def health(deployment: Object | None) -> Health:
    """The health of a Deployment; None is one that is not there."""
    if deployment is None:
        return "Missing"
    spec, status = deployment.get("spec", {}), deployment.get("status", {})
    if spec.get("paused"):
        return "Suspended"
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "Progressing"
    if any(each.get("reason") == "ProgressDeadlineExceeded" for each in status.get("conditions") or ()):
        return "Degraded"
    wanted, updated = wanted_replicas(deployment), status.get("updatedReplicas", 0)
    if updated < wanted or status.get("replicas", 0) > updated or status.get("availableReplicas", 0) < updated:
        return "Progressing"
    return "Healthy"


def is_ready(deployment: Object | None) -> bool:
    """Whether all replicas are of this generation, ready, and no older one is left."""
    return health(deployment) == "Healthy"


def running_digest(deployment: Object, pods: Iterable[Object] = ()) -> str:
    """`sha256:…` of the image that runs; empty where nothing says it.

    Args:
        deployment: of the team.
        pods: of the team, asked where the Deployment names its image by a tag.
    """
    containers = deployment.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or ()
    for container in containers:
        if container.get("name") == CONTAINER and "@" in container.get("image", ""):
            return str(container["image"]).partition("@")[2]
    digests = {
        str(status.get("imageID", "")).rpartition("@")[2]
        for pod in pods
        for status in pod.get("status", {}).get("containerStatuses") or ()
        if status.get("name") == CONTAINER
    }
    # While an update is under way there are two.
    known = sorted(digest for digest in digests if digest.startswith("sha256:"))
    return known[0] if len(known) == 1 else ""


def obstacles(
    deployment: Object | None, replica_sets: Sequence[Object], pods: Sequence[Object], events: Sequence[Object]
) -> tuple[str, ...]:
    """What keeps the newest generation of a Deployment from being ready, one sentence each, without repetition.

    Args:
        deployment: None where it is not there.
        replica_sets: of the Deployment.
        pods: of the team.
        events: of the namespace.
    """
    if deployment is None:
        return ("there is no Deployment",)
    newest = _newest(replica_sets)
    own = [pod for pod in pods if newest is None or _owner(pod) == newest["metadata"].get("uid")]
    said = [*_conditions(deployment), *(sentence for pod in own for sentence in _of_pod(pod, events))]
    if newest is not None and not own:
        said += [_one_line(event.get("message")) for event in _about(events, newest, "FailedCreate")]
    return tuple(dict.fromkeys(sentence for sentence in said if sentence))


def crashed(pods: Sequence[Object], replica_sets: Sequence[Object]) -> Iterator[tuple[str, str]]:
    """Pod and container of each that ended before and is not running now; its last lines tell why."""
    newest = _newest(replica_sets)
    for pod in pods:
        if newest is not None and _owner(pod) != newest["metadata"].get("uid"):
            continue
        for status in _statuses(pod):
            if _ended(status) is not None and "running" not in (status.get("state") or {}):
                yield pod["metadata"]["name"], str(status.get("name", ""))


def _newest(replica_sets: Sequence[Object]) -> Object | None:
    def revision(replica_set: Object) -> int:
        number = (replica_set["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "0")
        return int(number) if str(number).isdecimal() else 0

    return max(replica_sets, key=revision, default=None)


def _owner(thing: Object) -> str:
    return next((str(each.get("uid")) for each in thing["metadata"].get("ownerReferences") or ()), "")


def _conditions(deployment: Object) -> Iterator[str]:
    for condition in deployment.get("status", {}).get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            yield f"its pods are refused: {_one_line(condition.get('message'))}"


def _statuses(pod: Object) -> list[Mapping[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _of_pod(pod: Object, events: Sequence[Object]) -> Iterator[str]:
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"no node takes its pod: {_one_line(condition.get('message'))}"
    started = False
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        started = started or bool(status.get("containerID")) or status.get("restartCount", 0) > 0
        if sentence := _of_container(status, waiting):
            yield sentence
    if not started:
        for event in _about(events, pod, "FailedMount", "FailedCreatePodSandBox", "FailedAttachVolume"):
            yield _one_line(event.get("message"))
    elif any(not status.get("ready") and "running" in (status.get("state") or {}) for status in _statuses(pod)):
        for event in _about(events, pod, "Unhealthy"):
            yield f"it runs and is not ready: {_one_line(event.get('message'))}"


def _of_container(status: Mapping[str, Any], waiting: Mapping[str, Any]) -> str:
    name, reason = status.get("name", ""), waiting.get("reason", "")
    message = _one_line(waiting.get("message"))
    if reason in _IMAGE:
        return f"its image {status.get('image', '')} cannot be pulled: {message or reason}"
    if reason in _CONFIG:
        return f"its container {name} cannot be made: {message or reason}"
    ended = _ended(status)
    if ended is None or "running" in (status.get("state") or {}):
        return ""
    why = f"{ended['reason']}, " if ended.get("reason") not in (None, "Error") else ""
    times = status.get("restartCount", 0)
    again = f", started again {times} times" if times > 1 else ", started again once" if times else ""
    return f"its container {name} ended with {why}exit code {ended.get('exitCode')}{again}"


def _ended(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How a container ended, where it ended badly."""
    for state in (status.get("state") or {}, status.get("lastState") or {}):
        ended = state.get("terminated")
        if ended and ended.get("exitCode"):
            return dict(ended)
    return None


def _about(events: Sequence[Object], thing: Object, *reasons: str) -> Iterator[Object]:
    """The newest event of each reason about an object."""
    found: dict[str, Object] = {}
    for event in sorted(events, key=_when):
        involved = event.get("involvedObject") or {}
        if involved.get("uid") == thing["metadata"].get("uid") and event.get("reason") in reasons:
            found[str(event["reason"])] = event
    yield from found.values()


def _when(event: Object) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def _one_line(text: object) -> str:
    return " ".join(str(text or "").split())

"""`elf logs`: what several replicas write as one stream, through a real API server and a node that has the logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from elf_sdk.deploy.cluster.api import KubeApi
from elf_sdk.deploy.cluster.kubeconfig import read_kubeconfig
from elf_sdk.deploy.logs import LogLine, entry_of, follow_logs, read_logs
from elf_sdk.errors import NotFound
from tests.deploy.deployed import put_pod
from tests.deploy.organisations import elf, write_project
from tests.kubelet import Kubelet, kubelet
from tests.kubernetes import ApiServer

pytestmark = pytest.mark.xdist_group("kubernetes")


def at(second: int, text: str, zone: str = "Z") -> str:
    return f"2026-03-01T12:00:{second:02d}.000000000{zone} {text}"


@pytest.fixture
def node(kube: ApiServer, request: pytest.FixtureRequest) -> Iterator[Kubelet]:
    with kubelet(kube, f"node-{abs(hash(request.node.name)) % 10**8}") as state:
        yield state


@pytest.fixture
def api(kube: ApiServer, tmp_path: Path) -> Iterator[KubeApi]:
    with KubeApi(read_kubeconfig([kube.kubeconfig(tmp_path / "config")]).context()) as opened:
        yield opened


def replicas(kube: ApiServer, namespace: str, node: Kubelet, *names: str) -> None:
    for name in names:
        put_pod(kube, namespace, None, {"phase": "Running"}, name=name, team="brand-team", node=node.node)


def test_replicas_are_merged_by_time_whatever_zone_their_node_has(kube: ApiServer, node: Kubelet, api: KubeApi) -> None:
    here = kube.namespace("logs-merged")
    replicas(kube, here, node, "brand-a", "brand-b", "brand-c")
    node.logs["brand-a"] = [at(1, "one"), at(4, "four")]
    node.logs["brand-b"] = [
        at(2, "two").replace("T12", "T14").replace("Z", "+02:00"),
        at(3, "three").replace("T12", "T14").replace("Z", "+02:00"),
    ]
    notes: list[str] = []
    found = list(read_logs(api, here, "brand-team", lines=10, note=notes.append))
    assert [(line.pod, line.text) for line in found] == [
        ("brand-a", "one"),
        ("brand-b", "two"),
        ("brand-b", "three"),
        ("brand-a", "four"),
    ]
    # The third has not started, and hides nothing of the others.
    assert [note.partition(":")[0] for note in notes] == ["brand-c"]
    assert [line.text for line in read_logs(api, here, "brand-team", lines=1)] == ["three", "four"]


def test_what_an_earlier_container_wrote(kube: ApiServer, node: Kubelet, api: KubeApi) -> None:
    here = kube.namespace("logs-previous")
    replicas(kube, here, node, "brand-a")
    node.logs["brand-a"], node.previous["brand-a"] = [at(9, "again")], [at(1, "Killed")]
    assert [line.text for line in read_logs(api, here, "brand-team", lines=10, previous=True)] == ["Killed"]


def test_a_team_without_replicas_is_said(kube: ApiServer, api: KubeApi) -> None:
    here = kube.namespace("logs-none")
    with pytest.raises(NotFound, match="brand-team has no replica in logs-none"):
        list(read_logs(api, here, "brand-team", lines=10))
    with pytest.raises(NotFound, match="brand-team has no replica in logs-none"):
        next(follow_logs(api, here, "brand-team", lines=10))


def test_a_stream_that_breaks_goes_on_without_a_line_twice(kube: ApiServer, node: Kubelet, api: KubeApi) -> None:
    here = kube.namespace("logs-broken")
    replicas(kube, here, node, "brand-a")
    node.logs["brand-a"] = [at(1, "one"), at(2, "two"), at(2, "too")]
    node.broken.add("brand-a")
    stream = follow_logs(api, here, "brand-team", lines=10)
    try:
        assert [next(stream).text for _ in range(3)] == ["one", "two", "too"]
        node.logs["brand-a"] += [at(2, "also"), at(3, "three")]
        assert [next(stream).text for _ in range(2)] == ["also", "three"]
    finally:
        stream.close()


def test_a_replica_that_starts_later_is_followed_too(kube: ApiServer, node: Kubelet, api: KubeApi) -> None:
    here = kube.namespace("logs-later")
    replicas(kube, here, node, "brand-a")
    node.logs["brand-a"] = [at(1, "one")]
    stream = follow_logs(api, here, "brand-team", lines=1)
    try:
        assert next(stream) == LogLine("2026-03-01T12:00:01.000000000Z", "brand-a", "one")
        node.logs["brand-b"] = [at(2, "two"), at(3, "three")]
        replicas(kube, here, node, "brand-b")
        assert [(line.pod, line.text) for line in (next(stream), next(stream))] == [
            ("brand-b", "two"),
            ("brand-b", "three"),
        ]
    finally:
        stream.close()


LINE = {
    "time": "2026-03-01T12:00:00.000Z",
    "level": "warning",
    "logger": "elf.runs",
    "message": "it\x1b[2J failed\nfor good",
    "run_id": "r-1",
    "exception": "Traceback:\n  boom",
}


def test_a_pipe_gets_what_was_written_and_a_person_what_can_be_read(
    kube: ApiServer, node: Kubelet, tmp_path: Path
) -> None:
    here = kube.namespace("logs-shown")
    root = write_project(tmp_path / "p", {"brand-team": {"environments": {"dev": {"namespace": here}}}})
    replicas(kube, here, node, "brand-team-7f9-abcde")
    node.logs["brand-team-7f9-abcde"] = [at(1, json.dumps(LINE)), at(2, "plain\x07 text")]
    environ = {"KUBECONFIG": str(kube.kubeconfig(tmp_path / "config"))}
    done = elf("logs", "brand-team", cwd=root, **environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{json.dumps(LINE)}\nplain\x07 text\n"
    done = elf("logs", "brand-team", "--pretty", "--since", "10m", cwd=root, **environ)
    assert done.stdout.splitlines() == [
        "abcde 12:00:00.000 WARNING elf.runs: it\ufffd[2J failed  run_id=r-1",
        "abcde     for good",
        "abcde     Traceback:",
        "abcde       boom",
        "abcde plain\ufffd text",
    ]
    assert node.asked[-1]["sinceSeconds"] == ["600"]


def test_follow_ends_at_once_when_it_is_stopped(kube: ApiServer, node: Kubelet, tmp_path: Path) -> None:
    here = kube.namespace("logs-stopped")
    root = write_project(tmp_path / "p", {"brand-team": {"environments": {"dev": {"namespace": here}}}})
    replicas(kube, here, node, "brand-a")
    node.logs["brand-a"] = [at(1, "one")]
    environ = {**os.environ, "KUBECONFIG": str(kube.kubeconfig(tmp_path / "config"))}
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-m", "elf_sdk", "logs", "brand-team", "--follow"],
        cwd=root,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
        process.send_signal(2)
        assert process.wait(20) == 130
        watchdog.cancel()


@pytest.mark.parametrize("text", ["{", "{}", '{"time": 1, "level": "a", "logger": "b", "message": "c"}', "[1]", "x"])
def test_what_is_no_line_of_the_runtime_stays_as_it_is(text: str) -> None:
    assert entry_of(text) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--follow", "--previous"), "do not go together"),
        (("--since", "soon"), "--since 'soon' is no duration"),
        (("--env", "moon"), "there is no environment 'moon'"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    root = write_project(tmp_path / "p", {"brand-team": {}})
    done = elf("logs", "brand-team", *arguments, cwd=root)
    assert done.returncode == 2
    assert said in done.stderr

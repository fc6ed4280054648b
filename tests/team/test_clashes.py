# ruff: noqa: E501 - sentences are quoted whole, as they are read
"""What does not fit together in how a team runs in a cluster is told where it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from elf_sdk.errors import BadSpec
from elf_sdk.team.load import load_team, read_organisation

TEAM = "name: a-team\nmembers: [{role: lead, is_manager: true}]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("env: [{name: A}, {name: ELF_PORT, value: '1'}]\n", "3: env[1].name: in a cluster the chart sets ELF_PORT itself; remove it"),
        ("env:\n  - name: ELF_DATABASE_URL\n", "4: env[0].name: in a cluster the chart sets ELF_DATABASE_URL itself; write database instead"),
        ("env:\n  - name: ELF_PUSH_ALLOW\n", "4: env[0].name: in a cluster the chart sets ELF_PUSH_ALLOW itself; write serving.push_allow instead"),
        ("ingress: {enabled: true}\n", "3: ingress.enabled: an Ingress without a host answers to every name; write its host too"),
        ("gateway:\n  enabled: true\n", "4: gateway.enabled: a route without a host answers to every name; write its host too"),
        ("resources: {memory_request: 2Gi, memory_limit: 512Mi}\n", "3: resources.memory_request: 2Gi is more than memory_limit, 512Mi; write at most that"),
        ("resources: {cpu_request: 1500m, cpu_limit: 1}\n", "3: resources.cpu_request: 1500m is more than cpu_limit, 1; write at most that"),
        ("replicas: 5\nautoscaling: {max_replicas: 4}\n", "4: autoscaling.max_replicas: 4 is less than replicas, 5; write at least that"),
        ("replicas: 0\nautoscaling: {enabled: true}\n", "4: autoscaling.enabled: an autoscaler keeps at least one replica; write false, or no replicas: 0"),
        (
            "autoscaling: {prometheus: 'http://prometheus:9090'}\n",
            "3: autoscaling.prometheus: only KEDA asks a Prometheus; write kind: keda as well, or remove it",
        ),
        (
            "runs: {store: ephemeral}\nautoscaling: {enabled: true}\n",
            "3: runs.store: an ephemeral store serves one replica only; write replicas: 1 and no autoscaling, or store: default",
        ),
        ("serving: {grpc_port: 8000}\n", "3: serving.grpc_port: 8000 is the team's main port already; write another"),
        ("serving: {grpc_port: 9464}\n", "3: serving.grpc_port: 9464 is metrics_port already; write another"),
        ("serving: {push_allow: ['a, b']}\n", "3: serving.push_allow[0]: 'a, b' is no target of push notifications; write a host, an address or a network such as 10.1.0.0/16, with http:// before it where it has no HTTPS"),
        ("pod:\n  volumes:\n    - emptyDir: {}\n", "5: pod.volumes[0]: it has no name; write one"),
        ("pod: {volumes: [{name: data, emptyDir: {}}]}\n", "3: pod.volumes[0]: 'data' is the chart's own; write another name"),
        ("pod: {containers: [{name: x}, {name: x}]}\n", "3: pod.containers[1]: 'x' is there twice; remove one"),
        ("pod: {volume_mounts: [{name: y, mountPath: /y}]}\n", "3: pod.volume_mounts[0]: there is no volume 'y'; add it under pod.volumes"),
        ("pod: {volume_mounts: [{name: data, mountPath: /tmp/}]}\n", "3: pod.volume_mounts[0]: '/tmp/' is the chart's own; write another place"),
        ("pod: {volume_mounts: [{name: data, mountPath: y}]}\n", "3: pod.volume_mounts[0]: it has no mountPath; write the absolute path at which the volume is found"),
        ("pod: {volumes: [x]}\n", "3: pod.volumes[0]: 'x' has no fields; write them as Kubernetes does, such as `name: cache`"),
        ("pod: {volumes: [{name: x, items: [1.5]}]}\n", "3: pod.volumes[0]: items[0] is 1.5; write text, a whole number, true or false there"),
        ("pod: {volumes: [{name: x, items: [[1]]}]}\n", "3: pod.volumes[0]: items[0] is [1]; write text, a whole number, true or false there"),
        (
            "environments:\n  prod:\n    ingress: {enabled: true}\n",
            "5: environments.prod.ingress.enabled: an Ingress without a host answers to every name; write its host too",
        ),
    ],
)  # fmt: skip
def test_a_clash_is_told_with_line_and_remedy(text: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "team.yaml"
    file.write_text(TEAM + text, encoding="utf-8")
    with pytest.raises(BadSpec) as caught:
        load_team(file)
    (problem,) = caught.value.problems
    assert f"{problem.line}: {problem.field}: {problem.message}" == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/{env}", "{env} is not known; write one of: {environment}, {organisation}, {secret}, {team}"),
        ("a/{team", "'a/{team' has a brace that belongs to none of: {environment}, {organisation}, {secret}, {team}; remove it"),
    ],
)  # fmt: skip
def test_a_path_in_the_secret_store_has_known_placeholders(path: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "elf.yaml"
    file.write_text(f"secret_store:\n  name: vault\n  path: '{path}'\n", encoding="utf-8")
    _, (problem,) = read_organisation(file, "elf.yaml")
    assert (problem.line, problem.field, problem.message) == (3, "secret_store.path", expected)

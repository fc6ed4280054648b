"""A PostgreSQL for the teams, as a pod of the tests; its image is the Python base with Debian's packages."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.cluster import Cluster, until

__all__ = ["Database", "build_image"]

_DOCKERFILE = """\
ARG BASE
FROM ${BASE}
RUN groupadd -g 10001 postgres && useradd -u 10001 -g postgres postgres \
 && apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/*
USER 10001
"""

_START = """\
set -eu
export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
printf %s "$PASSWORD" > /data/password
[ -d /data/base ] || initdb -D /data/base -U elf --pwfile=/data/password -A scram-sha-256 -E UTF8 --locale=C >/dev/null
echo 'host all all all scram-sha-256' >> /data/base/pg_hba.conf
exec postgres -D /data/base -k /data -c listen_addresses='*' -c max_connections=300 -c shared_buffers=128MB
"""


def build_image(registry: str, directory: Path) -> str:
    """Build the image and push it; its name with its digest."""
    image = f"{registry}/elf-e2e/postgres:15"
    (directory / "Dockerfile").write_text(_DOCKERFILE, encoding="utf-8")
    digest = directory / "digest"
    base = f"{registry}/python:3.11"
    environment = {"BUILDAH_ISOLATION": "chroot", **os.environ}
    for command in (
        ["buildah", "build", "-q", "--layers", "--tls-verify=false", "--build-arg", f"BASE={base}", "-t", image, "."],
        ["buildah", "push", "-q", "--tls-verify=false", "--digestfile", str(digest), image],
    ):
        done = subprocess.run(command, cwd=directory, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return f"{image.rpartition(':')[0]}@{digest.read_text(encoding='ascii').strip()}"


class Database:
    """The server, with a database for each environment.

    Args:
        cluster: where it runs.
        namespace: in which; the one that `elf.yaml` names under `database`.
        image: of the server.
    """

    def __init__(self, cluster: Cluster, namespace: str, image: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._password = secrets.token_hex(16)
        cluster.secret(namespace, "postgres", {"password": self._password})
        cluster.apply(_service(namespace), _stateful_set(namespace, image, cluster.first_node()))
        until(
            "database",
            lambda: cluster.ready_pods(namespace, "app=postgres"),
            60,
            lambda: cluster.why(namespace),
        )

    def execute(self, statements: str, database: str = "postgres") -> str:
        """What psql prints, tuples only."""
        command = ["psql", "-h", "/data", "-U", "elf", "-d", database, "-qtA", "-v", "ON_ERROR_STOP=1"]
        shell = 'export PGPASSWORD="$PASSWORD"; exec "$@"'
        there = ("exec", "-i", "-n", self._namespace, "postgres-0", "--", "sh", "-c", shell, "psql")
        return self._cluster.run(*there, *command, stdin=f"{statements};\n").stdout.strip()

    def create(self, databases: Sequence[str]) -> dict[str, str]:
        """New databases, each with a role of the same name; their URLs as pods see them."""
        passwords = {name: secrets.token_hex(16) for name in databases}
        roles = [f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'" for name, password in passwords.items()]
        self.execute(";\n".join([*roles, *(f'CREATE DATABASE "{name}" OWNER "{name}"' for name in databases)]))
        host = f"postgres.{self._namespace}.svc:5432"
        return {name: f"postgresql://{name}:{password}@{host}/{name}" for name, password in passwords.items()}


def _service(namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "postgres", "namespace": namespace},
        "spec": {"selector": {"app": "postgres"}, "ports": [{"port": 5432}]},
    }


def _stateful_set(namespace: str, image: str, node: str) -> dict[str, object]:
    container = {
        "name": "postgres",
        "image": image,
        "command": ["sh", "-c", _START],
        "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "postgres", "key": "password"}}}],
        "ports": [{"containerPort": 5432}],
        "readinessProbe": {
            "exec": {"command": ["sh", "-c", "/usr/lib/postgresql/*/bin/pg_isready -h /data"]},
            "periodSeconds": 1,
        },
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "postgres", "namespace": namespace},
        "spec": {
            "serviceName": "postgres",
            "selector": {"matchLabels": {"app": "postgres"}},
            "template": {
                "metadata": {"labels": {"app": "postgres"}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "terminationGracePeriodSeconds": 5,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 10001,
                        "runAsGroup": 10001,
                        "fsGroup": 10001,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                },
            },
        },
    }

"""What a chart gives its pods is what the team's program understands: its commands run here with what was rendered."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from elf_sdk.team.load import load_team
from tests.deploy.organisations import Object, render, values_of
from tests.postgres import Server

ROOT = Path(__file__).parents[2]
SECRET = "only-for-tests-of-what-a-pod-is-given"


def given(objects: Mapping[str, Object], container: Object, files: Path, **over: str) -> dict[str, str]:
    """The environment of a container; what is a file in the pod is one below `files`."""
    found = dict(objects["ConfigMap"]["data"]) if container.get("envFrom") else {}
    found = {name: value.replace("/run/elf", str(files)) for name, value in found.items()}
    for each in container["env"]:
        if "valueFrom" in each:
            found[each["name"]] = (files / each["name"]).read_text(encoding="utf-8")
        else:
            found[each["name"]] = str(each["value"]).replace("/run/secrets/elf", str(files))
    clean = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**clean, "PYTHONPATH": str(ROOT), **found, **over}


def program(command: list[str]) -> list[str]:
    assert command[0] == "elf"
    return [sys.executable, "-m", "elf_sdk", *command[1:]]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def serving(directory: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "elf_sdk", "serve", str(directory)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        shown = server.stdout.readline()
        found = re.search(r"http://\S+", shown)
        assert found, shown
        try:
            yield found[0], server
        finally:
            server.kill()


def test_a_team_migrates_serves_is_measured_tested_and_ends_as_its_chart_says(postgres: Server, tmp_path: Path) -> None:
    directory = tmp_path / "engineering-team"
    shutil.copytree(ROOT / "teams" / "engineering-team", directory)
    team = load_team(directory)
    values = values_of(team)
    # One more Secret, as a single team without an issuer has it.
    shared = {"name": "JWT_SECRET_KEY", "secret": "elf-jwt", "key": "k", "mount": "variable", "optional": False}
    values["secrets"].append(shared)
    objects = render(tmp_path / "chart", team, values)
    pod = objects["Deployment"]["spec"]["template"]["spec"]

    files = tmp_path / "files"
    files.mkdir()
    name = postgres.database("template0")
    (files / "ELF_DATABASE_URL").write_text(postgres.url(name), encoding="utf-8")
    (files / "JWT_SECRET_KEY").write_text(SECRET, encoding="utf-8")
    edges = objects["ConfigMap/engineering-team-edges"]["data"]["edges.json"]
    (files / "edges.json").write_text(edges, encoding="utf-8")

    (migrate,) = pod["initContainers"]
    done = subprocess.run(
        program(migrate["command"]), env=given(objects, migrate, files), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "went from nothing to revision" in done.stdout

    metrics = free_port()
    here = {"ELF_HOST": "127.0.0.1", "ELF_PORT": "0", "ELF_METRICS_PORT": str(metrics)}
    with serving(directory, given(objects, pod["containers"][0], files, **here)) as (url, server):
        (test,) = objects["Pod/engineering-team-test"]["spec"]["containers"]
        command = [url if part.startswith("http://") else part for part in program(test["command"])]
        asked = subprocess.run(
            command, env=given(objects, test, files), capture_output=True, text=True, timeout=60, check=False
        )
        assert asked.returncode == 0, asked.stderr
        assert asked.stdout.strip()
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as answer:
            assert b"elf_runs_started_total" in answer.read()
        assert postgres.execute("SELECT state FROM runs", name) == [("finished",)]
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0

"""How long `elf package` takes, beside a loop over `helm lint` and `helm template` for every environment.

Cold, with nothing known of before; one team changed; unchanged. Beside the seconds stand the seconds of CPU, because
on a machine that does other things too only those compare. Teams form a tree; each has a model, variables and a secret.

python -m benchmarks.package [--teams 100 300 1000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import elf_sdk
from elf_sdk.deploy.helm import fit

FAN_OUT = 8
"""Teams below each manager."""
REFERENCE_RENDERS = 15
"""Enough for a median; the loop's whole time is that times its length."""
ROUNDS = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teams", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    results = []
    for teams in options.teams:
        with tempfile.TemporaryDirectory(prefix="elf-bench-") as directory:
            results.append(measure(Path(directory), teams, options.rounds))
        print_table(results[-1])
    if options.file:
        options.file.write_text(json.dumps(results, indent=2) + "\n")


def measure(root: Path, teams: int, rounds: int) -> dict[str, Any]:
    write_organisation(root / "project", teams)
    project = root / "project"

    def forget() -> None:
        shutil.rmtree(project / "charts", ignore_errors=True)
        shutil.rmtree(root / "cache", ignore_errors=True)

    figures = {
        "cold": timed(lambda: elf_package(project), rounds, before=forget),
        # The first look after a change reads the youngest files; the second one is the usual one.
        "unchanged, first look": timed(lambda: elf_package(project), 1),
        "unchanged": timed(lambda: elf_package(project), max(rounds, 3)),
        "--check": timed(lambda: elf_package(project, "--check"), rounds),
        "one team changed": timed(lambda: elf_package(project), rounds, before=lambda: change_one_team(project)),
    }
    report = json.loads(elf_package(project, "--prove", "--json", "team-0"))
    return {
        "teams": teams,
        "environments": len(report["environments"]),
        "helm": report["helm"],
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "seconds": {what: seconds for what, (seconds, _) in figures.items()},
        "cpu_seconds": {what: cpu for what, (_, cpu) in figures.items()},
        "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        "reference": reference(project, teams, report["environments"]),
    }


def write_organisation(root: Path, teams: int) -> None:
    """A tree of teams, each with a model, variables and a secret."""
    for number in range(teams):
        children = [
            f"team-{child}" for child in range(number * FAN_OUT + 1, min(number * FAN_OUT + 1 + FAN_OUT, teams))
        ]
        data: dict[str, Any] = {
            "name": f"team-{number}",
            "display_name": f"Team {number}",
            "purpose": "Answers what it is asked.",
            "manages": children,
            "members": [{"role": "lead", "is_manager": True}, {"role": "writer"}],
            "env": [{"name": "TONE", "value": "dry"}],
            "secrets": [{"name": "CRM_KEY", "from": {"secret": "crm", "key": "api-key"}}],
        }
        if number:
            data["reports_to"] = f"team-{(number - 1) // FAN_OUT}"
        file = root / "teams" / f"team-{number}" / "team.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(data))


def change_one_team(root: Path) -> None:
    file = root / "teams" / "team-0" / "team.yaml"
    data = json.loads(file.read_text())
    data["purpose"] += "."
    file.write_text(json.dumps(data))


def elf_package(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "elf_sdk", "package", *arguments]
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1]),
        "ELF_CACHE_DIR": str(root.parent / "cache"),
    }
    return subprocess.run(command, cwd=root, env=environ, check=True, stdout=subprocess.PIPE, text=True).stdout


def timed(work: Callable[[], object], rounds: int, before: Callable[[], object] = lambda: None) -> tuple[float, float]:
    """Median seconds of `work`, each time after `before`, and of the CPU that its processes used."""
    seconds, cpu = [], []
    for _ in range(rounds):
        before()
        started, used = time.perf_counter(), children()
        work()
        seconds.append(time.perf_counter() - started)
        cpu.append(children() - used)
    return statistics.median(seconds), statistics.median(cpu)


def children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def reference(root: Path, teams: int, environments: list[str]) -> dict[str, Any]:
    """The loop over `helm`, measured on some of its environments; or why it could not run."""
    named = os.environ.get("ELF_TEST_HELM", "").rpartition(os.pathsep)[2]
    helm = shutil.which("helm") or named or None
    if helm is None:
        return {"reason": "there is no helm on the PATH"}
    version = subprocess.run(
        [helm, "version", "--template", "{{ .Version }}"], capture_output=True, text=True, check=False
    )
    if not fit(version.stdout):
        return {"reason": f"helm {version.stdout or 'without a version'} is older than 3.19"}
    renders = min(REFERENCE_RENDERS, teams * len(environments))
    seconds, cpu = [], []
    for number in range(renders):
        team, environment = f"team-{number % teams}", environments[number % len(environments)]
        values = ["-f", f"charts/{team}/values-{environment}.yaml"]
        started, used = time.perf_counter(), children()
        for command in (["lint", "--strict", f"charts/{team}"], ["template", team, f"charts/{team}"]):
            subprocess.run([helm, *command, *values], cwd=root, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
        cpu.append(children() - used)
    loop = teams * len(environments)
    return {
        "helm": version.stdout,
        "measured": renders,
        "loop": statistics.median(seconds) * loop,
        "cpu_loop": statistics.median(cpu) * loop,
    }


def print_table(result: dict[str, Any]) -> None:
    print(
        f"\n{result['teams']} teams x {result['environments']} environments, {result['cpus']} CPUs, load "
        f"{result['load']:.0f}, {result['helm']}, largest process {result['peak_mib']} MiB\n"
    )
    for what, seconds in result["seconds"].items():
        print(f"elf package, {what:22} {seconds:8.2f} s {result['cpu_seconds'][what]:8.2f} s of CPU")
    other = result["reference"]
    if "reason" in other:
        print(f"helm lint and template in a loop: could not run, {other['reason']}")
        return
    print(
        f"helm lint and template, a loop       {other['loop']:6.0f} s {other['cpu_loop']:8.0f} s of CPU, from "
        f"{other['measured']} environments; helm {other['helm']}, no schemas of Kubernetes, nothing written"
    )
    print(f"cold against the loop, by CPU: {other['cpu_loop'] / result['cpu_seconds']['cold']:.1f} x faster")


if __name__ == "__main__":
    main()

"""How long `elf package` takes, beside the loop that people write: `helm template` once for every team and environment.

python -m benchmarks.package [--teams 100] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
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
REFERENCE_RENDERS = 30
"""Enough for a median; the loop's whole time is that times its length."""
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teams", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="elf-bench-") as directory:
        result = measure(Path(directory), options.teams, options.rounds)
    print_table(result)
    if options.file:
        options.file.write_text(json.dumps(result, indent=2) + "\n")


def measure(root: Path, teams: int, rounds: int) -> dict[str, Any]:
    write_organisation(root, teams)
    cold = timed(lambda: elf_package(root), rounds, before=lambda: shutil.rmtree(root / "charts", ignore_errors=True))
    unchanged = timed(lambda: elf_package(root), rounds)
    check = timed(lambda: elf_package(root, "--check"), rounds)
    changed = timed(lambda: elf_package(root), rounds, before=lambda: change_one_team(root))
    report = json.loads(elf_package(root, "--prove", "--json", "team-0"))
    return {
        "teams": teams,
        "environments": len(report["environments"]),
        "helm": report["helm"],
        "cpus": os.cpu_count(),
        "seconds": {"cold": cold, "one team changed": changed, "unchanged": unchanged, "--check": check},
        "reference": reference(root, teams, report["environments"]),
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
    environ = {**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1])}
    return subprocess.run(command, cwd=root, env=environ, check=True, stdout=subprocess.PIPE, text=True).stdout


def timed(work: Callable[[], object], rounds: int, before: Callable[[], object] = lambda: None) -> float:
    """Median seconds of `work`, each time after `before`."""
    seconds = []
    for _ in range(rounds):
        before()
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def reference(root: Path, teams: int, environments: list[str]) -> dict[str, Any]:
    """The loop over `helm template`, measured on some of its renders; or why it could not run."""
    helm = shutil.which("helm")
    if helm is None:
        return {"reason": "there is no helm on the PATH"}
    version = subprocess.run(
        [helm, "version", "--template", "{{ .Version }}"], capture_output=True, text=True, check=False
    )
    if not fit(version.stdout):
        return {"reason": f"helm {version.stdout or 'without a version'} is older than 3.19"}
    renders = min(REFERENCE_RENDERS, teams * len(environments))
    seconds = []
    for number in range(renders):
        team, environment = f"team-{number % teams}", environments[number % len(environments)]
        command = [helm, "template", team, f"charts/{team}", "-f", f"charts/{team}/values-{environment}.yaml"]
        started = time.perf_counter()
        subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    return {"helm": version.stdout, "render": median, "loop": median * teams * len(environments), "measured": renders}


def print_table(result: dict[str, Any]) -> None:
    renders = result["teams"] * result["environments"]
    print(f"{result['teams']} teams x {result['environments']} environments, {result['cpus']} CPUs, {result['helm']}\n")
    for what, seconds in result["seconds"].items():
        print(f"elf package, {what:18} {seconds:8.2f} s")
    other = result["reference"]
    if "reason" in other:
        print(f"helm template in a loop: could not run, {other['reason']}")
        return
    print(
        f"helm template in a loop        {other['loop']:8.2f} s   {renders} x {other['render'] * 1000:.0f} ms, "
        f"median of {other['measured']}; helm {other['helm']}, no lint, no schemas, nothing written"
    )
    print(f"\ncold against the loop: {other['loop'] / result['seconds']['cold']:.1f} x faster")


if __name__ == "__main__":
    main()

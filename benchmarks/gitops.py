"""How long `elf gitops` takes for a large organisation, how large the repository becomes, and what is lost in races.

python -m benchmarks.gitops [--teams 1000] [--pairs 50] [--json FILE]
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
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import elf_sdk
from benchmarks.package import change_one_team, write_organisation

ROUNDS = 3
TEAMS_OF_PUSHERS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teams", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="elf-bench-") as directory:
        result = {
            **measure(Path(directory) / "large", options.teams, options.rounds),
            "pushers": push_in_pairs(Path(directory) / "pairs", options.pairs),
        }
    print_table(result)
    if options.file:
        options.file.write_text(json.dumps(result, indent=2) + "\n")


class Place:
    """A project with a GitOps repository of its own, and a cache that nobody else uses."""

    def __init__(self, root: Path, remote: Path, cache: Path) -> None:
        self.root, self.remote = root, remote
        config = cache.parent / "gitconfig"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text("[user]\n\tname = bench\n\temail = bench@example.com\n")
        self._environ = {
            **os.environ,
            "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1]),
            "ELF_CACHE_DIR": str(cache),
            "GITOPS_REPO_URL": remote.as_uri(),
            "GIT_CONFIG_GLOBAL": str(config),
        }

    def elf(self, *arguments: str) -> str:
        """What the command says."""
        command = [sys.executable, "-m", "elf_sdk", *arguments]
        done = subprocess.run(command, cwd=self.root, env=self._environ, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def git(self, *arguments: str) -> str:
        """What git says in the clone."""
        command = ["git", "-C", str(self.root / "gitops"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def bare(directory: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", directory], check=True)
    return directory


def timed(work: Callable[[], object], rounds: int, before: Callable[[], object] = lambda: None) -> dict[str, float]:
    """Median seconds, and median processor seconds of it and of the programs it started."""
    seconds, cpu = [], []
    for _ in range(rounds):
        before()
        used, started = _cpu(), time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
        cpu.append(_cpu() - used)
    return {"seconds": statistics.median(seconds), "cpu": statistics.median(cpu)}


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(root: Path, teams: int, rounds: int) -> dict[str, Any]:
    project = root / "project"
    write_organisation(project, teams)
    place = Place(project, root / "remote.git", root / "cache")
    place.elf("package")  # whose proofs are shared

    def start() -> None:
        shutil.rmtree(project / "gitops", ignore_errors=True)
        shutil.rmtree(place.remote, ignore_errors=True)
        bare(place.remote)

    rows = {"write, all environments": timed(lambda: place.elf("gitops", "write", "--all-environments"), rounds, start)}
    rows["commit"] = timed(lambda: place.elf("gitops", "commit"), 1)
    rows["push"] = timed(lambda: place.elf("gitops", "push"), 1)
    rows["write, unchanged"] = timed(lambda: place.elf("gitops", "write"), rounds)
    rows["write, one team changed"] = timed(
        lambda: place.elf("gitops", "write"), rounds, lambda: change_one_team(project)
    )
    rows["commit, one team changed"] = timed(lambda: place.elf("gitops", "commit"), 1)
    return {"teams": teams, "cpus": os.cpu_count(), "rows": rows, "repository": repository(place)}


def repository(place: Place) -> dict[str, Any]:
    """What the generated repository is like."""
    listed = [line.split() for line in place.git("ls-tree", "-r", "-l", "HEAD").splitlines()]
    libraries = Counter(entry[2] for entry in listed if entry[4].endswith(".tgz"))
    subprocess.run(["git", "-C", place.remote, "gc", "--quiet"], check=True)
    pack = sum(file.stat().st_size for file in (place.remote / "objects/pack").glob("*.pack"))
    return {
        "files": len(listed),
        "megabytes checked out": round(sum(int(entry[3]) for entry in listed) / 1e6, 1),
        "megabytes in git": round(pack / 1e6, 1),
        "blobs": len({entry[2] for entry in listed}),
        "vendored libraries": sum(libraries.values()),
        "blobs of vendored libraries": len(libraries),
    }


def push_in_pairs(root: Path, pairs: int) -> dict[str, Any]:
    """Two who push at the same moment, again and again: is every commit there in the end?"""
    remote = bare_in(root)
    pushers = [Place(root / name, remote, root / f"cache-{name}") for name in ("one", "two")]
    for pusher in pushers:
        write_organisation(pusher.root, TEAMS_OF_PUSHERS)
    pushers[0].elf("gitops", "write")
    pushers[0].elf("gitops", "commit")
    pushers[0].elf("gitops", "push")
    attempts: list[int] = []

    def once(number: int, turn: int) -> int:
        pusher, team = pushers[number], f"team-{number + 1}"
        file = pusher.root / "teams" / team / "team.yaml"
        data = json.loads(file.read_text())
        file.write_text(json.dumps({**data, "version": f"1.{turn}.0"}))
        pusher.elf("gitops", "write", team)
        pusher.elf("gitops", "commit")
        return int(json.loads(pusher.elf("gitops", "push", "--json"))["attempts"])

    with ThreadPoolExecutor(2) as pool:
        for turn in range(pairs):
            attempts += [done.result() for done in [pool.submit(once, number, turn) for number in range(2)]]
    said = subprocess.run(
        ["git", "-C", remote, "log", "--format=%s", "main"], check=True, capture_output=True, text=True
    )
    titles = Counter(said.stdout.splitlines())
    wanted = [f"Move team-{number + 1} to 1.{turn}.0 in dev" for number in range(2) for turn in range(pairs)]
    lost = [title for title in wanted if titles[title] != 1]
    return {"pairs": pairs, "commits": len(wanted), "lost": len(lost), "most attempts": max(attempts, default=0)}


def bare_in(root: Path) -> Path:
    root.mkdir(parents=True)
    return bare(root / "remote.git")


def print_table(result: dict[str, Any]) -> None:
    print(f"{result['teams']} teams x 3 environments, {result['cpus']} CPUs, charts packaged before\n")
    for what, row in result["rows"].items():
        print(f"elf gitops {what:26} {row['seconds']:8.2f} s   {row['cpu']:7.2f} s of processor time")
    print()
    for what, number in result["repository"].items():
        print(f"{what:32} {number:>10}")
    pushers = result["pushers"]
    print(
        f"\n{pushers['pairs']} pairs of pushers: {pushers['commits']} commits, {pushers['lost']} lost; "
        f"at most {pushers['most attempts']} attempts"
    )


if __name__ == "__main__":
    main()

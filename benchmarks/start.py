"""How long a team takes from the start of its process to its first 200 of `/readyz`, and what it holds in memory then.

    python -m benchmarks.start [--rounds 7] [--json FILE]

A team with the function adapter (the engineering team of the examples, whose offline model starts too) beside a
minimal server of the A2A SDK, which is ready with the first 200 of its card; and `elf --help` beside importing click.
One process at a time, all of them in turn, round after round; the tables show medians. A round before the first fills
the caches of files and bytecode and makes the databases, which are there at every later start. PostgreSQL is the
system's, in a directory of its own; without one its row says so.

The last rows are what a start cannot do without: an interpreter that does nothing, and one that imports the libraries
which a team is written on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.postgres import INSTALL, binaries, running

ROOT = Path(__file__).parents[1]
TEAM = ROOT / "teams" / "engineering-team"
PYTHON = sys.executable
ELF = str(Path(PYTHON).with_name("elf"))
READY = "/readyz"
CARD = "/.well-known/agent-card.json"
PATIENCE = 60.0
"""Seconds for a server to become ready."""
LOOK = 0.001
"""Seconds between two looks at whether it listens."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server to start.

    Attributes:
        command: starts it; the port follows.
        path: what answers with 200 when it is ready.
        directory: to start it in.
        environ: beside a path to the programs, all that it is told.
    """

    command: Sequence[str]
    path: str = READY
    directory: Path = TEAM
    environ: Mapping[str, str] = field(default_factory=dict)


class Round(NamedTuple):
    """What one start showed.

    Attributes:
        seconds: from the start of the process until it was ready, or until it ended.
        cpu: seconds of CPU time until then.
        megabytes: resident then; not a number for what ran to its end.
    """

    seconds: float
    cpu: float
    megabytes: float


def start(server: Server) -> Round:
    """Start a server, wait until it is ready, and stop it again."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {"PATH": os.environ["PATH"], **server.environ}
    command = [*server.command, "--port", str(port)]
    begin = time.perf_counter()
    with subprocess.Popen(
        command, cwd=server.directory, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            while not answers(port, server.path):
                if process.poll() is not None or time.perf_counter() > begin + PATIENCE:
                    process.kill()
                    raise SystemExit(f"{' '.join(command)} did not become ready:\n{process.communicate()[0]}")
                time.sleep(LOOK)
            seconds = time.perf_counter() - begin
            return Round(seconds, *spent(process.pid))
        finally:
            process.terminate()


def answers(port: int, path: str) -> bool:
    """Whether a server on this machine answers with 200. One that listens and does not serve yet is waited for."""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return connection.recv(64).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def spent(pid: int) -> tuple[float, float]:
    """CPU seconds of a process so far, and MB that are resident; not numbers where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return float("nan"), float("nan")
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def whole(command: Sequence[str]) -> Round:
    """Run a command to its end."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return Round(seconds, usage.ru_utime + usage.ru_stime, math.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    uvicorn = [PYTHON, "-m", "uvicorn", "--log-level", "warning"]
    commands = {
        "elf --help": [ELF, "--help"],
        "python -c 'import click'": [PYTHON, "-c", "import click"],
        "python -c pass": [PYTHON, "-c", "pass"],
        "… import starlette, uvicorn, pydantic": [
            PYTHON,
            "-c",
            "import starlette.applications, uvicorn.server, pydantic.main",
        ],
    }
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elf-bench-")))
        environ = {"JWT_SECRET_KEY": secrets.token_hex(32), "ELF_STORE": str(directory / "elf.db")}
        servers = {
            "a2a-sdk minimal": Server([*uvicorn, "benchmarks.a2a_minimal:app"], CARD, ROOT),
            "elf serve, SQLite": Server([ELF, "serve"], environ=environ),
            "uvicorn team:app, SQLite": Server([*uvicorn, "team:app"], environ=environ),
        }
        programs = binaries()
        if programs is None:
            print(f"postgres: {INSTALL}")
        else:
            database = stack.enter_context(running(programs))
            url = database.url(database.database())
            servers["elf serve, PostgreSQL"] = Server([ELF, "serve"], environ={**environ, "ELF_DATABASE_URL": url})
        rounds: dict[str, list[Round]] = {name: [] for name in (*servers, *commands)}
        for number in range(options.rounds + 1):
            print(f"round {number}/{options.rounds} …", file=sys.stderr)
            for name, server in servers.items():
                rounds[name].append(start(server))
            for name, command in commands.items():
                rounds[name].append(whole(command))
    middle = {name: Round(*map(statistics.median, zip(*found[1:], strict=True))) for name, found in rounds.items()}
    print_table("from start to ready", {name: middle[name] for name in servers}, "a2a-sdk minimal")
    print_table("\nfrom start to end", {name: middle[name] for name in commands}, "python -c 'import click'")
    if options.json:
        figures = {
            name: {
                "seconds": row.seconds,
                "cpu_seconds": row.cpu,
                "megabytes": row.megabytes if name in servers else None,
            }
            for name, row in middle.items()
        }
        result = {"rounds": options.rounds, "cpus": os.cpu_count(), "start": figures}
        options.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def print_table(title: str, rows: Mapping[str, Round], reference: str) -> None:
    print(f"{title:<42}{'seconds':>9}{'of ref.':>9}{'CPU s':>9}{'of ref.':>9}{'MB':>7}")
    other = rows[reference]
    for name, row in rows.items():
        ratios = row.seconds / other.seconds, row.cpu / other.cpu
        memory = "" if math.isnan(row.megabytes) else f"{row.megabytes:>7.0f}"
        print(f"{name:<42}{row.seconds:>9.3f}{ratios[0]:>9.2f}{row.cpu:>9.3f}{ratios[1]:>9.2f}{memory}")


if __name__ == "__main__":
    main()

"""Run the A2A TCK against replicas of the test team, and say what came out."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.suites.replicas import replicas

__all__ = ["Outcome", "run"]

BINDINGS = "jsonrpc,http_json"


@dataclass(frozen=True)
class Outcome:
    """What a run of the suite said.

    Attributes:
        database: `sqlite` or `postgresql`.
        replicas: how many served.
        counts: tests by outcome.
        failed: each test that failed or was expected to, and the first line of why.
        skipped: the same for those that did not run, but for other bindings.
    """

    database: str
    replicas: int
    counts: dict[str, int]
    failed: dict[str, str]
    skipped: dict[str, str]

    def __str__(self) -> str:
        counted = ", ".join(f"{number} {name}" for name, number in sorted(self.counts.items()))
        return f"{self.database}, {self.replicas} replica(s): {counted}"


def run(
    suite: Path,
    database_url: str = "",
    number: int = 1,
    *,
    compatible: bool = False,
    stream: bool = True,
    bindings: str = BINDINGS,
    arguments: tuple[str, ...] = (),
) -> Outcome:
    """Serve the team and run the suite against it.

    Args:
        suite: its directory.
        database_url: a PostgreSQL whose tables are there; empty for a SQLite file that is made and thrown away.
        number: of replicas.
        compatible: whether clients of 0.3 are answered too, whose fields in the card the suite's schema does not know.
        stream: whether the team streams.
        bindings: which of them are tested, as the suite names them.
        arguments: for the suite's pytest.
    """
    with tempfile.TemporaryDirectory(prefix="elf-tck-") as directory:
        environment = {
            "ELF_STORE": f"{directory}/elf.db",
            "ELF_DATABASE_URL": database_url,
            "TCK_STREAM": "on" if stream else "off",
            "ELF_A2A_COMPAT": "on" if compatible else "off",
            # It sends one message over and over under one id, and means another each time.
            "ELF_A2A_IDEMPOTENCY": "extension",
            # Where it names receivers, and where it listens itself.
            "ELF_PUSH_ALLOW": "example.com,http://127.0.0.1,http://localhost",
            "JWT_SECRET_KEY": secrets.token_hex(32),
            "ELF_LOG_LEVEL": "warning",
        }
        if "grpc" in bindings:
            environment["ELF_GRPC_PORT"] = "0"
        report = Path(directory) / "junit.xml"
        asyncio.run(_run(suite, number, environment, report, bindings, arguments))
        return _outcome(suite, "postgresql" if database_url else "sqlite", number, report, bindings)


async def _run(
    suite: Path, number: int, environment: dict[str, str], report: Path, bindings: str, arguments: tuple[str, ...]
) -> None:
    async with replicas("tests.suites.tck_team", number, environment) as url:
        process = await asyncio.create_subprocess_exec(
            str(suite / ".venv" / "bin" / "python"),
            *("run_tck.py", "--sut-host", url, "--transport", bindings),
            *("--", f"--junitxml={report}", "-p", "no:cacheprovider", *arguments),
            cwd=suite,
            stdout=asyncio.subprocess.DEVNULL,
        )
        await process.wait()


def _outcome(suite: Path, database: str, number: int, report: Path, bindings: str) -> Outcome:
    counts: Counter[str] = Counter()
    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for name, outcome, why in _results(report):
        counts[outcome] += 1
        if outcome in ("failed", "xfailed"):
            failed[name] = why
        elif outcome == "skipped" and (bindings == "grpc" or "grpc" not in name.lower()):
            skipped[name] = why
    return Outcome(database, number, dict(sorted(counts.items())), failed, skipped)


def _results(report: Path) -> Iterator[tuple[str, str, str]]:
    """Name, outcome and reason of each test, from pytest's JUnit file."""
    # Written by the suite's own pytest, which runs here with the same rights.
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        for kind in ("failure", "error", "skipped"):
            if (found := case.find(kind)) is not None:
                why = (found.get("message") or found.text or "").strip().splitlines()
                expected = found.get("type") == "pytest.xfail"
                yield name, "xfailed" if expected else "skipped" if kind == "skipped" else "failed", (why or [""])[0]
                break
        else:
            yield name, "passed", ""

"""A PostgreSQL of the system's packages for tests: in a directory of its own, on a socket in it, gone afterwards."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from elf_sdk.store.migrate import migrate

__all__ = ["INSTALL", "Server", "binaries", "running", "unprivileged"]

INSTALL = "there is no PostgreSQL here; install it: apt-get install postgresql (or brew install postgresql)"


def binaries() -> Path | None:
    """Where `initdb` and `postgres` are: on the PATH, or where Debian keeps the newest."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    return debian[-1].parent if debian else None


class Server:
    """One server; `start` and `stop` may be called over and over."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        # The server refuses to run as root.
        self._user = unprivileged() if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(directory, self._user.pw_uid, self._user.pw_gid)
        done = self._popen("initdb", "-D", "data", "-U", "elf", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        assert done.wait() == 0, (directory / "log").read_text()

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        user = self._user
        with (self._directory / "log").open("ab") as log:
            return subprocess.Popen(
                [self._programs / program, *arguments],
                cwd=self._directory,
                stdout=log,
                stderr=log,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
            )

    def url(self, database: str = "postgres", **parameters: str) -> str:
        """The address of a database."""
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        return f"postgresql://elf@/{database}?host={self._directory}{more}"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._directory / ".s.PGSQL.5432"

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._process = self._popen(
            "postgres", "-D", "data", "-k", str(self._directory), "-c", "listen_addresses=", "-c", "shared_buffers=32MB"
        )
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._directory / "log").read_text()
                assert time.monotonic() < until, (self._directory / "log").read_text()
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop; by default at once, as if the machine had lost its power."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def crash(self) -> None:
        """Kill all its processes at once, as a machine without memory does."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        for each in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as the superuser."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def make_template(self) -> None:
        """Make the database of which each test gets a copy."""
        self.execute("CREATE DATABASE elf_template")
        migrate(self.url("elf_template"))

    def database(self, template: str = "elf_template") -> str:
        """The name of a new database. It goes with the server: to drop one costs a checkpoint."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name


@contextmanager
def running(programs: Path) -> Generator[Server, None, None]:
    """A server with a template, for as long as the block runs."""
    # Not below pytest's own directory, which only its user may enter; and a socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="elf-pg-") as directory:
        server = Server(programs, Path(directory))
        try:
            server.start()
            server.make_template()
            yield server
        finally:
            server.stop()


def unprivileged() -> pwd.struct_passwd:
    """Who may run a server that refuses root."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")

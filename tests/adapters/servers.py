"""MCP servers that run for a test, and what is left of them afterwards."""

import contextlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from elf_sdk.runs.adapter import RunContext
from elf_sdk.team.spec import TeamSpec

SERVER = str(Path(__file__).with_name("mcp_server.py"))


@dataclass(frozen=True)
class Server:
    """One of `mcp:` in a spec, and a word that stands in the command line of each of its processes."""

    entry: dict[str, Any]
    mark: str

    def but(self, **fields: Any) -> "Server":
        return replace(self, entry={**self.entry, **fields})


def program(name: str = "shop", **fields: Any) -> Server:
    """A server over stdio, which each run starts."""
    mark = uuid.uuid4().hex
    return Server({"name": name, "command": [sys.executable, SERVER, "stdio", mark], **fields}, mark)


@contextlib.contextmanager
def website(name: str = "shop", *words: str, **fields: Any) -> Iterator[Server]:
    """A server over streamable HTTP, on a free port."""
    mark = uuid.uuid4().hex
    command = [sys.executable, SERVER, "http", mark, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            yield Server({"name": name, "url": f"http://127.0.0.1:{port}/mcp", **fields}, mark)
        finally:
            process.kill()


def having(ctx: RunContext, *servers: Server) -> RunContext:
    """The same run, of a team with these servers."""
    entries = [server.entry for server in servers]
    return replace(ctx, spec=TeamSpec.model_validate({**ctx.spec.model_dump(exclude_unset=True), "mcp": entries}))


def alive(mark: str) -> list[int]:
    """The processes whose command line holds `mark`; zombies are dead."""
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            if mark.encode() in (directory / "cmdline").read_bytes() and is_alive(int(directory.name)):
                found.append(int(directory.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"

"""The demonstration: package the example organisation for three environments, serve it, and have one conversation.

Called by scripts/demo, which has installed what this needs.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ELF = [sys.executable, "-m", "elf_sdk"]
TEAM = "executive-team"
REQUEST = "We launch our desk lamp in March. Please have marketing prepare the launch campaign."


def main() -> int:
    """Run the demonstration; the exit code of the first step that failed, or 0."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Package and serve the example organisation.")
    parser.add_argument("--once", action="store_true", help="have one conversation with a delegation, then stop")
    parser.add_argument("--output", type=Path, default=ROOT / "charts", help="where the charts go (default: charts/)")
    options = parser.parse_args()
    heading(1, "Package the example organisation for dev, staging and prod")
    packaged = subprocess.run(
        [*ELF, "package", "--output", str(options.output.absolute())], cwd=ROOT, check=False
    ).returncode
    if packaged:
        return packaged
    if not options.once:
        heading(2, "Serve it")
        server = subprocess.Popen([*ELF, "dev"], cwd=ROOT)
        while True:
            # Ctrl-C reaches the server too, which stops in good order.
            with suppress(KeyboardInterrupt):
                return server.wait()
    heading(2, "Serve it, and talk to the executive team")
    with tempfile.TemporaryDirectory(prefix="elf-demo-") as place:
        # A store of its own, so that this also works beside a demo that goes on serving.
        environment = {"ELF_STORE": f"{place}/elf.db", "CREWAI_STORAGE_DIR": f"{place}/crewai", **os.environ}
        with served(environment) as address:
            url = f"{address}/teams/{TEAM}"
            talk = [*ELF, "talk", TEAM, "--url", url, "--user", "ada", "--say", REQUEST, "--confirm"]
            talked = subprocess.run(talk, cwd=ROOT, env=environment, check=False, timeout=120).returncode
    if not talked:
        print("\nscripts/demo, without --once, goes on serving: then talk to the teams yourself.")
    return talked


def heading(number: int, text: str) -> None:
    """Announce a step."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{number}. {text}{plain}\n", flush=True)


@contextmanager
def served(environment: Mapping[str, str]) -> Iterator[str]:
    """`elf dev` on a free port, for as long as the block runs; its address."""
    print("   loading the frameworks …", flush=True)
    command = [*ELF, "dev", "--port", "0", "--no-reload"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield address_of(server)
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def address_of(server: subprocess.Popen[str]) -> str:
    """The address that the server prints once it serves."""
    started = time.monotonic()
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"http://[\d.]+:\d+", line):
            print(f"   {line.strip()} after {time.monotonic() - started:.1f} s\n", flush=True)
            return found[0]
    raise SystemExit("the server stopped before it served; its message is above")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

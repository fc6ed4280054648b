"""Write requirements/image.txt: what a team's image holds, and which extras want each package.

Called by scripts/lock, once requirements/dev.txt is written.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALL = ROOT / "requirements" / "dev.txt"
EXTRAS = ("crewai", "grpc", "langgraph", "mcp", "otel", "postgres")
"""Those that a running team may need; `tools` and `control-center` are for people and for another process."""

PACKAGE = re.compile(r"^(\S+==[^ \\]+)(?: ; ([^\\\n]+?))? \\\n((?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE)


def main() -> None:
    """Resolve each extra by itself, with the versions of requirements/dev.txt, and write what they are together."""
    hashes: dict[str, str] = {}
    wanted: dict[str, dict[str, str]] = {}
    for extra in ("core", *EXTRAS):
        for pin, marker, lines in PACKAGE.findall(resolve(extra)):
            hashes[pin] = lines
            wanted.setdefault(pin, {})[extra] = marker
    everywhere = {pin: marker for pin, marker, _ in PACKAGE.findall(ALL.read_text(encoding="utf-8"))}
    parts = []
    for pin in sorted(hashes):
        markers = wanted[pin]
        alike = len(set(markers.values())) == 1
        # What core wants, everybody wants; unless an extra wants it in more places.
        names = ["core"] if "core" in markers and (alike or not markers["core"]) else sorted(markers)
        marker = next(iter(markers.values())) if alike else everywhere[pin]
        parts.append(f"{pin}{f' ; {marker}' if marker else ''} \\\n{hashes[pin]}    # {' '.join(names)}\n")
    (ROOT / "requirements" / "image.txt").write_text("".join(parts), encoding="utf-8")


def resolve(extra: str) -> str:
    """The packages of elf-sdk, or of elf-sdk with one extra, with hashes."""
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--constraints", "requirements/dev.txt", "pyproject.toml"]
    command += [] if extra == "core" else ["--extra", extra]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()

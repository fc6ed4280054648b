"""scripts/demo --once, as a newcomer sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.examples.support import ROOT, TEAMS, environment


def test_one_conversation_ends_in_a_confirmed_delegation_and_its_result(tmp_path: Path) -> None:
    charts = tmp_path / "charts"
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), "--once", "--output", str(charts)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(tmp_path, COLUMNS="80"),
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert all((charts / team / "Chart.yaml").is_file() for team in TEAMS)

    seen = done.stdout
    in_order = [
        "1. Package the example organisation for dev, staging and prod",
        "✓ 4 charts in ",
        "proven for dev, staging and prod by embedded Helm",
        "2. Serve it, and talk to the executive team",
        "serves Lumen Works on http://127.0.0.1:",
        "Executive Team · Chief Executive Officer",
        "you > We launch our desk lamp in March.",
        "  · the Chief Marketing Officer: The market's side",
        "Nothing has\nbeen sent yet: look at the preview",
        "  ┌ Delegation to Marketing Team",
        "  │ title      Launch campaign for the desk lamp",
        "  │ judged by  2,000 pre-orders by the day of the launch",
        "  │ route      executive-team → marketing-team",
        "  └",
        "  confirmed by ada",
        "  · marketing-team: copywriter",
        "  │ Campaign brief: the desk lamp, launch in March",
        "  │ The one message. Your evening, in better light.",
        "  └ marketing-team: finished",
        "session ended: 1 message, 1 delegation confirmed",
    ]
    place = 0
    for text in in_order:
        found = seen.find(text, place)
        assert found >= 0, f"{text!r} is not there, or not in its place:\n{seen}"
        place = found + len(text)
    conversation = seen[seen.index("Executive Team ·") :]
    assert max(len(line) for line in conversation.splitlines()) <= 80
    assert "\n\n\n" not in conversation
    assert "**" not in conversation
    assert "\x1b" not in seen

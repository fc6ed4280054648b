"""Chat from outside the cluster, over each way in that the cluster has."""

from __future__ import annotations

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.sync.client import connect

from tests.e2e.cluster import until
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import SANDBOX, host_of
from tests.e2e.ways import WAYS, Ways

IDLE = float(os.environ.get("ELF_E2E_IDLE_SECONDS", "75"))
"""More than the minute after which nginx ends a silent connection, unless told otherwise."""

# All ways are silent at the same time; beside that, teams are installed.
pytestmark = pytest.mark.timeout(IDLE + 900)


@pytest.fixture(scope="module")
def reached(ways: Ways, deployed: Deployed, sandbox: Path, figures: Figures) -> Ways:
    """The ways in, with teams behind them; a cluster without any has nothing to show here."""
    for way in WAYS:
        if way not in ways.teams:
            figures.left_out[f"chat over {way}"] = "the cluster has none"
    if not ways.url:
        pytest.skip("the cluster has no way in that answers from here")
    deployed.company.elf_in(sandbox, "deploy", SANDBOX, *ways.teams.values(), timeout=400)
    for way, team in ways.teams.items():
        # A controller follows what the API server has a moment later.
        until(f"answer of {team} over {way}", partial(_answers, ways.url, team), 30)
    return ways


def test_a_chat_over_each_way_in_is_held_open_in_silence_and_still_answers(
    reached: Ways, deployed: Deployed, figures: Figures
) -> None:
    with ThreadPoolExecutor() as pool:
        talks = {way: pool.submit(_talk, reached.url, deployed, team) for way, team in reached.teams.items()}
    for way, talk in talks.items():
        figures.add(f"chat over {way}, silent in between", f"{talk.result():.0f} s, not cut", "not cut")


def _answers(url: str, team: str) -> bool:
    return httpx.get(f"{url}/livez", headers={"Host": host_of(team)}, timeout=10).status_code == httpx.codes.OK


def _talk(url: str, deployed: Deployed, team: str) -> float:
    """The seconds of silence after which a chat still answers."""
    token = deployed.token(SANDBOX, team)
    headers = {"Authorization": f"Bearer {token}"}
    line = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=10)
    # No pings of ours: what keeps the connection is what the server does by itself.
    with connect(f"ws://{host_of(team)}/chat", sock=line, additional_headers=headers, ping_interval=None) as talk:
        assert json.loads(talk.recv(20))["type"] == "greeting"
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            talk.recv(IDLE)
        silent = time.monotonic() - began
        talk.send(json.dumps({"type": "message", "text": "Hello. What can you do?"}))
        while not json.loads(talk.recv(60)).get("done"):
            pass
    return silent

"""One message several times at once, one event that the database refuses, and clients that do not read."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.faults.client import Caller, Ledger, load
from tests.faults.replicas import serving, user_token
from tests.faults.verdict import judge
from tests.postgres import Server

pytestmark = pytest.mark.timeout(120)


async def test_each_message_sent_three_times_at_once_is_one_run_with_one_effect(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, database, recover=False) as site, AsyncExitStack() as stack:
        ledger = Ledger()
        callers = [await stack.enter_async_context(Caller(site.urls, user_token(), seed=number)) for number in range(3)]
        for batch in range(10):
            tolds = [ledger.open("ask" if number % 2 else "steps 1 0.05") for number in range(12)]
            ways: list[Callable[..., Awaitable[None]]] = [callers[0].send, callers[1].follow, callers[2].send]
            await asyncio.gather(
                *(way(told, url=site.urls[(place + batch) % 2]) for told in tolds for place, way in enumerate(ways))
            )
            asked = [told for told in tolds if told.text == "ask"]
            await asyncio.gather(*(caller.answer(told, "this one") for told in asked for caller in callers))
        effects = len(site.effects.read_text().splitlines())
        verdict = await judge(database, ledger, site.effects, recover=False)
    verdict.check()
    assert verdict.ends == {"finished": 120}
    assert (effects, verdict.repeated) == (120, 0)


async def test_one_event_that_the_database_refuses_fails_its_own_run_alone(tmp_path: Path, postgres: Server) -> None:
    name = postgres.database()
    postgres.execute("ALTER TABLE events ADD CHECK (data NOT LIKE '%poison%')", name)
    async with serving(tmp_path, postgres.url(name), recover=False) as site:
        ledger = Ledger()
        async with Caller(site.urls[:1], user_token(), seed=1, timeout=30) as caller:
            good = [ledger.open(f"steps 1 0.0{number % 10}") for number in range(99)]
            other = Ledger()
            bad = other.open("poison")
            await asyncio.gather(*(caller.follow(told) for told in [*good[:50], bad, *good[50:]]))
            assert bad.state == "TASK_STATE_FAILED"
            assert bad.status["message"]["metadata"]["code"] == "internal"
            # And everything goes on.
            more = ledger.open("steps 1 0")
            await caller.follow(more)
        verdict = await judge(site.database, ledger, site.effects, recover=False)
    verdict.lost = [line for line in verdict.lost if "(poison)" not in line]
    verdict.check()
    assert all(told.state == "TASK_STATE_COMPLETED" for told in ledger.told)
    assert verdict.ends == {"finished": 100, "internal": 1}


async def test_clients_that_do_not_read_cost_a_bounded_memory_and_hold_up_nobody(tmp_path: Path, database: str) -> None:
    events, characters, deaf = 10_000, 1000, 40
    async with serving(tmp_path, database, recover=False) as site:
        url = site.urls[0]
        ledger = Ledger()
        async with Caller([url], user_token(), seed=1, timeout=30) as caller:
            warm = ledger.open("flood 200 1000")
            await caller.follow(warm)
            before = site.replicas[0].resident
            # They are there before it begins: who comes later is told first, in one piece, what was said already.
            told = ledger.open(f"flood {events // 2} {characters} 2")
            await caller.send(told, wait=False)
            sockets = [_subscribe(url, told.task) for _ in range(deaf)]
            try:
                # Others are served meanwhile.
                async with load(site.urls[:1], user_token(), seed=81, clients=3, kinds=["unary"]) as others:
                    began = time.monotonic()
                    waits = [await caller.probe(url)]
                    await caller.get(told)
                    while not told.ended:
                        waits.append(await caller.probe(url))
                        await asyncio.sleep(0.5)
                        told.seen.clear()
                        await caller.get(told)
                    took = time.monotonic() - began
                grown = site.replicas[0].resident - before
                print(  # noqa: T201 - for a person who looks
                    f"{events:,} events in {took:.1f} s, {deaf} deaf clients: {grown / 1e6:.0f} MB more, "
                    f"{len(others.told)} other messages meanwhile, the slowest probe {max(waits) * 1000:.0f} ms"
                )
                assert all(other.state == "TASK_STATE_COMPLETED" for other in others.told)
                # What all of them have not read would be 530 MB.
                assert grown < 100_000_000
                # One of them reads at last, and gets everything.
                text = await asyncio.to_thread(_read_all, sockets[0])
            finally:
                for each in sockets:
                    each.close()
    assert text == "x" * (events // 2 * characters)


def _subscribe(url: str, task: str) -> socket.socket:
    """A subscription whose answer nobody reads."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.socket()
    # Little that the system keeps for it, so that it is the server that has to wait.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": task}}).encode()
    head = (
        f"POST /a2a/v1 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {user_token()}\r\nA2A-Version: 1.0\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def _read_all(connection: socket.socket) -> str:
    """The text of the answer in a stream, read to its end."""
    connection.settimeout(30)
    received = bytearray()
    while data := connection.recv(1 << 20):
        received += data
    text = ""
    for line in received.decode().splitlines():
        if not line.startswith("data: "):
            continue
        item = json.loads(line[6:])["result"]
        for artifact in item.get("task", {}).get("artifacts", []):
            text = artifact["parts"][0]["text"]
        if "artifactUpdate" in item:
            piece = item["artifactUpdate"]["artifact"]["parts"][0]["text"]
            text = text + piece if item["artifactUpdate"].get("append") else piece
    return text

"""A graph whose process is killed with SIGKILL goes on in another one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psycopg
import pytest

from tests.faults.client import Caller, Ledger, Told
from tests.faults.graph import write_graph
from tests.faults.replicas import Site, serving, until, user_token

pytestmark = pytest.mark.timeout(120)

WHOLE = "one begins\n\none ends.\n\ntwo begins\n\ntwo ends.\n\nthree begins\n\nthree ends."


def ran(site: Site) -> Counter[str]:
    """How often each node has run, in all processes."""
    return Counter(line.split()[0] for line in site.effects.read_text().splitlines())


def answer(told: Told) -> str:
    text: str = told.seen[-1][-1]["task"]["artifacts"][0]["parts"][0]["text"]
    return text


def has_said(database: str, text: str) -> bool:
    """Whether this is in the log of a run."""
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT 1 FROM events WHERE kind = 'text_delta' AND data LIKE %s", (f"%{text}%",))
        return found.fetchone() is not None


async def test_only_the_node_that_was_killed_runs_again_and_the_answer_is_whole(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, database, recover=True, write=write_graph) as site:
        first, second = site.replicas
        async with Caller(site.urls, user_token(), seed=1) as caller:
            told = Ledger().open("go")
            await caller.send(told, wait=False, url=first.url)
            await until(lambda: has_said(database, "two begins"))
            first.kill()
            await caller.follow(told, url=second.url)
            assert told.state == "TASK_STATE_COMPLETED"
            await caller.get(told, url=second.url)
        assert ran(site) == {"one": 1, "two": 2, "three": 1}
        assert answer(told) == WHOLE
        with psycopg.connect(database) as connection:
            kinds = [kind for (kind,) in connection.execute("SELECT kind FROM events ORDER BY seq")]
            left = connection.execute("SELECT COUNT(*) FROM checkpoints").fetchone()
        assert kinds.count("rewound") == 1
        assert kinds.count("finished") == 1
        assert left == (0,)
        # Who followed it was told to forget what node two had said: its answer began anew.
        pieces = [item["artifactUpdate"] for stream in told.seen for item in stream if "artifactUpdate" in item]
        assert [piece for piece in pieces if not piece.get("append")]


async def test_on_a_file_the_next_process_takes_it_up(tmp_path: Path) -> None:
    async with serving(tmp_path, recover=True, paths=(None,), write=write_graph) as site:
        (only,) = site.replicas
        async with Caller(site.urls, user_token(), seed=1) as caller:
            told = Ledger().open("go")
            await caller.send(told, wait=False)
            await until(lambda: ran(site)["two"] == 1)
            only.kill()
            only.start()
            await only.ready()
            await caller.follow(told)
            await caller.get(told)
        assert ran(site) == {"one": 1, "two": 2, "three": 1}
        assert answer(told) == WHOLE


async def test_a_question_is_answered_at_another_process_after_both_were_killed(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, database, recover=True, write=write_graph) as site:
        first, second = site.replicas
        async with Caller([first.url], user_token(), seed=1) as caller:
            told = Ledger().open("ask")
            await caller.send(told)
            assert told.state == "TASK_STATE_INPUT_REQUIRED"
            assert told.status["message"]["parts"][0]["text"] == "Which one?"
        for replica in site.replicas:
            replica.kill()
        second.start()
        await second.ready()
        async with Caller([second.url], user_token(), seed=1) as caller:
            await caller.answer(told, "the red one")
            assert told.state == "TASK_STATE_COMPLETED"
        assert answer(told) == "one begins\n\none ends.\n\ntwo: the red one.\n\nthree begins\n\nthree ends."
        assert ran(site) == {"one": 1, "two": 2, "three": 1}

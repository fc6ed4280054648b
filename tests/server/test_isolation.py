"""Teams whose code blocks: served for real, cancelled, killed, and found again by the processes of their runs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from elf_sdk.adapters.function import FunctionAdapter, SyncFunctionContext
from elf_sdk.errors import BadInput
from elf_sdk.models.script import OfflineScript
from elf_sdk.runs.log import RunRequest, RunState
from elf_sdk.server.a2a.client import TeamClient
from elf_sdk.server.auth import Issuer
from elf_sdk.server.remote import RemoteUpdate
from elf_sdk.server.services import open_services
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.testing import Served, serve
from tests.runs.processes import alive, began, descendants, wait
from tests.runs.support import ADA
from tests.server.plain_team import HookedTeam, PlainTeam, spec
from tests.server.test_processes import TEAM_YAML, ask, environment, running

SECRET = "only for this test, and long enough for HS256"


@asynccontextmanager
async def calling(served: Served, user: str = "ada") -> AsyncGenerator[TeamClient, None]:
    async with httpx.AsyncClient() as http:
        yield TeamClient(served.url("plain"), lambda: served.issuer.user_token(user, "plain"), http, retries=0)


async def told(client: TeamClient, text: str, message_id: str = "", **more: str) -> list[RemoteUpdate]:
    message_id = message_id or text
    return [update async for update in client.send(text, message_id=message_id, **more)]  # type: ignore[arg-type]


def text_of(updates: list[RemoteUpdate]) -> str:
    return "".join(update.text_delta for update in updates)


async def test_a_blocking_team_shows_that_its_cancel_is_certain(settings: Settings) -> None:
    expected = {"process": "certain", "thread": "cooperative", "inline": "cooperative"}
    for isolation, cancel in expected.items():
        async with serve(PlainTeam(spec(isolation=isolation)), settings=settings) as served:
            async with httpx.AsyncClient(base_url=served.url("plain")) as http, calling(served) as client:
                answer = text_of(await told(client, "hi", message_id=isolation))
                assert answer.endswith(": user:ada said hi")
                assert (int(answer.partition(":")[0]) == os.getpid()) is (isolation != "process")
                adapter = (await http.get("/capabilities")).json()["adapter"]
                assert (adapter["cancel"], adapter["human"]) == (cancel, True)
                shown = (await http.get("/health")).json()["checks"]["isolation"]
                assert shown.startswith(isolation)


async def test_a_hook_goes_through_the_process_too(settings: Settings) -> None:
    async with serve(HookedTeam(spec()), settings=settings) as served, calling(served) as client:
        answer = text_of(await told(client, "hi"))
    assert answer.startswith(f"({os.getpid()}) ")
    assert f") {os.getpid()}:" not in answer
    assert answer.endswith("user:ada said hi")


async def test_a_cancel_ends_what_blocks(settings: Settings, tmp_path: Path) -> None:
    async with serve(PlainTeam(spec()), settings=settings) as served, calling(served) as client:
        stream = client.send(f"sleep {tmp_path / 'pid'}", message_id="m1")
        task_id = (await anext(stream)).task_id
        pid = (await began(tmp_path / "pid"))[0]
        begun = time.monotonic()
        await client.cancel(task_id)
        assert not alive(pid)
        assert time.monotonic() - begun < 2
        await stream.aclose()
        assert text_of(await told(client, "next")).endswith("said next")


async def test_a_cancel_closes_the_line_to_the_model(settings: Settings) -> None:
    async with open_services(settings) as services:
        script = OfflineScript.model_validate({"rules": [{"say": "on and " * 2000, "delay": "10ms"}]})
        model = services.offline
        server = PlainTeam(spec())
        async with server.running(services):
            model.add("plain", script)
            running_ = server._running
            assert running_ is not None
            engine = running_.engine
            run = await engine.start(RunRequest("plain", ADA, "c", "model please"))
            async for logged in engine.subscribe(run.id, ADA):
                if logged.seq > 3:
                    break
            begun = time.monotonic()
            await engine.cancel(run.id, ADA)
            while model.requests[-1].outcome == "open":  # noqa: ASYNC110 - the model does not tell
                await asyncio.sleep(0.01)
            assert model.requests[-1].outcome == "gone"
            assert time.monotonic() - begun < 1


async def test_a_deadline_says_where_the_work_was(settings: Settings, tmp_path: Path) -> None:
    async with serve(PlainTeam(spec(deadline="2s")), settings=settings) as served, calling(served) as client:
        for number in range(10):
            # Until the team is loaded, also on a machine that is busy.
            if (await told(client, "hi", message_id=str(number)))[-1].state is RunState.FINISHED:
                break
        last = (await told(client, f"sleep {tmp_path / 'pid'}"))[-1]
    assert last.state is RunState.FAILED
    assert last.error.startswith("it took longer than 2s; it was at plain_team.py, line ")


async def test_the_server_answers_while_all_workers_spin(settings: Settings) -> None:
    async with serve(PlainTeam(spec()), settings=settings) as served:
        async with httpx.AsyncClient(base_url=served.url("plain")) as http, calling(served) as client:
            await told(client, "hi")
            spinning = [asyncio.create_task(told(client, "spin 1.5", message_id=str(number))) for number in range(3)]
            while not all(task.done() for task in spinning):
                assert (await http.get("/livez", timeout=1)).status_code == 200
                await asyncio.sleep(0.02)
            assert all(text_of(task.result()).endswith("done") for task in spinning)


async def test_a_killed_worker_fails_its_run_alone(settings: Settings, tmp_path: Path) -> None:
    async with serve(PlainTeam(spec()), settings=settings) as served, calling(served) as client:
        run = asyncio.create_task(told(client, f"sleep {tmp_path / 'pid'}"))
        os.kill((await began(tmp_path / "pid"))[0], signal.SIGKILL)
        last = (await run)[-1]
        assert last.state is RunState.FAILED
        assert "was killed (SIGKILL" in last.error
        assert "exit code 3 (plain_team.py, line" in (await told(client, "exit"))[-1].error
        assert text_of(await told(client, "next")).endswith("said next")


async def test_a_question_survives_a_restart(settings: Settings) -> None:
    async with serve(PlainTeam(spec()), settings=settings) as served, calling(served) as client:
        first = await told(client, "ask", "m1")
        assert text_of(first).endswith(": Well. ")
        assert first[-1].question
    async with serve(PlainTeam(spec()), settings=settings) as served, calling(served) as client:
        rest = await told(client, "that one", "m2", task_id=first[-1].task_id)
        assert rest[-1].state is RunState.FINISHED
        assert text_of(rest).count("Well.") <= 1
        assert text_of(rest).endswith("So that one.")


def _made_here() -> type[TeamServer]:
    def local(ctx: SyncFunctionContext) -> str:
        return "never"

    class Local(TeamServer):
        adapter = FunctionAdapter(local)

    return Local


def _from_parts() -> type[TeamServer]:
    class Parts(TeamServer):
        adapter = FunctionAdapter(at_the_top)

    return Parts


def at_the_top(ctx: SyncFunctionContext) -> str:
    return f"found in {os.getpid()}"


async def test_a_team_that_no_process_can_find_does_not_start(settings: Settings) -> None:
    async with open_services(settings) as services:
        with pytest.raises(BadInput, match=r"Local: a process of its own cannot find .* runs\.isolation: thread"):
            async with _made_here()(spec()).running(services):
                pass
        async with _made_here()(spec(isolation="thread")).running(services):
            pass


async def test_a_team_made_in_a_function_is_found_by_its_parts(settings: Settings) -> None:
    async with serve(_from_parts()(spec()), settings=settings) as served, calling(served) as client:
        answer = text_of(await told(client, "hi"))
    assert answer.startswith("found in ")
    assert answer != f"found in {os.getpid()}"


TEAM_PY = """\
import os
import sys

from elf_sdk import FunctionAdapter, TeamServer
from words import WORD


def answer(ctx):
    if "sleep" in ctx.text:
        import time
        time.sleep(600)
    yield f"{WORD} {os.getpid()}"


class Echo(TeamServer):
    adapter = FunctionAdapter(answer)


app = Echo()

if __name__ == "__main__":
    print("guarded", os.getpid(), file=sys.stderr, flush=True)
    app.serve()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two teams of plain functions, whose modules have the same names; one of them in a package too."""
    for name in ("alpha", "beta"):
        directory = tmp_path / "teams" / name
        package = directory / "boxed"
        package.mkdir(parents=True)
        for place in (directory, package):
            (place / "team.yaml").write_text(TEAM_YAML.format(name=name))
        (directory / "team.py").write_text(TEAM_PY)
        (directory / "words.py").write_text(f"WORD = {name!r}\n")
        (package / "__init__.py").touch()
        (package / "words.py").write_text(f"WORD = 'boxed {name}'\n")
        (package / "team.py").write_text(TEAM_PY.replace("from words", "from .words"))
    (tmp_path / "elf.yaml").write_text("name: acme\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["team.py"], "alpha"),
        (["-m", "team"], "alpha"),
        (["-m", "boxed.team"], "boxed alpha"),
        (["-m", "elf_sdk", "serve", "--port", "0"], "alpha"),
        (["-m", "uvicorn", "team:app", "--port", "0"], "alpha"),
    ],
    ids=["python team.py", "python -m team", "python -m boxed.team", "elf serve", "uvicorn team:app"],
)
def test_however_a_team_is_started_its_processes_find_it(project: Path, arguments: list[str], word: str) -> None:
    directory = project / "teams" / "alpha"
    token = Issuer(SECRET, "elf", "dev").user_token("ada", "alpha")
    with running(arguments, directory, environment(project, ELF_PORT="0", JWT_SECRET_KEY=SECRET)) as server:
        address = server.wait_for(r"(http://127\.0\.0\.1:\d+)")[1]
        said, pid = ask(address, token, "hi").rsplit(" ", 1)
        assert said == word
        assert int(pid) != server.process.pid
    assert server.output.count("guarded") == (arguments[-1] in ("team.py", "team", "boxed.team"))


def test_elf_dev_gives_each_team_its_processes_and_ends_them_on_a_change(project: Path) -> None:
    with running(
        ["-m", "elf_sdk", "dev", "--port", "0"], project, environment(project, JWT_SECRET_KEY=SECRET)
    ) as server:
        server.wait_for("Ctrl-C stops")
        address = server.wait_for(r"serves acme on (http://127\.0\.0\.1:\d+)")[1]
        tokens = {name: Issuer(SECRET, "acme", "dev").user_token("ada", name) for name in ("alpha", "beta")}
        for name, token in tokens.items():
            assert ask(f"{address}/teams/{name}", token, "hi").startswith(f"{name} ")
        before = descendants(server.process.pid)
        (project / "teams" / "beta" / "words.py").write_text("WORD = 'changed'\n")
        server.wait_for("Ctrl-C stops", times=2)
        assert ask(f"{address}/teams/beta", tokens["beta"], "hi").startswith("changed ")
        wait(lambda: not any(alive(pid) for pid in before))
        after = descendants(server.process.pid)
    wait(lambda: not any(alive(pid) for pid in after))


def test_a_server_that_is_killed_leaves_nothing_behind(project: Path) -> None:
    directory = project / "teams" / "alpha"
    token = Issuer(SECRET, "elf", "dev").user_token("ada", "alpha")
    with running(["team.py"], directory, environment(project, ELF_PORT="0", JWT_SECRET_KEY=SECRET)) as server:
        address = server.wait_for(r"(http://127\.0\.0\.1:\d+)")[1]
        ask(address, token, "hi")
        with httpx.Client(headers={"Authorization": f"Bearer {token}"}) as http:
            message = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "sleep"}]}
            body = {"message": message, "configuration": {"returnImmediately": True}}
            sent = http.post(f"{address}/a2a/v1/message:send", json=body, headers={"A2A-Version": "1.0"})
            assert sent.status_code == 200, sent.text
        wait(lambda: len(descendants(server.process.pid)) == 2)
        left = descendants(server.process.pid)
        server.process.kill()
        wait(lambda: not any(alive(pid) for pid in left))

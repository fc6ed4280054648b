"""Push notifications: a real receiver gets what a subscriber gets, in order, whatever breaks in between."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.types import (
    AuthenticationInfo,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    SendMessageConfiguration,
    SendMessageRequest,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError
from google.protobuf.json_format import MessageToDict, ParseDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.durable import DurableLog
from elf_sdk.server.a2a.push import Pace, PushSender
from elf_sdk.server.egress import Address, Egress
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.store import Store, store_at
from elf_sdk.store.push import PushConfigs
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Member
from elf_sdk.testing import ScriptedAdapter
from elf_sdk.testing import serve as serve_teams
from tests.a2a.conftest import ENVIRONMENT, ORGANISATION, Serve, Served, ask, listening

ADA = Owner(f"elf:{ORGANISATION}:{ENVIRONMENT}", "user:ada")
QUICK = Pace(look=0.2, timeout=2, first_delay=0.02, longest_delay=0.1, attempts=4, grace=1)
Answer = Callable[[int, Request], Awaitable[Response]]


async def taken(number: int, request: Request) -> Response:
    return Response("thanks")


@dataclass
class Receiver:
    """What was posted where; and how it is answered."""

    port: int
    answer: Answer = taken
    posts: list[tuple[httpx.Headers, dict[str, Any]]] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"http://{host}:{self.port}{path}"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.posts]

    @property
    def keys(self) -> list[str]:
        return [headers["idempotency-key"] for headers, _ in self.posts]

    async def until(self, enough: Callable[[], Any]) -> None:
        async with self.came, asyncio.timeout(20):
            await self.came.wait_for(enough)

    async def end(self, state: str = "TASK_STATE_COMPLETED") -> None:
        """Wait for the news that a task is in a state."""
        await self.until(lambda: state in map(state_of, self.bodies))


def state_of(update: dict[str, Any]) -> str:
    about = update.get("task") or update.get("statusUpdate") or {}
    return str(about.get("status", {}).get("state", ""))


def text_of(updates: list[dict[str, Any]]) -> str:
    """The answer, as a receiver puts it together."""
    text = ""
    for update in updates:
        if "task" in update:
            artifacts = update["task"].get("artifacts", [])
        else:
            event = update.get("artifactUpdate", {})
            artifacts = [event["artifact"]] if event else []
            text = text if not event or event.get("append") else ""
        for artifact in artifacts:
            if artifact["artifactId"] == "elf.answer":
                text += "".join(part["text"] for part in artifact["parts"])
    return text


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver(0)

    async def hook(request: Request) -> Response:
        body = await request.json()
        async with receiver.came:
            receiver.posts.append((httpx.Headers(request.headers.raw), body))
            receiver.came.notify_all()
        return await receiver.answer(len(receiver.posts), request)

    async with listening(Starlette(routes=[Route("/{path:path}", hook, methods=["POST", "GET"])])) as port:
        receiver.port = port
        yield receiver


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store = store_at(tmp_path / "elf.db", request.getfixturevalue("database") if request.param == "postgres" else "")
    await store.open()
    yield store
    await store.close()


async def nearby(host: str) -> Sequence[Address]:
    """A name service that finds every host on this machine."""
    return [ipaddress.ip_address("127.0.0.1")]


EGRESS = Egress(
    ["http://127.0.0.1", "http://quick.invalid", "http://slow.invalid", "http://moved.invalid"], resolve=nearby
)


@dataclass
class Pushing:
    """A team that sends push notifications."""

    team: Served
    sender: PushSender
    configs: PushConfigs

    async def send(self, text: str, url: str = "", message_id: str = "m1", **more: Any) -> str:
        """Send a message, with a receiver where there is a URL; the task's id."""
        params: dict[str, Any] = {
            "message": {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": text}]},
            "configuration": {"returnImmediately": True},
        }
        params["message"].update(more)
        if url:
            params["configuration"]["taskPushNotificationConfig"] = {"url": url}
        answer = await self.team.rpc("SendMessage", params)
        return str(answer["result"]["task"]["id"])

    async def create(self, task: str, **config: Any) -> dict[str, Any]:
        return await self.team.rpc("CreateTaskPushNotificationConfig", {"taskId": task, **config})

    async def ended(self, task: str) -> str:
        """Why nothing more is sent to the task's one receiver, once that is so."""
        async with asyncio.timeout(20):
            while True:
                (config,) = await self.configs.of_run(task)
                if config.ended is not None:
                    return config.ended
                await asyncio.sleep(0.02)


Make = Callable[..., Awaitable[Pushing]]


@pytest.fixture
async def make(serve: Serve, store: Store) -> AsyncIterator[Make]:
    """A function that serves a team with push notifications."""
    async with AsyncExitStack() as stack:

        async def start(pace: Pace = QUICK, egress: Egress = EGRESS) -> Pushing:
            configs = PushConfigs(store)
            log = DurableLog(store)
            sender = PushSender("painting", configs, log, egress, pace=pace)
            team: Served = await serve(log=log, push=sender)
            await sender.open()
            stack.push_async_callback(sender.close)
            stack.push_async_callback(team.engine.close)
            return Pushing(team, sender, configs)

        yield start


@pytest.fixture
async def pushing(make: Make) -> Pushing:
    return await make()


async def test_a_receiver_gets_what_a_subscriber_gets(pushing: Pushing, receiver: Receiver) -> None:
    request = ask("count 5")
    request.configuration.CopyFrom(
        SendMessageConfiguration(
            task_push_notification_config=TaskPushNotificationConfig(
                url=receiver.url(path="/hook?key=1"),
                token="a token of mine",
                authentication=AuthenticationInfo(scheme="Bearer", credentials="credentials-of-mine"),
            )
        )
    )
    client = await pushing.team.client()
    streamed = [MessageToDict(event) async for event in client.send_message(request, context=pushing.team.call())]
    await receiver.end()
    bodies = receiver.bodies
    assert [next(iter(body)) for body in bodies][:1] == ["task"]
    assert text_of(bodies) == text_of(streamed) == "0 1 2 3 4 "
    # Both begin with the task as it is, which is a matter of when; from there on they are the same.
    common = min(len(bodies), len(streamed)) - 1
    assert bodies[-common:] == streamed[-common:]
    assert common > 2
    assert bodies[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    for headers, _ in receiver.posts:
        assert headers["content-type"] == "application/a2a+json"
        assert headers["a2a-version"] == "1.0"
        assert headers["x-a2a-notification-token"] == "a token of mine"
        assert headers["authorization"] == "Bearer credentials-of-mine"
        assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert len(set(receiver.keys)) == len(bodies)
    task = bodies[0]["task"]["id"]
    assert await pushing.ended(task) == ""


async def test_a_receiver_that_comes_late_gets_the_task_as_it_is(pushing: Pushing, receiver: Receiver) -> None:
    task = await pushing.send("count 2")
    await pushing.team.engine.settled(task, ADA)
    assert "result" in await pushing.create(task, url=receiver.url())
    await receiver.end()
    assert [next(iter(body)) for body in receiver.bodies] == ["task"]
    assert text_of(receiver.bodies) == "0 1 "
    assert await pushing.ended(task) == ""


async def test_a_receiver_hears_of_a_question_and_of_what_follows_its_answer(
    pushing: Pushing, receiver: Receiver
) -> None:
    task = await pushing.send("ask me", receiver.url())
    await receiver.end("TASK_STATE_INPUT_REQUIRED")
    await pushing.send("blue", message_id="m2", taskId=task)
    await receiver.end()
    assert text_of(receiver.bodies) == "painted blue"
    assert len(set(receiver.keys)) == len(receiver.keys)


async def test_what_a_receiver_did_not_take_is_sent_again_before_what_follows(
    pushing: Pushing, receiver: Receiver
) -> None:
    async def stumbling(number: int, request: Request) -> Response:
        return Response(status_code={2: 500, 3: 503, 6: 429}.get(number, 204))

    receiver.answer = stumbling
    task = await pushing.send("count 8", receiver.url())
    await receiver.end()
    keys, bodies = receiver.keys, receiver.bodies
    assert keys[1] == keys[2] == keys[3]
    assert bodies[1] == bodies[2] == bodies[3]
    assert keys[5] == keys[6]
    once = [body for key, body in dict(zip(keys, bodies, strict=True)).items()]
    assert text_of(once) == "0 1 2 3 4 5 6 7 "
    assert len(keys) == len(set(keys)) + 3
    assert await pushing.ended(task) == ""


async def test_a_receiver_that_stays_away_is_given_up(
    pushing: Pushing, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    authentication = {"scheme": "Bearer", "credentials": "planted-credentials"}
    task = await pushing.send("hello")
    url = "http://127.0.0.1:9/planted-path?planted-query"
    await pushing.create(task, url=url, token="planted-token", authentication=authentication)
    assert await pushing.ended(task) == "4 attempts failed, the last because the connection failed (ConnectError)"

    async def broken(number: int, request: Request) -> Response:
        return Response("planted-answer", 500)

    receiver.answer = broken
    other = await pushing.send("hello", receiver.url(path="/planted-path"), "m2")
    assert await pushing.ended(other) == "4 attempts failed, the last because it answered with HTTP 500"
    assert len(receiver.posts) == 4
    assert "no more push notifications" in caplog.text
    assert "planted" not in caplog.text
    # Whoever has mended the receiver gives it again.
    receiver.answer = taken
    assert "result" in await pushing.create(other, url=receiver.url(path="/planted-path"))
    assert await pushing.ended(other) == ""


async def test_a_receiver_that_is_gone_is_not_asked_again(pushing: Pushing, receiver: Receiver) -> None:
    async def gone(number: int, request: Request) -> Response:
        return Response(status_code=410)

    receiver.answer = gone
    task = await pushing.send("hello", receiver.url())
    assert await pushing.ended(task) == "it answered with HTTP 410"
    assert len(receiver.posts) == 1


async def test_a_redirect_is_not_followed(pushing: Pushing, receiver: Receiver) -> None:
    async with receiving() as inside:

        async def moved(number: int, request: Request) -> Response:
            return Response(status_code=307, headers={"Location": inside.url()})

        receiver.answer = moved
        task = await pushing.send("hello", receiver.url())
        assert await pushing.ended(task) == "4 attempts failed, the last because it answered with HTTP 307"
        assert inside.posts == []


async def test_an_endless_answer_is_not_read(pushing: Pushing) -> None:
    heard = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                await writer.drain()
        except OSError:
            writer.close()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        task = await pushing.send("count 3", f"http://127.0.0.1:{port}/")
        assert await pushing.ended(task) == ""
    assert heard > 2


async def test_receivers_that_hang_delay_no_other(make: Make, receiver: Receiver) -> None:
    pushing = await make(Pace(look=60, timeout=30, lease=90, at_once=6, each_host=4, grace=0))
    hanging = asyncio.Event()
    async with receiving() as slow:

        async def hang(number: int, request: Request) -> Response:
            await hanging.wait()
            return Response()

        slow.answer = hang
        for number in range(12):
            await pushing.send("hello", slow.url("slow.invalid"), f"slow{number}")
        await slow.until(lambda: len(slow.posts) == 4)
        streamed = await pushing.send("count 3", receiver.url("quick.invalid"), "quick")
        await receiver.end()
        assert text_of(receiver.bodies) == "0 1 2 "
        assert await pushing.ended(streamed) == ""
        assert len(slow.posts) == 4
        hanging.set()
        await slow.until(lambda: list(map(state_of, slow.bodies)).count("TASK_STATE_COMPLETED") == 12)


async def test_a_name_that_turns_inside_is_not_followed_there(make: Make, receiver: Receiver) -> None:
    answers = ["93.184.216.34"]

    async def turning(host: str) -> Sequence[Address]:
        return [ipaddress.ip_address(answers.pop() if answers else "127.0.0.1")]

    pushing = await make(egress=Egress(plain=True, resolve=turning))
    task = await pushing.send("hello", receiver.url("turning.example"))
    assert "the host 'turning.example' has no public address" in await pushing.ended(task)
    assert (answers, receiver.posts) == ([], [])


async def test_the_same_message_again_doubles_nothing(pushing: Pushing, receiver: Receiver) -> None:
    tasks = await asyncio.gather(*(pushing.send("count 3", receiver.url()) for _ in range(3)))
    await receiver.end()
    assert len(set(tasks)) == 1
    assert await pushing.ended(tasks[0]) == ""
    assert len(set(receiver.keys)) == len(receiver.keys)
    assert text_of(receiver.bodies) == "0 1 2 "
    # After the end it is a receiver that comes late.
    before = len(receiver.posts)
    assert await pushing.send("count 3", receiver.url()) == tasks[0]
    await receiver.until(lambda: len(receiver.posts) > before)
    assert await pushing.ended(tasks[0]) == ""
    (task,) = receiver.bodies[before:]
    assert task["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    listed = await pushing.team.rpc("ListTaskPushNotificationConfigs", {"taskId": tasks[0]})
    assert len(listed["result"]["configs"]) == 1


async def test_a_deleted_receiver_hears_nothing_more(pushing: Pushing, receiver: Receiver) -> None:
    task = await pushing.send("wait here", receiver.url())
    await receiver.until(lambda: text_of(receiver.bodies) == "first ")
    (config,) = (await pushing.team.rpc("ListTaskPushNotificationConfigs", {"taskId": task}))["result"]["configs"]
    for _ in range(2):
        answer = await pushing.team.rpc("DeleteTaskPushNotificationConfig", {"taskId": task, "id": config["id"]})
        assert answer["result"] == {}
    async with receiving() as other:
        await pushing.create(task, url=other.url())
        pushing.team.adapter.gate.set()
        await other.end()
    assert "TASK_STATE_COMPLETED" not in map(state_of, receiver.bodies)


async def test_a_sender_that_closes_leaves_the_rest_to_the_next(make: Make, receiver: Receiver) -> None:
    pushing = await make()
    blocked, going = asyncio.Event(), asyncio.Event()

    async def slowly(number: int, request: Request) -> Response:
        if number == 3:
            blocked.set()
            await going.wait()
        return Response()

    receiver.answer = slowly
    # Long enough that the third is not one of its end, whatever else the machine does.
    task = await pushing.send("count 40", receiver.url())
    await blocked.wait()
    closing = asyncio.create_task(pushing.sender.close())
    await asyncio.sleep(0.05)
    going.set()
    await closing
    await pushing.team.engine.settled(task, ADA)
    assert len(receiver.posts) == 3
    await make()
    await receiver.end()
    assert text_of(receiver.bodies) == "".join(f"{number} " for number in range(40))
    assert len(set(receiver.keys)) == len(receiver.keys)


KILLED = """
import asyncio, sys
from pathlib import Path
from elf_sdk.runs.durable import DurableLog
from elf_sdk.server.a2a.push import Pace, PushSender
from elf_sdk.server.egress import Egress
from elf_sdk.store import store_at
from elf_sdk.store.push import PushConfigs

async def main():
    store = store_at(Path(), sys.argv[1])
    await store.open()
    egress, pace = Egress(["http://127.0.0.1"]), Pace(look=0.1, timeout=1, turn=1, lease=3)
    await PushSender("painting", PushConfigs(store), DurableLog(store), egress, pace=pace).open()
    print("sends", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
async def test_a_sender_that_is_killed_before_it_could_move_on_loses_nothing(
    make: Make, receiver: Receiver, database: str
) -> None:
    pushing = await make()
    await pushing.sender.close()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, database, stdout=asyncio.subprocess.PIPE
    )

    async def kill(number: int, request: Request) -> Response:
        if number == 3:
            # It has arrived, and whoever sent it will never know.
            process.send_signal(signal.SIGKILL)
        return Response()

    receiver.answer = kill
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"sends\n"
        task = await pushing.send("count 8", receiver.url())
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    assert len(receiver.posts) == 3
    await make()
    await receiver.end()
    assert await pushing.ended(task) == ""
    doubled = {key: count for key, count in Counter(receiver.keys).items() if count > 1}
    assert doubled == {receiver.keys[2]: 2}
    assert receiver.keys[2:4] == [receiver.keys[2]] * 2
    assert receiver.bodies[2] == receiver.bodies[3]
    assert text_of([*receiver.bodies[:3], *receiver.bodies[4:]]) == "0 1 2 3 4 5 6 7 "


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
async def test_two_senders_deliver_each_event_once(make: Make, receiver: Receiver, database: str) -> None:
    first = await make()
    other = store_at(Path(), database)
    await other.open()
    second = PushSender("painting", PushConfigs(other), DurableLog(other), EGRESS, pace=QUICK)
    await second.open()
    tasks = await asyncio.gather(*(first.send("count 5", receiver.url(), f"m{number}") for number in range(20)))
    await receiver.until(lambda: list(map(state_of, receiver.bodies)).count("TASK_STATE_COMPLETED") == 20)
    doubled = {key: count for key, count in Counter(receiver.keys).items() if count > 1}
    assert doubled == {}
    for task in tasks:
        mine = [body for key, body in zip(receiver.keys, receiver.bodies, strict=True) if key.startswith(f'"{task}.')]
        assert text_of(mine) == "0 1 2 3 4 "
        assert await first.ended(task) == ""
    await second.close()
    await other.close()


INSIDE = [
    "http://127.0.0.2/",
    "https://127.1/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://[::1]/",
    "https://2130706433/",
    "http://93.184.216.34/",
    "https://user:planted@quick.invalid/",
    "file:///etc/passwd",
    "",
]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize("url", INSIDE)
async def test_a_url_that_points_inside_is_refused_and_nothing_is_started(pushing: Pushing, url: str) -> None:
    team = pushing.team
    params = {
        "message": {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hello"}]},
        "configuration": {"taskPushNotificationConfig": {"url": url}},
    }
    answer = await team.rpc("SendMessage", params)
    assert answer["error"]["code"] == -32602
    violation = answer["error"]["data"][1]["fieldViolations"][0]
    assert violation["field"] == "configuration.taskPushNotificationConfig.url"
    assert "planted" not in str(answer)
    assert team.adapter.started == 0
    task = await pushing.send("hello")
    assert (await pushing.create(task, url=url))["error"]["code"] == -32602
    rest = f"{team.url}/a2a/v1/tasks/{task}/pushNotificationConfigs"
    response = await team.http.post(rest, json={"url": url}, headers=team.headers())
    assert response.status_code == 400
    assert response.json()["error"]["details"][0]["reason"] == "INVALID_PARAMS"
    assert await pushing.configs.of_run(task) == ()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("field", "config"),
    [
        ("token", {"token": "a\r\nX-Injected: 1"}),
        ("token", {"token": "ä"}),
        ("token", {"token": " a"}),
        ("token", {"token": "a" * 8193}),
        ("token", {"token": 5}),
        ("id", {"id": "a\x00b"}),
        ("id", {"id": "a" * 257}),
        ("authentication", {"authentication": "Bearer x"}),
        ("authentication.scheme", {"authentication": {}}),
        ("authentication.scheme", {"authentication": {"scheme": "", "credentials": "planted"}}),
        ("authentication.scheme", {"authentication": {"scheme": "Bearer x", "credentials": "planted"}}),
        ("authentication.credentials", {"authentication": {"scheme": "Bearer", "credentials": "planted\nX: 1"}}),
    ],
)
async def test_what_no_header_can_hold_is_refused(pushing: Pushing, field: str, config: dict[str, Any]) -> None:
    task = await pushing.send("hello")
    answer = await pushing.create(task, url="http://127.0.0.1:9/", **config)
    assert answer["error"]["code"] == -32602
    assert answer["error"]["data"][1]["fieldViolations"][0]["field"] == field
    assert "planted" not in str(answer)
    assert await pushing.configs.of_run(task) == ()


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_the_official_client_creates_gets_lists_and_deletes(
    pushing: Pushing, receiver: Receiver, binding: str
) -> None:
    client, call = await pushing.team.client(binding), pushing.team.call()
    task = await pushing.send("hello")
    given = TaskPushNotificationConfig(
        task_id=task,
        id="mine",
        url=receiver.url(),
        token="token",
        authentication=AuthenticationInfo(scheme="Basic", credentials="YTpi"),
    )
    assert await client.create_task_push_notification_config(given, context=call) == given
    made = await client.create_task_push_notification_config(
        TaskPushNotificationConfig(task_id=task, url=receiver.url(path="/two")), context=call
    )
    assert made.id
    query = GetTaskPushNotificationConfigRequest(task_id=task, id="mine")
    assert await client.get_task_push_notification_config(query, context=call) == given
    page = await client.list_task_push_notification_configs(
        ListTaskPushNotificationConfigsRequest(task_id=task, page_size=1), context=call
    )
    assert list(page.configs) == [given]
    rest = await client.list_task_push_notification_configs(
        ListTaskPushNotificationConfigsRequest(task_id=task, page_token=page.next_page_token), context=call
    )
    assert (list(rest.configs), rest.next_page_token) == ([made], "")
    gone = DeleteTaskPushNotificationConfigRequest(task_id=task, id="mine")
    for _ in range(2):
        await client.delete_task_push_notification_config(gone, context=call)
    with pytest.raises(TaskNotFoundError):
        await client.get_task_push_notification_config(query, context=call)
    with pytest.raises(InvalidParamsError):
        await client.create_task_push_notification_config(
            TaskPushNotificationConfig(task_id=task, url="https://10.1.1.1/"), context=call
        )
    for number in range(9):
        given.id = f"more{number}"
        await client.create_task_push_notification_config(given, context=call)
    given.id = "one too many"
    with pytest.raises(InvalidParamsError, match="10 push notification configs"):
        await client.create_task_push_notification_config(given, context=call)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
async def test_a_caller_of_0_3_does_the_same(pushing: Pushing, receiver: Receiver) -> None:
    team = pushing.team
    headers = {"Authorization": team.headers()["Authorization"]}

    async def rpc(method: str, params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return (await team.http.post(f"{team.url}/a2a/v1", json=body, headers=headers)).json()

    config = {"url": receiver.url(), "token": "token", "authentication": {"schemes": ["Bearer"], "credentials": "c"}}
    message = {"kind": "message", "messageId": "m1", "role": "user", "parts": [{"kind": "text", "text": "count 2"}]}
    sent = await rpc("message/send", {"message": message, "configuration": {"pushNotificationConfig": config}})
    task = sent["result"]["id"]
    await receiver.end()
    assert receiver.posts[0][0]["authorization"] == "Bearer c"
    only = await rpc("tasks/pushNotificationConfig/get", {"id": task})
    assert only["result"]["pushNotificationConfig"]["url"] == receiver.url()
    given = {"taskId": task, "pushNotificationConfig": {**config, "id": "mine"}}
    made = await rpc("tasks/pushNotificationConfig/set", given)
    assert made["result"]["pushNotificationConfig"]["id"] == "mine"
    assert made["result"]["taskId"] == task
    query = {"id": task, "pushNotificationConfigId": "mine"}
    assert (await rpc("tasks/pushNotificationConfig/get", query))["result"] == made["result"]
    listed = await rpc("tasks/pushNotificationConfig/list", {"id": task})
    assert made["result"] in listed["result"]
    assert len(listed["result"]) == 2
    assert "error" not in await rpc("tasks/pushNotificationConfig/delete", query)
    assert (await rpc("tasks/pushNotificationConfig/get", query))["error"]["code"] == -32001
    inside = {"taskId": task, "pushNotificationConfig": {"url": "https://127.0.0.1.nip.invalid@10.0.0.1/"}}
    assert (await rpc("tasks/pushNotificationConfig/set", inside))["error"]["code"] == -32602


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
async def test_anothers_task_answers_like_an_absent_one(pushing: Pushing, receiver: Receiver) -> None:
    task = await pushing.send("hello")
    await pushing.create(task, id="mine", url=receiver.url())
    for method, more in (
        ("CreateTaskPushNotificationConfig", {"id": "mine", "url": receiver.url(path="/theirs")}),
        ("CreateTaskPushNotificationConfig", {"id": "mine", "url": "https://10.0.0.1/"}),
        ("GetTaskPushNotificationConfig", {"id": "mine"}),
        ("ListTaskPushNotificationConfigs", {}),
        ("DeleteTaskPushNotificationConfig", {"id": "mine"}),
    ):
        theirs = await pushing.team.rpc(method, {"taskId": task, **more}, user="bob")
        absent = await pushing.team.rpc(method, {"taskId": "absent", **more}, user="bob")
        assert theirs["error"]["code"] == -32001
        assert str(theirs).replace(task, "absent") == str(absent)
    (config,) = await pushing.configs.of_run(task)
    assert config.url == receiver.url()


async def test_a_team_whose_runs_are_volatile_sends_none(team: Served) -> None:
    card = (await team.http.get(f"{team.url}/.well-known/agent-card.json")).json()
    assert card["capabilities"]["pushNotifications"] is False
    for method in ("Create", "Get", "Delete"):
        answer = await team.rpc(f"{method}TaskPushNotificationConfig", {})
        assert answer["error"]["code"] == -32003
    answer = await team.rpc("ListTaskPushNotificationConfigs", {"taskId": "absent"})
    assert answer["error"]["code"] == -32003
    request = ask("hello")
    ParseDict({"configuration": {"taskPushNotificationConfig": {"url": "https://a.example/"}}}, request)
    answer = await team.rpc("SendMessage", MessageToDict(request))
    assert answer["error"]["code"] == -32003
    assert team.adapter.started == 0


async def test_a_whole_team_sends_where_its_operator_lets_it(receiver: Receiver, tmp_path: Path) -> None:
    cls = type("Team", (TeamServer,), {"adapter": ScriptedAdapter()})
    team = cls(TeamSpec(name="painting", members=(Member(role="painter", is_manager=True),)))
    settings = Settings(store=str(tmp_path / "elf.db"), push_allow=("127.0.0.1",))
    async with serve_teams(team, settings=settings) as served:
        async with httpx.AsyncClient(headers={**served.headers("ada", "painting"), "A2A-Version": "1.0"}) as http:
            base = served.url("painting")
            card = (await http.get(f"{base}/.well-known/agent-card.json")).json()
            assert card["capabilities"]["pushNotifications"] is True
            body = MessageToDict(SendMessageRequest(message=ask("hello").message))
            for url, status in (("https://127.0.0.2/", 400), (receiver.url(), 200)):
                body["configuration"] = {"taskPushNotificationConfig": {"url": url}}
                response = await http.post(f"{base}/a2a/v1/message:send", json=body)
                assert response.status_code == status
                assert status == 200 or "ELF_PUSH_ALLOW" in response.json()["error"]["message"]
        await receiver.end()

"""Tasks over both bindings, by the official client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import (
    A2AError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from google.protobuf.json_format import MessageToDict

from elf_sdk.server.a2a.card import IDEMPOTENT_MESSAGE_ID
from tests.a2a.conftest import Serve, Served, ask

both = pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])


MESSAGE = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
OTHER = {**MESSAGE, "parts": [{"text": "good night"}]}


def text_of(task: Task) -> str:
    return "".join(
        part.text for artifact in task.artifacts if artifact.artifact_id == "elf.answer" for part in artifact.parts
    )


async def send(served: Served, request: Any, binding: str = "JSONRPC", user: str = "ada") -> Task:
    client = await served.client(binding, streaming=False)
    responses = [response async for response in client.send_message(request, context=served.call(user))]
    assert len(responses) == 1
    return responses[0].task


@both
async def test_a_message_is_answered_with_the_task_as_it_ended(team: Served, binding: str) -> None:
    task = await send(team, ask("hello", context_id="c1"), binding)
    assert task.status.state == TaskState.TASK_STATE_COMPLETED
    assert text_of(task) == "you said: hello"
    assert task.context_id == "c1"
    assert [message.message_id for message in task.history] == ["m1"]
    client = await team.client(binding)
    got = await client.get_task(GetTaskRequest(id=task.id, history_length=0), context=team.call())
    assert (text_of(got), len(got.history)) == ("you said: hello", 0)


@both
async def test_return_immediately_does_not_wait(team: Served, binding: str) -> None:
    request = ask("wait")
    request.configuration.return_immediately = True
    task = await send(team, request, binding)
    assert task.status.state in (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)


@both
async def test_the_first_piece_arrives_before_the_end(team: Served, binding: str) -> None:
    client = await team.client(binding)
    seen: list[StreamResponse] = []
    async for response in client.send_message(ask("wait"), context=team.call()):
        seen.append(response)
        if response.HasField("artifact_update") and not team.adapter.gate.is_set():
            assert response.artifact_update.artifact.parts[0].text == "first "
            team.adapter.gate.set()
    kinds = [response.WhichOneof("payload") for response in seen]
    assert kinds[0] == "task"
    pieces = [response.artifact_update for response in seen if response.HasField("artifact_update")]
    assert "".join(piece.artifact.parts[0].text for piece in pieces) == "first second"
    assert [piece.append for piece in pieces] == [False, True, True]
    assert [piece.last_chunk for piece in pieces] == [False, False, True]
    assert seen[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED


@both
async def test_cancel_in_the_middle_stops_the_work(team: Served, binding: str) -> None:
    client = await team.client(binding)
    states: list[int] = []
    async for response in client.send_message(ask("wait"), context=team.call()):
        if response.HasField("artifact_update") and not team.adapter.cancelled.is_set():
            task_id = response.artifact_update.task_id
            cancelled = await client.cancel_task(CancelTaskRequest(id=task_id), context=team.call())
            assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
            assert team.adapter.cancelled.is_set()
        if response.HasField("status_update"):
            states.append(response.status_update.status.state)
    assert states[-1] == TaskState.TASK_STATE_CANCELED
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(CancelTaskRequest(id=task_id), context=team.call())


@both
async def test_a_second_subscriber_sees_the_rest_and_misses_nothing(team: Served, binding: str) -> None:
    request = ask("wait")
    request.configuration.return_immediately = True
    task = await send(team, request, binding)
    client = await team.client(binding)
    text = ""
    async for response in client.subscribe(SubscribeToTaskRequest(id=task.id), context=team.call()):
        if response.HasField("task"):
            text = text_of(response.task)
        elif response.HasField("artifact_update"):
            text += response.artifact_update.artifact.parts[0].text
        if text:
            team.adapter.gate.set()
    assert text == "first second"
    with pytest.raises(UnsupportedOperationError, match="has ended"):
        async for _ in client.subscribe(SubscribeToTaskRequest(id=task.id), context=team.call()):
            pass


@both
async def test_a_question_is_asked_and_answered(team: Served, binding: str) -> None:
    asked = await send(team, ask("ask me"), binding)
    assert asked.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    assert asked.status.message.parts[0].text == "Which colour?"
    with pytest.raises(InvalidParamsError, match="contextId"):
        await send(team, ask("blue", "m2", task_id=asked.id, context_id="another"), binding)
    painted = await send(team, ask("blue", "m2", task_id=asked.id), binding)
    assert painted.status.state == TaskState.TASK_STATE_COMPLETED
    assert text_of(painted) == "painted blue"
    assert [message.parts[0].text for message in painted.history] == ["ask me", "Which colour?", "blue"]
    again = await send(team, ask("blue", "m2", task_id=asked.id), binding)
    assert again.id == asked.id, "the same answer sent again is the same answer"
    with pytest.raises(InvalidParamsError, match="another answer"):
        await send(team, ask("red", "m2", task_id=asked.id), binding)
    with pytest.raises(UnsupportedOperationError, match="has ended"):
        await send(team, ask("red", "m3", task_id=asked.id), binding)


async def test_a_stream_ends_where_a_person_is_asked_and_a_subscription_goes_on(team: Served) -> None:
    client = await team.client()
    for _ in range(2):  # the second time it is a repeat, and finds the question asked already
        seen = [response async for response in client.send_message(ask("ask me"), context=team.call())]
        states = [response.task.status.state or response.status_update.status.state for response in seen]
        assert states[-1] == TaskState.TASK_STATE_INPUT_REQUIRED
    task_id = seen[0].task.id
    subscription = client.subscribe(SubscribeToTaskRequest(id=task_id), context=team.call())
    first = await anext(aiter(subscription))
    assert first.task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    answer = ask("green", "m2", task_id=task_id)
    answered = [response async for response in client.send_message(answer, context=team.call())]
    followed = [response async for response in subscription]
    for stream in (answered, followed):
        assert stream[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED


@both
async def test_a_failure_says_what_and_whether_to_retry(team: Served, binding: str) -> None:
    task = await send(team, ask("fail"), binding)
    assert task.status.state == TaskState.TASK_STATE_FAILED
    assert "the paint is out" in task.status.message.parts[0].text
    assert MessageToDict(task.status.message.metadata) == {"code": "team", "retryable": False}
    assert text_of(task) == "half"


@both
async def test_what_a_team_will_not_do_is_rejected(team: Served, binding: str) -> None:
    task = await send(team, ask("refuse"), binding)
    assert task.status.state == TaskState.TASK_STATE_REJECTED
    assert "nothing we paint" in task.status.message.parts[0].text
    client = await team.client(binding)
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(CancelTaskRequest(id=task.id), context=team.call())
    for state, number in ((TaskState.TASK_STATE_REJECTED, 1), (TaskState.TASK_STATE_FAILED, 0)):
        page = await client.list_tasks(ListTasksRequest(status=state), context=team.call())
        assert page.total_size == number


@both
async def test_a_task_waits_for_a_right_and_its_stream_stays(team: Served, binding: str) -> None:
    client = await team.client(binding)
    task_id = ""
    seen: list[StreamResponse] = []
    async for response in client.send_message(ask("allow"), context=team.call()):
        seen.append(response)
        status = response.status_update.status
        if status.state == TaskState.TASK_STATE_AUTH_REQUIRED:
            task_id = response.status_update.task_id
            assert [part.text or part.url for part in status.message.parts] == [
                "Let me read the calendar.",
                "https://example.com/allow",
            ]
            page = await client.list_tasks(
                ListTasksRequest(status=TaskState.TASK_STATE_AUTH_REQUIRED), context=team.call()
            )
            assert [task.id for task in page.tasks] == [task_id]
            # The team's own code, when the right was given by a way of its own.
            await team.engine.answer(task_id, team.owner(), "calendar", "given")
    assert seen[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    waiting = await send(team, ask("allow", "m2"), binding)
    assert waiting.status.state == TaskState.TASK_STATE_AUTH_REQUIRED
    told = await send(team, ask("I gave it", "m3", task_id=waiting.id), binding)
    assert (told.status.state, text_of(told)) == (TaskState.TASK_STATE_COMPLETED, "read")


@both
async def test_an_artifact_has_parts_of_every_kind(team: Served, binding: str) -> None:
    client = await team.client(binding)
    updates = [
        response.artifact_update
        async for response in client.send_message(ask("files"), context=team.call())
        if response.HasField("artifact_update")
    ]
    assert [(update.append, update.last_chunk) for update in updates] == [(False, False), (True, True), (False, True)]
    task = await client.get_task(GetTaskRequest(id=updates[0].task_id), context=team.call())
    sketch, link = task.artifacts
    assert [part.WhichOneof("content") for part in sketch.parts] == ["text", "raw"]
    assert (sketch.parts[1].raw[:4], sketch.parts[1].filename, sketch.parts[1].media_type) == (
        b"\x89PNG",
        "a.png",
        "image/png",
    )
    assert (link.parts[0].url, link.parts[0].filename) == ("https://example.com/b.png", "b.png")


@both
async def test_an_answer_that_needs_no_task_is_a_message(team: Served, binding: str) -> None:
    client = await team.client(binding, streaming=False)
    (response,) = [response async for response in client.send_message(ask("greet"), context=team.call())]
    assert response.message.parts[0].text == "Good morning"
    assert response.message.context_id
    assert not response.message.task_id
    stream = await team.client(binding)
    kinds = [item.WhichOneof("payload") async for item in stream.send_message(ask("greet"), context=team.call())]
    assert kinds == ["task"], "a stream begins before the answer is known, so it has the task"


async def test_ids_of_messages_count_for_those_who_promise_something_of_them(serve: Serve) -> None:
    team: Served = await serve(idempotent=False)
    plain = [await team.rpc("SendMessage", {"message": message}) for message in (MESSAGE, MESSAGE, OTHER)]
    assert len({answer["result"]["task"]["id"] for answer in plain}) == 3
    assert len({answer["result"]["task"]["contextId"] for answer in plain}) == 3
    more = {"A2A-Extensions": f"urn:other, {IDEMPOTENT_MESSAGE_ID}"}
    asked = [await team.rpc("SendMessage", {"message": message}, more=more) for message in (MESSAGE, MESSAGE, OTHER)]
    assert asked[0] == asked[1]
    assert asked[2]["error"]["code"] == -32602


@both
async def test_every_event_reaches_the_wire_and_no_tool_argument_does(team: Served, binding: str) -> None:
    client = await team.client(binding)
    seen = [MessageToDict(response) async for response in client.send_message(ask("everything"), context=team.call())]
    said = str(seen)
    assert "hidden" not in said
    progress = [update["statusUpdate"]["metadata"] for update in seen if "metadata" in update.get("statusUpdate", {})]
    assert [item["event"] for item in progress] == ["step", "tool_call", "tool_result", "step"]
    task = await client.get_task(GetTaskRequest(id=seen[0]["task"]["id"]), context=team.call())
    results = {artifact.artifact_id: MessageToDict(artifact.parts[0]) for artifact in task.artifacts}
    assert results["report"] == {"text": "# Report", "mediaType": "text/markdown"}
    assert results["numbers"]["data"] == {"a": [1, 2.5, None]}
    assert results["p1"]["data"]["target"] == "brand"
    assert results["p1"]["data"]["requirements"] == ["blue"]
    assert MessageToDict(task.metadata) == {"usage": {"input_tokens": 3, "output_tokens": 4, "cost_usd": "0"}}


@both
async def test_the_same_message_three_times_at_once_is_one_run(team: Served, binding: str) -> None:
    tasks = await asyncio.gather(*(send(team, ask("count 3"), binding) for _ in range(3)))
    assert len({task.id for task in tasks}) == 1
    assert {text_of(task) for task in tasks} == {"0 1 2 "}
    assert team.adapter.started == 1
    with pytest.raises(InvalidParamsError, match="different request"):
        await send(team, ask("count 4"), binding)


@both
async def test_nobody_sees_anothers_task(team: Served, binding: str) -> None:
    client = await team.client(binding)
    mine = await send(team, ask("ask me"), binding)
    errors: set[tuple[str, str]] = set()
    for task_id in (mine.id, "absent"):
        for call in (
            lambda id_: client.get_task(GetTaskRequest(id=id_), context=team.call("bob")),
            lambda id_: client.cancel_task(CancelTaskRequest(id=id_), context=team.call("bob")),
            lambda id_: send(team, ask("blue", "m9", task_id=id_), binding, "bob"),
            lambda id_: anext(aiter(client.subscribe(SubscribeToTaskRequest(id=id_), context=team.call("bob")))),
        ):
            with pytest.raises(A2AError) as caught:
                await call(task_id)
            assert isinstance(caught.value, TaskNotFoundError)
            errors.add((type(caught.value).__name__, caught.value.message.replace(task_id, "ID")))
    assert len(errors) == 1, "another's task and an absent one answer the same"
    listed = await client.list_tasks(ListTasksRequest(), context=team.call("bob"))
    assert listed.total_size == 0
    theirs = await send(team, ask("hello"), binding, "bob")
    assert theirs.id != mine.id, "the same message id of another person is another message"


@both
async def test_tasks_are_listed_in_pages(team: Served, binding: str) -> None:
    for index in range(5):
        await send(team, ask("hello", f"m{index}", context_id=f"c{index % 2}"), binding)
    await send(team, ask("ask me", "m9"), binding)
    client = await team.client(binding)
    ids: list[str] = []
    times: list[int] = []
    token = ""
    while True:
        page = await client.list_tasks(ListTasksRequest(page_size=4, page_token=token), context=team.call())
        assert page.total_size == 6
        assert not any(task.artifacts for task in page.tasks)
        ids += [task.id for task in page.tasks]
        times += [task.status.timestamp.ToNanoseconds() for task in page.tasks]
        token = page.next_page_token
        if not token:
            break
    assert len(set(ids)) == len(ids) == 6
    assert times == sorted(times, reverse=True)
    since = ListTasksRequest(history_length=0)
    since.status_timestamp_after.FromNanoseconds(times[1])
    latest = await client.list_tasks(since, context=team.call())
    assert [(task.id, len(task.history)) for task in latest.tasks] == [(ids[0], 0), (ids[1], 0)]
    waiting = ListTasksRequest(status=TaskState.TASK_STATE_INPUT_REQUIRED, include_artifacts=True)
    assert [task.id for task in (await client.list_tasks(waiting, context=team.call())).tasks] == [ids[0]]
    assert (await client.list_tasks(ListTasksRequest(context_id="c0"), context=team.call())).total_size == 3
    auth = ListTasksRequest(status=TaskState.TASK_STATE_AUTH_REQUIRED)
    assert (await client.list_tasks(auth, context=team.call())).total_size == 0


async def test_a_team_that_does_not_stream_says_so(serve: Serve) -> None:
    team: Served = await serve(stream=False)
    params = {"message": {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}}
    assert (await team.rpc("SendStreamingMessage", params))["error"]["code"] == -32004
    client = await team.client()
    responses = [response async for response in client.send_message(ask("hello"), context=team.call())]
    assert text_of(responses[0].task) == "you said: hello"


async def test_work_that_goes_in_a_circle_or_too_deep_is_refused(team: Served) -> None:
    for chain, said in ((["painting", "brand"], "circle"), (["a", "b", "c"], "depth")):
        request = ask("hello")
        request.message.metadata.update({"urn:elf:a2a:delegation:v1": {"chain": chain}})
        with pytest.raises(InvalidParamsError, match=said):
            await send(team, request)
    request = ask("hello")
    request.message.metadata.update({"urn:elf:a2a:delegation:v1": {"chain": ["a"], "delegation_id": "d1"}})
    task = await send(team, request)
    run = await team.engine.log.get(task.id)
    assert run is not None
    assert run.request.metadata == {"message_id": "m1", "chain": ["a"], "delegation_id": "d1"}


async def test_a_03_client_is_answered(team: Served) -> None:
    message = {"kind": "message", "messageId": "m1", "role": "user", "parts": [{"kind": "text", "text": "hello"}]}
    body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}
    headers = {"Authorization": f"Bearer {team.token()}"}
    response = await team.http.post(f"{team.url}/a2a/v1", json=body, headers=headers)
    result = response.json()["result"]
    assert (result["kind"], result["status"]["state"]) == ("task", "completed")
    assert result["artifacts"][0]["parts"][0]["text"] == "you said: hello"
    for method, params, code in (
        ("tasks/get", {"id": "absent"}, -32001),
        ("message/send", {"message": 1}, -32600),
        ("SendMessage", {"message": message}, -32009),
    ):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        response = await team.http.post(f"{team.url}/a2a/v1", json=body, headers=headers)
        assert response.json()["error"]["code"] == code

"""A2A over gRPC: the SDK's own client, and plain stubs where it would not say what is asked."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from a2a.client import Client, ClientCallContext, ClientConfig, ClientFactory
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    TaskState,
    a2a_pb2,
)
from a2a.utils.errors import InvalidParamsError, TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError
from google.protobuf.json_format import ParseDict
from starlette.requests import Request

from elf_sdk.errors import BadInput, Retryable
from elf_sdk.runs.events import TextDelta
from elf_sdk.server.a2a.card import TEAM, agent_card, extended_card
from elf_sdk.server.a2a.routes import a2a_grpc
from elf_sdk.server.auth import Principal, Verifier, bearer_token
from elf_sdk.server.dev import mounted
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Member
from elf_sdk.testing import ScriptedAdapter, serve
from tests.a2a.conftest import ENVIRONMENT, ORGANISATION, SECRET, Serve, Served, ask

grpc = pytest.importorskip("grpc", reason="gRPC is not installed; pip install 'elf-sdk[grpc]'")
from a2a.types import a2a_pb2_grpc  # noqa: E402 - loads grpc
from google.rpc import error_details_pb2, status_pb2  # noqa: E402

MAX_MESSAGE = 100_000


@asynccontextmanager
async def over_grpc(team: Served) -> AsyncIterator[str]:
    """Serve a team's A2A over gRPC too; gives its address."""
    verifier = Verifier(SECRET, ORGANISATION, ENVIRONMENT, team.engine.spec.name)

    async def authenticate(request: Request) -> Principal:
        return await verifier.identify(bearer_token(request.headers.get("authorization")))

    service = a2a_grpc(
        team.engine,
        authenticate,
        lambda: extended_card(
            agent_card(team.engine.spec, team.adapter.capabilities, team.url),
            team.engine.spec,
            team.adapter.capabilities,
        ),
        host="127.0.0.1",
        port=0,
        callers=frozenset({"executive"}),
        max_message=MAX_MESSAGE,
    )
    await service.start()
    try:
        yield f"127.0.0.1:{service.port}"
    finally:
        await service.stop(1)


@pytest.fixture
async def address(team: Served) -> AsyncIterator[str]:
    async with over_grpc(team) as address:
        yield address


@pytest.fixture
async def stub(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield stub_on(channel)


@pytest.fixture
async def client(team: Served, address: str) -> AsyncIterator[Client]:
    """The official client, sent to gRPC by the card."""
    async with client_of(team, address) as client:
        yield client


@asynccontextmanager
async def client_of(team: Served, address: str) -> AsyncIterator[Client]:
    card = ParseDict(
        agent_card(team.engine.spec, team.adapter.capabilities, team.url, grpc_address=address),
        AgentCard(),
        ignore_unknown_fields=True,
    )
    config = ClientConfig(
        httpx_client=team.http,
        grpc_channel_factory=grpc.aio.insecure_channel,
        supported_protocol_bindings=["GRPC"],
        use_client_preference=True,
    )
    client = ClientFactory(config).create(card)
    try:
        yield client
    finally:
        await client.close()


def stub_on(channel: Any) -> Any:
    return a2a_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]


def metadata(token: str, version: str = "1.0") -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"), ("a2a-version", version))


def text_of(responses: list[StreamResponse]) -> str:
    return "".join(part.text for response in responses for part in response.artifact_update.artifact.parts)


def details_of(error: Any) -> tuple[Any, Any]:
    """ErrorInfo and BadRequest (None where there is none) of a refused call."""
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(packed)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert info.domain == "a2a-protocol.org"
    return info, bad_request if len(status.details) > 1 and status.details[1].Unpack(bad_request) else None


async def test_a_message_streams_to_its_end_and_is_found_again(team: Served, client: Client) -> None:
    responses = [response async for response in client.send_message(ask("count 3"), context=team.call())]
    assert responses[0].HasField("task")
    assert text_of(responses) == "0 1 2 "
    assert responses[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    task_id = responses[0].task.id
    task = await client.get_task(GetTaskRequest(id=task_id), context=team.call())
    assert task.artifacts[0].parts[0].text == "0 1 2 "
    page = await client.list_tasks(ListTasksRequest(page_size=5), context=team.call())
    assert ([task.id for task in page.tasks], page.total_size) == ([task_id], 1)
    again = [response async for response in client.send_message(ask("count 3"), context=team.call())]
    assert [response.task.id for response in again] == [task_id]
    assert team.adapter.started == 1


async def test_a_message_without_a_stream_waits_for_the_answer(team: Served, stub: Any) -> None:
    answer = await stub.SendMessage(ask("everything"), metadata=metadata(team.token()))
    assert answer.task.status.state == TaskState.TASK_STATE_COMPLETED
    numbers = next(artifact for artifact in answer.task.artifacts if artifact.name == "numbers")
    assert numbers.parts[0].data.struct_value["a"][1] == 2.5


async def test_a_question_is_asked_and_answered(team: Served, client: Client) -> None:
    asked = [response async for response in client.send_message(ask("ask me"), context=team.call())]
    status = (await client.get_task(GetTaskRequest(id=asked[0].task.id), context=team.call())).status
    assert (status.state, status.message.parts[0].text) == (TaskState.TASK_STATE_INPUT_REQUIRED, "Which colour?")
    answer = ask("blue", "m2", task_id=asked[0].task.id)
    answered = [response async for response in client.send_message(answer, context=team.call())]
    assert text_of(answered) == "painted blue"


async def test_a_subscription_follows_and_a_cancel_ends_it(team: Served, client: Client) -> None:
    first = [response async for response in _some(client.send_message(ask("wait"), context=team.call()), 2)]
    task_id = first[0].task.id
    subscription = client.subscribe(SubscribeToTaskRequest(id=task_id), context=team.call())
    assert (await anext(subscription)).task.status.state == TaskState.TASK_STATE_WORKING
    cancelled = await client.cancel_task(CancelTaskRequest(id=task_id), context=team.call())
    assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
    rest = [response async for response in subscription]
    assert rest[-1].status_update.status.state == TaskState.TASK_STATE_CANCELED
    assert team.adapter.cancelled.is_set()
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(CancelTaskRequest(id=task_id), context=team.call())
    with pytest.raises(UnsupportedOperationError):
        async for _ in client.subscribe(SubscribeToTaskRequest(id=task_id), context=team.call()):
            pass


async def _some(responses: AsyncIterator[StreamResponse], number: int) -> AsyncIterator[StreamResponse]:
    for _ in range(number):
        yield await anext(responses)


async def test_a_deadline_ends_the_call_and_not_the_task(team: Served, client: Client, stub: Any) -> None:
    short = ClientCallContext(service_parameters=team.call().service_parameters, timeout=0.3)
    with pytest.raises(Exception, match="timed out"):
        async for _ in client.send_message(ask("wait"), context=short):
            pass
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await stub.SendMessage(ask("wait"), metadata=metadata(team.token()), timeout=0.2)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not team.adapter.cancelled.is_set()
    team.adapter.gate.set()
    answer = await stub.SendMessage(ask("wait"), metadata=metadata(team.token()))
    assert answer.task.artifacts[0].parts[0].text == "first second"
    assert team.adapter.started == 1


async def test_anothers_task_is_as_one_that_is_not_there(team: Served, client: Client) -> None:
    (response,) = [r async for r in _some(client.send_message(ask("hello"), context=team.call()), 1)]
    said = set()
    for task_id, user in ((response.task.id, "eve"), ("absent", "ada")):
        for call in (
            client.get_task(GetTaskRequest(id=task_id), context=team.call(user)),
            client.cancel_task(CancelTaskRequest(id=task_id), context=team.call(user)),
            anext(client.subscribe(SubscribeToTaskRequest(id=task_id), context=team.call(user))),
        ):
            with pytest.raises(TaskNotFoundError) as refused:
                await call
            said.add(str(refused.value).replace(task_id, "ID"))
    assert len(said) == 1
    assert not (await client.list_tasks(ListTasksRequest(), context=team.call("eve"))).tasks


@pytest.mark.parametrize("method", ["GetTask", "SubscribeToTask"])
async def test_who_may_not_is_refused(team: Served, stub: Any, method: str) -> None:
    team_name = team.engine.spec.name
    refused = {
        "": "UNAUTHENTICATED",
        "nonsense": "UNAUTHENTICATED",
        team.issuer.user_token("ada", "brand"): "PERMISSION_DENIED",
        team.issuer.team_token("marketing", team_name): "PERMISSION_DENIED",
    }
    request = GetTaskRequest if method == "GetTask" else SubscribeToTaskRequest
    for token, status in refused.items():
        call = getattr(stub, method)(request(id="x"), metadata=metadata(token) if token else ())
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await (call if method == "GetTask" else call.read())
        assert error.value.code() is grpc.StatusCode[status]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.GetTask(GetTaskRequest(id="x"), metadata=metadata(team.issuer.team_token("executive", team_name)))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_errors_carry_their_details(team: Served, stub: Any) -> None:
    async def refusal(method: str, request: Any, version: str = "1.0") -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await getattr(stub, method)(request, metadata=metadata(team.token(), version))
        return error.value

    absent = await refusal("GetTask", GetTaskRequest(id="absent"))
    assert absent.code() is grpc.StatusCode.NOT_FOUND
    assert details_of(absent)[0].reason == "TASK_NOT_FOUND"

    empty = await refusal("SendMessage", SendMessageRequest())
    assert empty.code() is grpc.StatusCode.INVALID_ARGUMENT
    info, bad_request = details_of(empty)
    assert info.reason == "INVALID_PARAMS"
    assert [violation.field for violation in bad_request.field_violations] == ["message"]

    old = await refusal("GetTask", GetTaskRequest(id="absent"), "0.3")
    assert old.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details_of(old)[0].reason == "VERSION_NOT_SUPPORTED"

    file = SendMessageRequest(message=Message(message_id="m", role="ROLE_USER", parts=[Part(raw=b"x")]))
    unwanted = await refusal("SendMessage", file)
    assert unwanted.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(unwanted)[0].reason == "CONTENT_TYPE_NOT_SUPPORTED"


async def test_the_extended_card_is_for_those_who_may_call(team: Served, stub: Any) -> None:
    asked = a2a_pb2.GetExtendedAgentCardRequest()
    card = await stub.GetExtendedAgentCard(asked, metadata=metadata(team.token()))
    assert TEAM in [extension.uri for extension in card.capabilities.extensions]
    assert {interface.url for interface in card.supported_interfaces} == {f"{team.url}/a2a/v1"}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.GetExtendedAgentCard(asked, metadata=metadata("nonsense"))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_caller_who_cannot_be_told_now_is_to_come_again(team: Served) -> None:
    async def authenticate(request: Request) -> Principal:
        raise Retryable("the keys of the issuer cannot be read now")

    service = a2a_grpc(team.engine, authenticate, dict, host="127.0.0.1", port=0)
    await service.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub_on(channel).GetTask(GetTaskRequest(id="t"), metadata=metadata(team.token()))
    finally:
        await service.stop(1)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    info, _ = details_of(refused.value)
    assert info.metadata["retryable"] == "true"


async def test_nonsense_is_refused_and_floods_no_log(
    team: Served, address: str, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = "/lf.a2a.v1.A2AService/"
    not_a_number = ParseDict({"message": {"messageId": "m", "parts": [{"data": 1}]}}, SendMessageRequest())
    not_a_number.message.parts[0].data.number_value = float("nan")
    async with grpc.aio.insecure_channel(address) as channel:
        for method, body, status in (
            ("GetTask", b"\xff\xff\xff", "INVALID_ARGUMENT"),
            ("SendMessage", not_a_number.SerializeToString(), "INVALID_ARGUMENT"),
            ("GetTask", b"x" * (MAX_MESSAGE + 1), "RESOURCE_EXHAUSTED"),
            ("NoSuchMethod", b"", "UNIMPLEMENTED"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await channel.unary_unary(path + method)(body, metadata=metadata(team.token()))
            assert error.value.code() is grpc.StatusCode[status], (method, error.value)
    with pytest.raises(InvalidParamsError, match="text"):
        async for _ in client.send_message(ask("  "), context=team.call()):
            pass
    assert [record.message for record in caplog.records if record.name.startswith(("elf", "grpc"))] == []


async def test_stopping_ends_streams_and_leaves_their_tasks(serve: Serve) -> None:
    team: Served = await serve()
    async with AsyncExitStack() as stack:
        async with over_grpc(team) as address:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            stream = stub_on(channel).SendStreamingMessage(ask("wait"), metadata=metadata(team.token()))
            task_id = (await stream.read()).task.id
            await team.adapter.working.wait()
            reading = asyncio.create_task(_read_to_the_end(stream))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await reading
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    team.adapter.gate.set()
    message = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "wait"}]}
    answer = await team.rpc("SendMessage", {"message": message})
    assert answer["result"]["task"]["id"] == task_id
    assert answer["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def _read_to_the_end(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_a_taken_port_is_said_so(team: Served, address: str) -> None:
    port = int(address.rpartition(":")[2])
    with pytest.raises(BadInput, match=f"cannot listen for gRPC on 127.0.0.1:{port}"):
        a2a_grpc(team.engine, lambda request: pytest.fail("not called"), dict, host="127.0.0.1", port=port)


async def test_a_team_server_serves_it_where_the_settings_say_so(tmp_path: Any) -> None:
    class Painting(TeamServer):
        adapter = ScriptedAdapter({"*": (TextDelta("done"),)})

    spec = TeamSpec(name="painting", members=(Member(role="painter", is_manager=True),))
    settings = Settings(store=str(tmp_path / "elf.db"), grpc_port=0)
    async with serve(Painting(spec), settings=settings) as served, httpx.AsyncClient() as http:
        headers = served.headers("ada", "painting")
        card = (await http.get(served.address + "/.well-known/agent-card.json")).json()
        (address,) = [item["url"] for item in card["supportedInterfaces"] if item["protocolBinding"] == "GRPC"]
        assert address.startswith("127.0.0.1:")
        async with grpc.aio.insecure_channel(address) as channel:
            call = stub_on(channel).SendMessage(
                ask("hello"), metadata=(("authorization", headers["Authorization"]), ("a2a-version", "1.0"))
            )
            assert (await call).task.artifacts[0].parts[0].text == "done"
    two = (Painting(spec), Painting(spec.model_copy(update={"name": "brand"})))
    with pytest.raises(BadInput, match="ELF_GRPC_PORT is one port"):
        mounted(two, Settings(grpc_port=50051), None, lambda: None)
    public = Settings(store=str(tmp_path / "other.db"), grpc_port=0, grpc_address="grpc.example.com:443")
    async with serve(Painting(spec), settings=public) as served, httpx.AsyncClient() as http:
        card = (await http.get(served.address + "/.well-known/agent-card.json")).json()
        assert card["supportedInterfaces"][-1]["url"] == "grpc.example.com:443"


def test_grpc_loads_only_where_it_is_on_and_its_absence_is_said() -> None:
    code = """
import sys
import elf_sdk.server.team_server
from elf_sdk.errors import Missing
from elf_sdk.server.a2a.routes import a2a_grpc
assert not [name for name in sys.modules if name.partition(".")[0] in ("grpc", "a2a", "google")]


sys.path[:] = [path for path in sys.path if "site-packages" not in path]
try:
    a2a_grpc(None, None, None, host="127.0.0.1", port=0)
except Missing as error:
    assert "pip install 'elf-sdk[grpc]'" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)

"""The chat, over a real WebSocket, with real teams behind it."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from dataclasses import replace

import httpx
import jsonschema_rs
import pytest

from elf_sdk import FunctionAdapter, FunctionContext
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext
from elf_sdk.runs.events import AuthRequired, Event, Failed, InputRequired, Rewound, Step, TextDelta
from elf_sdk.server.chat.session import ChatSession
from elf_sdk.server.preview import Preview
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.testing import serve
from tests.server.conftest import boss, both_stores, chat, scripted, team, worker


@both_stores
async def test_a_conversation(settings: Settings) -> None:
    slowly = (TextDelta("one "), 0.2, TextDelta("two "), 0.2, TextDelta("three"))
    async with serve(boss({"count": slowly}), settings=settings) as served, chat(served) as client:
        greeting = await client.receive()
        assert greeting["type"] == "greeting"
        assert (greeting["team"], greeting["manager"]) == ("boss", "Head")
        assert "made-up" in greeting["message"]
        assert await client.ask("count") == "one two three"
        deltas = [frame["delta"] for frame in client.seen if frame["type"] == "message"]
        assert deltas == ["one ", "two ", "three", ""]
        assert await client.ask("hello") == "you said: hello"
        await client.send("/end")
        ended = await client.until("session_ended")
        assert ended == {
            "type": "session_ended",
            "summary": "2 messages, 0 delegations confirmed",
            "reason": "ended by the user",
        }
        assert await client.closed() == (1000, "ended by the user")


async def test_the_team_remembers_the_conversation_and_nobody_elses(settings: Settings) -> None:
    server = boss()
    async with serve(server, settings=settings) as served:
        async with chat(served) as ada, chat(served, user="bob") as bob:
            await ada.ask("my name is Ada")
            await bob.ask("my name is Bob")
            await ada.ask("who am I?")
        history = await scripted(server).contexts[-1].history()
    assert [(turn.role, turn.text) for turn in history] == [
        ("user", "my name is Ada"),
        ("team", "you said: my name is Ada"),
    ]


@both_stores
async def test_a_delegation_from_preview_to_result(settings: Settings) -> None:
    manager, hands = boss(), worker()
    async with serve(manager, hands, settings=settings) as served, chat(served) as client:
        await client.ask("delegate")
        preview = next(frame for frame in client.seen if frame["type"] == "delegation_preview")
        assert preview["target_title"] == "The Worker"
        assert preview["route"] == ["boss", "worker"]
        assert (preview["title"], preview["requirements"], preview["deadline"]) == ("Write it", ["short"], "Friday")
        assert scripted(hands).contexts == [], "nothing is sent before it is confirmed"

        await client.send({"type": "confirm", "hash": preview["hash"]})
        done = await client.until("delegation_update", state="finished")
        assert done["result"] == "Here it is."
        streamed = [frame.get("delta", "") for frame in client.seen if frame["type"] == "delegation_update"]
        assert "".join(streamed) == "Here it is."

        [work] = scripted(hands).contexts
        assert work.text == (
            "Write it\n\nAll of it.\n\nRequirements:\n- short\n\nSuccess criteria:\n- it is read\n\nDeadline: Friday"
        )
        assert work.owner.subject == "team:boss", "the user's own token is not handed on"

        await client.ask("and?")
        history = await scripted(manager).contexts[-1].history()
        assert history[-1].text == "worker returned, for 'Write it':\nHere it is."


@both_stores
async def test_confirming_again_and_again_runs_it_once(settings: Settings) -> None:
    hands = worker()
    async with serve(boss(), hands, settings=settings) as served, chat(served) as client:
        await client.ask("delegate")
        preview = next(frame for frame in client.seen if frame["type"] == "delegation_preview")
        for _ in range(5):
            await client.send(preview["confirm_with"])
        await client.until("delegation_update", state="finished")
        await client.send(preview["confirm_with"])
        await client.until("delegation_update", state="finished")
        await client.send("/end")
        assert (await client.until("session_ended"))["summary"] == "1 message, 1 delegation confirmed"
    assert len(scripted(hands).contexts) == 1


async def test_what_was_rejected_cannot_be_confirmed(settings: Settings) -> None:
    hands = worker()
    async with serve(boss(), hands, settings=settings) as served, chat(served) as client:
        await client.ask("delegate")
        preview = next(frame for frame in client.seen if frame["type"] == "delegation_preview")
        await client.send(preview["reject_with"] + " not now")
        assert (await client.until("delegation_update"))["state"] == "rejected"
        await client.send(preview["confirm_with"])
        error = await client.until("error")
        assert (error["code"], error["message"]) == ("Conflict", "the delegation 'Write it' is rejected already")
    assert scripted(hands).contexts == []


@pytest.mark.parametrize("digest", ["0" * 8, "f" * 64])
async def test_only_what_was_shown_here_can_be_confirmed(settings: Settings, digest: str) -> None:
    hands = worker()
    async with serve(boss(), hands, settings=settings) as served:
        async with chat(served) as ada, chat(served, user="bob") as bob:
            await ada.ask("delegate")
            preview = next(frame for frame in ada.seen if frame["type"] == "delegation_preview")
            for client, code in ((ada, digest), (bob, preview["hash"])):
                await client.send({"type": "confirm", "hash": code})
                error = await client.until("error")
                assert "no delegation was shown here" in error["message"]
    assert scripted(hands).contexts == []


async def test_the_same_proposal_in_another_session_has_another_hash(settings: Settings) -> None:
    hashes = set()
    async with serve(boss(), worker(), settings=settings) as served:
        for user in ("ada", "ada", "bob"):
            async with chat(served, user=user) as client:
                await client.ask("delegate")
                hashes |= {frame["hash"] for frame in client.seen if frame["type"] == "delegation_preview"}
    assert len(hashes) == 3


async def test_a_team_cannot_propose_work_to_one_that_it_does_not_manage(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served, chat(served) as client:
        await client.ask("delegate")
        [error] = [frame for frame in client.seen if frame["type"] == "error"]
        assert error["message"] == "boss does not manage 'worker', so nothing can be delegated to it"
        assert not [frame for frame in client.seen if frame["type"] == "delegation_preview"]


async def test_without_confirmation_in_the_policy_it_is_sent_at_once(settings: Settings) -> None:
    manager = boss(delegation={"confirmation": False})
    async with serve(manager, worker(), settings=settings) as served, chat(served) as client:
        await client.send("delegate")
        assert (await client.until("delegation_update", state="finished"))["result"] == "Here it is."


async def test_without_preview_in_the_policy_nothing_is_shown_before(settings: Settings) -> None:
    manager = boss(delegation={"confirmation": False, "preview": False})
    async with serve(manager, worker(), settings=settings) as served, chat(served) as client:
        await client.send("delegate")
        assert (await client.until("delegation_update", state="finished"))["result"] == "Here it is."
    assert "delegation_preview" not in {frame["type"] for frame in client.seen}


@both_stores
async def test_what_was_confirmed_survives_the_server_and_runs_once(settings: Settings) -> None:
    nowhere = replace(settings, team_url="http://127.0.0.1:9/teams/{team}")
    hands = worker()
    async with serve(boss(), hands, settings=nowhere) as served, chat(served) as client:
        await client.ask("delegate")
        preview = next(frame for frame in client.seen if frame["type"] == "delegation_preview")
        await client.send(preview["confirm_with"])
        waits = await client.until("delegation_update", state="confirmed")
        while "trying again" not in waits["detail"]:
            waits = await client.until("delegation_update", state="confirmed")
    assert scripted(hands).contexts == []
    async with serve(boss(), hands, settings=settings):
        async with asyncio.timeout(20):
            while not scripted(hands).closed:  # noqa: ASYNC110 - the other team is another process in real life
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
    async with serve(boss(), hands, settings=settings):
        await asyncio.sleep(0.5)
    assert len(scripted(hands).contexts) == 1


@pytest.mark.parametrize("switch", [None, False, True])
async def test_beyond_dev_a_token_in_the_address_is_refused_unless_switched_on(
    settings: Settings, switch: bool | None
) -> None:
    staging = replace(settings, environment="staging", jwt_secret="s" * 32, query_token=switch)
    async with serve(boss(), settings=staging) as served:
        token = served.issuer.user_token("ada", "boss")
        async with chat(served, query=f"?token={token}") as client:
            if switch:
                assert (await client.receive())["type"] == "greeting"
            else:
                code, reason = await client.closed()
                assert (code, client.seen) == (4401, [])
                assert "Authorization header" in reason
        async with chat(served) as client:
            assert (await client.receive())["type"] == "greeting"


async def test_a_delegation_that_fails_says_why(settings: Settings) -> None:
    hands = worker({"*": (ValueError("no paper left"),)})
    async with serve(boss(), hands, settings=settings) as served, chat(served) as client:
        await client.ask("delegate")
        preview = next(frame for frame in client.seen if frame["type"] == "delegation_preview")
        await client.send(preview["confirm_with"])
        assert "no paper left" in (await client.until("delegation_update", state="failed"))["detail"]


@both_stores
async def test_stop_really_stops(settings: Settings) -> None:
    server = boss({"long": (TextDelta("well"), 60.0)})
    async with serve(server, settings=settings) as served, chat(served) as client:
        await client.send("long")
        await client.until("message", delta="well")
        await client.send("/stop")
        assert (await client.until("status", state="cancelled"))["detail"] == "stopped by the user"
        await client.until("message", done=True)
        assert len(scripted(server).closed) == 1
        assert await client.ask("still there?") == "you said: still there?"


async def test_a_failed_run_is_an_error_and_the_session_goes_on(settings: Settings) -> None:
    async with serve(boss({"boom": (ValueError("the lamp broke"),)}), settings=settings) as served:
        async with chat(served) as client:
            await client.ask("boom")
            [error] = [frame for frame in client.seen if frame["type"] == "error"]
            assert error["code"] == "team"
            assert "the lamp broke" in error["message"]
            assert await client.ask("hello") == "you said: hello"


async def test_an_adapter_that_ends_a_run_itself_is_at_fault(settings: Settings) -> None:
    async with serve(boss({"boom": (Failed("mine", "my own end"),)}), settings=settings) as served:
        async with chat(served) as client:
            await client.ask("boom")
            [error] = [frame for frame in client.seen if frame["type"] == "error"]
            assert "only the engine ends a run" in error["message"]


async def test_a_disconnect_does_not_stop_a_run(settings: Settings) -> None:
    server = boss({"long": (TextDelta("well"), 0.5, TextDelta(" done"))})
    async with serve(server, settings=settings) as served:
        async with chat(served) as client:
            await client.send("long")
            await client.until("message", delta="well")
        async with httpx.AsyncClient() as http, asyncio.timeout(10):
            status = {"runs": {"working": 1}}
            while "working" in status["runs"]:
                await asyncio.sleep(0.05)
                status = (await http.get(f"{served.url('boss')}/status")).json()
    assert status["runs"] == {"finished": 1}


async def test_a_message_that_is_sent_again_with_its_id_is_not_run_again(settings: Settings) -> None:
    server = boss()
    async with serve(server, settings=settings) as served, chat(served) as client:
        for _ in range(3):
            await client.send({"type": "message", "text": "hi", "message_id": "m1"})
        await client.until("message", done=True)
        await client.ask("next")
    assert [ctx.text for ctx in scripted(server).contexts] == ["hi", "next"]


async def test_every_frame_is_as_the_published_schema_says(settings: Settings) -> None:
    async with serve(boss({"boom": (ValueError("x"),)}), worker(), settings=settings) as served:
        async with httpx.AsyncClient() as http:
            schemas = (await http.get(f"{served.url('boss')}/chat/schema.json")).json()
        async with chat(served) as client:
            for text in ("hello", "boom", "delegate"):
                await client.ask(text)
            preview = next(frame for frame in client.seen if frame["type"] == "delegation_preview")
            await client.send(preview["confirm_with"])
            await client.until("delegation_update", state="finished")
            await client.send("/nonsense")
            await client.until("error")
            await client.send({"type": "end"})
            await client.closed()
    valid = jsonschema_rs.validator_for(schemas["server"])
    assert {frame["type"] for frame in client.seen} == {
        "greeting",
        "message",
        "error",
        "delegation_preview",
        "delegation_update",
        "session_ended",
    }
    for frame in client.seen:
        valid.validate(frame)


# Who may.


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ("?nothing=1", 4401, "a token is needed; send it as `Authorization: Bearer <token>`"),
        ("?token=nonsense", 4401, "the token cannot be read: it has not three parts"),
        ("?token={worker}", 4403, "the token is not for the team 'boss' in this environment"),
        ("?token={guest}", 4403, "chatting with boss needs the role admin or user"),
        ("?token={team}", 4403, "chat is for people; a team calls by A2A"),
        ("?token={expired}", 4401, "the token has expired; get a new one"),
    ],
)
async def test_who_is_not_let_in(settings: Settings, query: str, code: int, reason: str) -> None:
    async with serve(boss(), settings=settings) as served:
        tokens = {
            "worker": served.issuer.user_token("ada", "worker"),
            "guest": served.issuer.user_token("ada", "boss", ("guest",)),
            "team": served.issuer.team_token("worker", "boss"),
            "expired": served.issuer.user_token("ada", "boss", lifetime=-60),
        }
        async with chat(served, query=query.format(**tokens)) as client:
            assert await client.closed() == (code, reason)
            assert client.seen == []


async def test_the_three_ways_to_bring_a_token(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served:
        token = served.issuer.user_token("ada", "boss")
        encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        async with chat(served) as client:
            assert (await client.receive())["type"] == "greeting"
        async with chat(served, query=f"?token={token}") as client:
            assert (await client.receive())["type"] == "greeting"
        async with chat(served, subprotocols=["elf.simple.v1", f"elf.bearer.{encoded}"]) as client:
            assert (await client.receive())["type"] == "greeting"
            assert client.socket.subprotocol == "elf.simple.v1"


async def test_foreign_pages_are_kept_out(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served:
        async with chat(served, headers={"Origin": "https://elsewhere.example"}) as client:
            code, reason = await client.closed()
            assert code == 4403
            assert "elsewhere.example" in reason
        async with chat(served, headers={"Origin": served.address}) as client:
            assert (await client.receive())["type"] == "greeting"


# Limits.


async def test_too_many_messages_a_minute(settings: Settings) -> None:
    async with serve(boss(chat={"messages_per_minute": 2}), settings=settings) as served, chat(served) as client:
        await client.ask("one")
        await client.ask("two")
        await client.send("three")
        assert (await client.until("error"))["message"] == "at most 2 messages a minute; wait a little"


@pytest.mark.parametrize(
    ("limits", "messages", "code"),
    [
        ({"max_messages_per_session": 2}, ["a", "b", "c"], 4429),
        ({"max_message_bytes": 10}, ["ä" * 6], 1009),
    ],
)
async def test_limits_that_end_a_session(
    settings: Settings, limits: dict[str, int], messages: list[str], code: int
) -> None:
    async with serve(boss(chat=limits), settings=settings) as served, chat(served) as client:
        for message in messages:
            await client.send(message)
        assert (await client.closed())[0] == code
        assert client.seen[-1]["type"] == "session_ended"


async def test_too_many_connections(settings: Settings) -> None:
    async with serve(boss(chat={"max_connections_per_user": 1}), settings=settings) as served:
        async with chat(served) as first:
            assert (await first.receive())["type"] == "greeting"
            async with chat(served) as second:
                assert (await second.closed())[0] == 4429
            async with chat(served, user="bob") as other:
                assert (await other.receive())["type"] == "greeting"
        async with chat(served) as again:
            assert (await again.receive())["type"] == "greeting"


async def test_a_binary_frame_ends_the_session(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served, chat(served) as client:
        await client.socket.send(b"\x00\x01")
        assert await client.closed() == (1009, "only text frames are understood")


async def test_a_server_that_stops_says_so(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served:
        client_context = chat(served)
        client = await client_context.__aenter__()
        await client.receive()
    assert (await client.closed())[0] == 1012
    await client_context.__aexit__(None, None, None)


# Hooks.


class Polite(TeamServer):
    async def on_chat_open(self, session: ChatSession) -> str:
        return f"Good day, {session.principal.name}."

    async def on_chat_close(self, session: ChatSession, reason: str) -> str:
        return f"Thank you ({reason})."

    async def on_delegate(self, preview: Preview) -> Preview:
        return replace(preview, title=preview.title.upper())


async def test_the_hooks_of_a_chat(settings: Settings) -> None:
    hands = worker()
    async with serve(boss(base=Polite), hands, settings=settings) as served, chat(served) as client:
        assert (await client.receive())["message"] == "Good day, ada."
        await client.ask("delegate")
        preview = next(frame for frame in client.seen if frame["type"] == "delegation_preview")
        assert preview["title"] == "WRITE IT"
        await client.send(preview["confirm_with"])
        await client.until("delegation_update", state="finished")
        assert scripted(hands).contexts[0].text.startswith("WRITE IT")
        await client.send("/end")
        assert (await client.until("session_ended"))["summary"] == "Thank you (ended by the user)."


async def book(ctx: FunctionContext) -> AsyncGenerator[str | Event, None]:
    yield "Let me see. "
    city = await ctx.ask("Which city?")
    if await ctx.ask(f"Book a room in {city}?") == "yes":
        yield f"Booked: {city}."


@both_stores
async def test_questions_are_shown_and_answered(settings: Settings) -> None:
    async with serve(team("boss", FunctionAdapter(book)), settings=settings) as served, chat(served) as client:
        await client.send("a room")
        asked = await client.until("question")
        assert (asked["prompt"], asked["answer_with"]) == ("Which city?", "/answer TEXT")
        named = {"run_id": asked["run_id"], "question_id": asked["question_id"]}
        await client.send({"type": "answer", "text": "Rome", **named})
        await client.until("question", prompt="Book a room in Rome?", run_id=asked["run_id"])
        await client.send("/answer yes")
        await client.until("message", done=True)
        said = [frame["delta"] for frame in client.seen if frame["type"] == "message"]
        assert "".join(said) == "Let me see. Booked: Rome."
        await client.send("/end")
        assert (await client.until("session_ended"))["summary"] == "3 messages, 0 delegations confirmed"


async def test_what_is_typed_beside_a_question_does_not_wait_for_the_answer(settings: Settings) -> None:
    asking = (InputRequired("q1", "Sure?"),)
    async with serve(boss({"ask": asking}), settings=settings) as served, chat(served) as client:
        await client.send("ask")
        await client.until("question")
        assert await client.ask("hello") == "you said: hello"
        assert [frame for frame in client.seen if frame.get("state") == "queued"] == []
        await client.send("/stop")
        await client.until("status", state="cancelled")
        await client.until("message", done=True)
        await client.send("/answer yes")
        assert (await client.until("error"))["code"] == "Conflict"


@pytest.mark.parametrize(
    ("frame", "code", "says"),
    [
        ("/answer yes", "Conflict", "nothing was asked here that is not answered; send it as a message"),
        ("/answer", "BadInput", "/answer needs the answer after it, such as /answer yes"),
        (
            {"type": "answer", "text": "yes", "question_id": "q1"},
            "BadInput",
            "frame: value error, a question is named by its run_id and its question_id; give both, or neither",
        ),
        (
            {"type": "answer", "text": "yes", "run_id": "r", "question_id": "q1"},
            "Conflict",
            "the run 'r' waits for no answer in this session",
        ),
    ],
)
async def test_an_answer_to_nothing_is_told(settings: Settings, frame: str, code: str, says: str) -> None:
    async with serve(boss(), settings=settings) as served, chat(served) as client:
        await client.send(frame)
        error = await client.until("error")
        assert (error["code"], error["message"]) == (code, says)


async def test_where_to_sign_in_is_shown(settings: Settings) -> None:
    asking = (AuthRequired("q1", "May I read your mail?", url="https://example.com/sign-in"),)
    async with serve(boss({"ask": asking}), settings=settings) as served, chat(served) as client:
        await client.send("ask")
        assert (await client.until("question"))["url"] == "https://example.com/sign-in"


class TwoAtOnce:
    """Asks two questions, and asks again for the one that has no answer yet."""

    name = "function"
    capabilities = AdapterCapabilities(stream=True, human=True, cancel="certain", recover=False)

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        for question_id in ("first", "second"):
            if question_id not in ctx.answers:
                yield InputRequired(question_id, f"{question_id}?")
        if len(ctx.answers) == 2:
            yield TextDelta(f"{ctx.answers['first']}, {ctx.answers['second']}")


async def test_questions_that_come_together_are_shown_one_after_the_other(settings: Settings) -> None:
    async with serve(team("boss", TwoAtOnce()), settings=settings) as served, chat(served) as client:
        await client.send("ask")
        await client.until("question", prompt="first?")
        await client.send("/answer one")
        await client.until("question", prompt="second?")
        await client.send("/answer two")
        await client.until("message", done=True)
    assert [frame["prompt"] for frame in client.seen if frame["type"] == "question"] == ["first?", "second?"]
    assert "".join(frame["delta"] for frame in client.seen if frame["type"] == "message") == "one, two"


class Rewinding:
    """Says something, asks, and takes part of it back once it is answered."""

    name = "function"
    capabilities = AdapterCapabilities(stream=True, human=True, cancel="certain", recover=False)

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        if not ctx.answers:
            yield TextDelta("It costs ")
            yield Step("guess")
            yield TextDelta("about nine.")
            yield InputRequired("q1", "Exactly?")
        else:
            first = next(logged.seq for logged in ctx.before if isinstance(logged.event, TextDelta))
            yield Rewound(first)
            yield TextDelta("9.50.")


async def test_what_became_void_is_replaced(settings: Settings) -> None:
    async with serve(team("boss", Rewinding()), settings=settings) as served, chat(served) as client:
        await client.send("price")
        await client.until("question")
        await client.send("/answer yes")
        await client.until("message", done=True)
    text = ""
    for frame in client.seen:
        if frame["type"] == "message":
            text = frame["delta"] if frame.get("replaces") else text + frame["delta"]
    assert text == "It costs 9.50."

"""The line of a run to its models, over real HTTP, in a loop and in a thread."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from elf_sdk.models import line as line_module
from elf_sdk.models.line import EndlessAnswer, Line
from elf_sdk.models.llm import Endpoint
from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import OfflineScript
from elf_sdk.server.services import Connections

BODY: dict[str, Any] = {"model": "alpha", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.2}
Ask = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def model() -> Iterator[OfflineModel]:
    with OfflineModel() as running:
        yield running


def _script(model: OfflineModel, team: str, *rules: dict[str, Any]) -> None:
    model.add(team, OfflineScript.model_validate({"rules": rules}))


def _endpoint(model: OfflineModel, team: str, name: str, **fields: Any) -> Endpoint:
    given: dict[str, Any] = {"timeout": 5.0, "retries": 1} | fields
    return Endpoint("openai", name, model.url(team), f"key-of-{name}", **given)


def _pair(model: OfflineModel, **fields: Any) -> Endpoint:
    second = _endpoint(model, "second", "beta", temperature=0.8)
    return _endpoint(model, "first", "alpha", fallbacks=(second,), **fields)


async def _in_loop(line: Line, body: dict[str, Any] = BODY, path: str = "/chat/completions") -> httpx.Response:
    async with line:
        return await line.asynchronous().post(f"{line.endpoint.base_url}{path}", json=body)


async def _in_thread(line: Line, body: dict[str, Any] = BODY, path: str = "/chat/completions") -> httpx.Response:
    try:
        return await asyncio.to_thread(line.synchronous().post, f"{line.endpoint.base_url}{path}", json=body)
    finally:
        line.close()


@pytest.fixture(params=[_in_loop, _in_thread], ids=["loop", "thread"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param  # type: ignore[no-any-return]


def _asked(model: OfflineModel) -> list[str]:
    return [request.team for request in model.requests]


def _said(response: httpx.Response) -> str:
    return str(response.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 429, "retry_after": 0},
        {"status": 408},
        {"reset_after": 0},
        {"hang_after": 0},
    ],
    ids=["503", "429", "408", "reset", "hang"],
)
async def test_what_passes_is_tried_again(ask: Ask, model: OfflineModel, fault: dict[str, Any], stream: bool) -> None:
    _script(model, "first", {"say": "x", "fault": fault | {"times": 1}}, {"say": "Here."})
    response = await ask(Line(_endpoint(model, "first", "alpha", timeout=0.5)), BODY | {"stream": stream})
    assert response.status_code == 200
    assert "Here." in response.text
    assert len(model.requests) == 2


async def test_a_reset_in_an_answer_that_nobody_has_seen_is_tried_again(ask: Ask, model: OfflineModel) -> None:
    _script(model, "first", {"say": "a b c", "fault": {"reset_after": 2, "times": 1}}, {"say": "Here."})
    assert _said(await ask(Line(_endpoint(model, "first", "alpha")))) == "Here."


async def test_what_was_handed_on_is_not_asked_for_again(ask: Ask, model: OfflineModel) -> None:
    _script(model, "first", {"say": "a b c", "fault": {"reset_after": 2}}, {"say": "Here."})
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(Line(_pair(model)), BODY | {"stream": True})
    assert _asked(model) == ["first"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_fallback_gets_the_request_with_its_own_address_key_model_and_temperature(
    ask: Ask, model: OfflineModel, stream: bool
) -> None:
    _script(model, "first", {"fault": {"status": 500}})
    _script(model, "second", {"say": "Instead."})
    line = Line(_pair(model))
    assert "Instead." in (await ask(line, BODY | {"stream": stream})).text
    assert [(r.team, r.key, r.body["model"], r.body["temperature"]) for r in model.requests] == [
        ("first", "key-of-alpha", "alpha", 0.2),
        ("first", "key-of-alpha", "alpha", 0.2),
        ("second", "key-of-beta", "beta", 0.8),
    ]
    assert line.named("beta") == ("beta", "openai")
    assert line.named() == ("beta", "openai")


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_model_that_is_gone_is_left_at_once(ask: Ask, model: OfflineModel, status: int) -> None:
    _script(model, "first", {"fault": {"status": status}})
    _script(model, "second", {"say": "Instead."})
    assert _said(await ask(Line(_pair(model)))) == "Instead."
    assert _asked(model) == ["first", "second"]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_wrong_request_goes_nowhere_else(ask: Ask, model: OfflineModel, status: int) -> None:
    _script(model, "first", {"fault": {"status": status, "message": "No."}})
    response = await ask(Line(_pair(model)))
    assert (response.status_code, response.json()["error"]["message"]) == (status, "No.")
    assert _asked(model) == ["first"]


async def test_a_model_that_is_not_there_has_a_fallback(ask: Ask, model: OfflineModel) -> None:
    _script(model, "second", {"say": "Instead."})
    first = replace(_pair(model, retries=0), base_url="http://127.0.0.1:9/v1")
    assert _said(await ask(Line(first))) == "Instead."


async def test_the_last_failure_is_handed_on_with_who_it_was(ask: Ask, model: OfflineModel) -> None:
    _script(model, "first", {"fault": {"status": 503}})
    _script(model, "second", {"fault": {"status": 401}})
    response = await ask(Line(_pair(model, retries=0)))
    assert response.status_code == 401
    assert response.request.url.path == "/second/v1/chat/completions"


async def test_a_wait_that_is_longer_than_what_is_left_is_not_begun(ask: Ask, model: OfflineModel) -> None:
    _script(model, "first", {"fault": {"status": 429, "retry_after": 30}})
    begun = time.monotonic()
    response = await ask(Line(_endpoint(model, "first", "alpha"), begun + 20))
    assert (response.status_code, response.headers["retry-after"]) == (429, "30")
    assert time.monotonic() - begun < 10
    assert len(model.requests) == 1


async def test_a_model_that_hangs_is_not_waited_for_beyond_the_deadline(ask: Ask, model: OfflineModel) -> None:
    _script(model, "first", {"fault": {"hang_after": 0}})
    begun = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        await ask(Line(_endpoint(model, "first", "alpha", timeout=60.0), begun + 0.5), BODY | {"stream": True})
    assert time.monotonic() - begun < 10


async def test_other_requests_have_no_fallback(ask: Ask, model: OfflineModel) -> None:
    line = Line(_pair(model))
    assert (await ask(line, {}, "/embeddings")).status_code == 404
    assert not model.requests


async def test_an_address_of_the_teams_own_code_gets_no_key_of_ours(model: OfflineModel) -> None:
    _script(model, "other", {"say": "Mine."})
    async with Line(_pair(model)) as line:
        url = f"{model.url('other')}/chat/completions"
        headers = {"Authorization": "Bearer theirs"}
        assert _said(await line.asynchronous().post(url, json=BODY, headers=headers)) == "Mine."
    assert [request.key for request in model.requests] == ["theirs"]


@pytest.mark.parametrize(("provider", "path"), [("anthropic", "/v1/messages"), ("openai", "/chat/completions")])
async def test_a_redirect_to_another_host_takes_no_key_along(ask: Ask, provider: str, path: str) -> None:
    heads: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        place = f"http://127.0.0.1:{port}{path}"
        writer.write(f"HTTP/1.1 307 Elsewhere\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(elsewhere, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with await asyncio.start_server(first, "127.0.0.1", 0) as redirecting:
            url = f"http://127.0.0.1:{redirecting.sockets[0].getsockname()[1]}"
            await ask(Line(Endpoint(provider, "alpha", url, "key-of-alpha")), path=path)
    assert [b"key-of-alpha" in head for head in heads] == [True, False]


async def test_a_key_that_was_changed_is_used_by_the_next_call(model: OfflineModel, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old-key\n")
    _script(model, "first", {"say": "Yes."})
    endpoint = _endpoint(model, "first", "alpha", key_file=str(file))
    async with Line(endpoint) as line:
        for key in ("old-key", "new-key\n", "", "two\nlines"):
            file.write_text(key)
            await line.asynchronous().post(f"{endpoint.base_url}/chat/completions", json=BODY)
        file.unlink()
        await line.asynchronous().post(f"{endpoint.base_url}/chat/completions", json=BODY)
    # What is no key leaves the one from the start in place.
    assert [r.key for r in model.requests] == ["old-key", "new-key", *["key-of-alpha"] * 3]


async def test_anthropic_stands_in_by_its_openai_compatible_address(ask: Ask, model: OfflineModel) -> None:
    _script(model, "first", {"fault": {"status": 503}})
    _script(model, "claude", {"say": "Instead."})
    claude = Endpoint("anthropic", "claude", f"{model.root}/claude", "key-of-claude")
    first = _endpoint(model, "first", "alpha", retries=0, fallbacks=(claude,))
    assert _said(await ask(Line(first))) == "Instead."
    assert (model.requests[-1].path, model.requests[-1].key) == ("/claude/v1/chat/completions", "key-of-claude")


async def test_between_two_anthropic_models_its_own_api_is_spoken(ask: Ask, model: OfflineModel) -> None:
    _script(model, "opus", {"fault": {"status": 529}})
    _script(model, "haiku", {"say": "Instead."})
    haiku = Endpoint("anthropic", "haiku", f"{model.root}/haiku", "key-of-haiku")
    gpt = _endpoint(model, "second", "beta")
    opus = Endpoint("anthropic", "opus", f"{model.root}/opus", "key-of-opus", retries=0, fallbacks=(gpt, haiku))
    response = await ask(Line(opus), BODY, "/v1/messages")
    assert response.json()["content"] == [{"type": "text", "text": "Instead."}]
    assert [(r.path, r.key) for r in model.requests] == [
        ("/opus/v1/messages", "key-of-opus"),
        ("/haiku/v1/messages", "key-of-haiku"),
    ]


async def test_an_endless_answer_has_an_end(ask: Ask, model: OfflineModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "LONGEST_ANSWER", 20_000)
    _script(model, "first", {"say": "on and on ", "forever": True})
    with pytest.raises(EndlessAnswer):
        await ask(Line(_pair(model)), BODY | {"stream": True})
    assert _asked(model) == ["first"]


@pytest.mark.parametrize("fault", [{"status": 429, "retry_after": 50}, {"hang_after": 0}], ids=["wait", "hang"])
def test_a_cut_wakes_up_who_waits_in_a_thread(model: OfflineModel, fault: dict[str, Any]) -> None:
    _script(model, "first", {"fault": fault})
    line = Line(_endpoint(model, "first", "alpha", timeout=60.0))
    failed: list[BaseException] = []

    def work() -> None:
        try:
            line.synchronous().post(f"{line.endpoint.base_url}/chat/completions", json=BODY)
        except httpx.TransportError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until = time.monotonic() + 10
    while not model.requests and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.05)
    line.cut()
    thread.join(10)
    assert not thread.is_alive()
    assert failed
    line.close()
    assert len(model.requests) == 1


def test_who_answered_is_told_by_the_name_in_the_answer() -> None:
    router = Endpoint("openrouter", "openai/gpt-4o", "http://b/v1", "k")
    first = Endpoint("openai", "gpt-4o-mini", "http://a/v1", "k", fallbacks=(router,))
    line = Line(first)
    assert line.named("their-own") == ("their-own", "")
    assert line.named() == ("gpt-4o-mini", "")
    for model in first.chain():
        line.heard(model)
    assert line.named("gpt-4o-mini-2024-07-18") == ("gpt-4o-mini", "")
    assert line.named("openai/gpt-4o") == ("openai/gpt-4o", "openrouter")
    assert line.named("gpt-4o") == ("openai/gpt-4o", "openrouter")
    assert line.named("something else") == ("openai/gpt-4o", "openrouter")


async def test_the_log_says_that_a_fallback_was_asked_and_holds_no_key(
    model: OfflineModel, caplog: pytest.LogCaptureFixture
) -> None:
    _script(model, "first", {"fault": {"status": 401, "message": "Incorrect API key provided: key-of-alpha"}})
    _script(model, "second", {"say": "Instead."})
    line = Line(_pair(model))
    await _in_loop(line)
    [told] = [record.getMessage() for record in caplog.records if record.name == "elf.models"]
    host = model.root.removeprefix("http://")
    assert told == f"the model 'alpha' at {host} failed (HTTP 401); its fallback 'beta' at {host} is asked"
    assert "key-of" not in caplog.text
    assert "key-of" not in repr(line.endpoint)


async def test_a_proxy_that_the_environment_names_is_the_way_to_what_is_outside_and_to_nothing_else(
    ask: Ask, model: OfflineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        address = "http://{}:{}".format(*proxy.sockets[0].getsockname()[:2])
        for name, value in (
            ("HTTPS_PROXY", address),
            ("HTTP_PROXY", address),
            ("NO_PROXY", "localhost,127.0.0.1,.svc"),
        ):
            monkeypatch.setenv(name, value)
        outside = Endpoint("openai", "alpha", "https://model.example.com/v1", "key", timeout=5.0, retries=0)
        with pytest.raises(httpx.ProxyError):
            await ask(Line(outside))
        assert asked == [b"CONNECT model.example.com:443 HTTP/1.1\r\n"]
        _script(model, "first", {"say": "Here."})
        assert _said(await ask(Line(_endpoint(model, "first", "alpha")))) == "Here."
        async with aclosing(Connections()) as teams:
            with pytest.raises(httpx.ConnectError):
                await teams.client().get("http://a-team.elf.invalid:8000/")
        assert len(asked) == 1

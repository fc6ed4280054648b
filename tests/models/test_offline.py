"""The offline model over real HTTP, by plain httpx and by OpenAI's own client."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from elf_sdk.errors import BadInput
from elf_sdk.models.offline import FINGERPRINT, OfflineModel
from elf_sdk.models.script import OfflineScript

HELLO: dict[str, Any] = {"model": "offline", "messages": [{"role": "user", "content": "Hello there"}]}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


def _script(*rules: dict[str, Any]) -> OfflineScript:
    return OfflineScript.model_validate({"rules": rules})


@pytest.fixture
def model() -> Iterator[OfflineModel]:
    with OfflineModel() as running:
        yield running


def _post(model: OfflineModel, body: Any = HELLO, team: str = "") -> httpx.Response:
    return httpx.post(f"{model.url(team)}/chat/completions", json=body, timeout=5)


def test_it_says_what_it_is(model: OfflineModel) -> None:
    assert httpx.get(f"{model.url()}/models").json()["data"][0]["id"] == "offline"
    body = _post(model).json()
    assert body["system_fingerprint"] == FINGERPRINT
    assert body["choices"][0]["message"]["content"].startswith("[offline model]")
    assert "Hello there" in body["choices"][0]["message"]["content"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_request_gets_the_same_bytes(model: OfflineModel, stream: bool) -> None:
    body = HELLO | {"stream": stream}
    assert _post(model, body).content == _post(model, body).content


def test_openais_client_reads_a_stream_with_a_tool_call_and_usage(model: OfflineModel) -> None:
    model.add("", _script({"say": "Let me look.", "call": {"tool": "look_up", "arguments": {"what": "a b c"}}}))
    with openai.OpenAI(base_url=model.url(), api_key="not-needed", max_retries=0) as client:
        with client.chat.completions.stream(
            model="offline",
            messages=[{"role": "user", "content": "Hello there"}],
            tools=[TOOL],  # type: ignore[list-item]
            stream_options={"include_usage": True},
        ) as stream:
            streamed = stream.get_final_completion()
        whole = client.chat.completions.create(
            model="offline",
            messages=[{"role": "user", "content": "Hello there"}],
            tools=[TOOL],  # type: ignore[list-item]
        )
    for completion in (streamed, whole):
        choice = completion.choices[0]
        assert (choice.message.content, choice.finish_reason) == ("Let me look.", "tool_calls")
        [call] = choice.message.tool_calls or []
        assert call.type == "function"
        assert json.loads(call.function.arguments) == {"what": "a b c"}
        assert completion.usage is not None
        assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (2, 6)


def test_tokens_arrive_one_by_one(model: OfflineModel) -> None:
    model.add("", _script({"say": "one two three four", "delay": "50ms"}))
    with httpx.stream("POST", f"{model.url()}/chat/completions", json=HELLO | {"stream": True}) as response:
        arrivals = [time.monotonic() for line in response.iter_lines() if '"content":" ' in line]
    assert len(arrivals) == 3
    assert arrivals[-1] - arrivals[0] > 0.05


def test_teams_are_told_apart_by_the_path(model: OfflineModel) -> None:
    model.add("brand-team", _script({"say": "We are the brand."}))
    model.add("other-team", _script({"say": "We are not."}))
    answers = [
        _post(model, team=team).json()["choices"][0]["message"]["content"] for team in ("brand-team", "other-team")
    ]
    assert answers == ["We are the brand.", "We are not."]
    assert [request.team for request in model.requests] == ["brand-team", "other-team"]
    unknown = _post(model, team="nobody")
    assert unknown.status_code == 404
    assert "nobody" in unknown.json()["error"]["message"]


def test_faults(model: OfflineModel) -> None:
    model.add(
        "", _script({"fault": {"status": 429, "retry_after": 7, "message": "slow down", "times": 1}}, {"say": "Fine."})
    )
    refused = _post(model)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "7")
    assert refused.json()["error"]["message"] == "slow down"
    assert _post(model).json()["choices"][0]["message"]["content"] == "Fine."
    model.add("", _script({"say": "one two three", "fault": {"reset_after": 2}}))
    for stream in (False, True):
        with pytest.raises(httpx.RemoteProtocolError):
            _post(model, HELLO | {"stream": stream})
    model.add("", _script({"fault": {"hang_after": 0}}))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{model.url()}/chat/completions", json=HELLO, timeout=0.2)
    deadline = time.monotonic() + 1
    while model.requests[-1].outcome != "gone" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [request.outcome for request in model.requests] == ["fault", "answered", "fault", "fault", "gone"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"messages": []}',
        b'{"messages": [5]}',
        b'{"messages": [{"tool_calls": [{}]}]}',
        b'{"messages": [{}], "tools": 5}',
    ],
)
def test_a_request_of_the_wrong_shape_is_refused(model: OfflineModel, body: bytes) -> None:
    response = httpx.post(f"{model.url()}/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_stopping_leaves_no_thread_and_frees_the_port() -> None:
    before = set(threading.enumerate())
    model = OfflineModel(_script({"fault": {"hang_after": 0}}))
    model.start()
    assert model.start() == model.url()
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{model.url()}/chat/completions", json=HELLO, timeout=0.1)
    begun = time.monotonic()
    model.stop()
    model.stop()
    assert time.monotonic() - begun < 1
    assert set(threading.enumerate()) <= before
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{model.url()}/models")


def test_several_tool_calls_in_one_message(model: OfflineModel) -> None:
    calls = [{"tool": "look_up", "arguments": {"what": what}} for what in ("tea", "cake")]
    model.add("", _script({"calls": calls}))
    with openai.OpenAI(base_url=model.url(), api_key="not-needed", max_retries=0) as client:
        with client.chat.completions.stream(
            model="offline",
            messages=[{"role": "user", "content": "Hello there"}],
            tools=[TOOL],  # type: ignore[list-item]
        ) as stream:
            message = stream.get_final_completion().choices[0].message
    called = [call for call in message.tool_calls or [] if call.type == "function"]
    assert [json.loads(call.function.arguments)["what"] for call in called] == ["tea", "cake"]
    assert len({call.id for call in called}) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_client_reads_an_answer_with_text_a_tool_call_and_usage(model: OfflineModel, stream: bool) -> None:
    rule = {"say": "Let me look.", "call": {"tool": "look_up", "arguments": {"what": "a b c"}}}
    model.add("", _script({"when": {"system": "cook", "user": "^Hello there$"}} | rule))
    asked: dict[str, Any] = {
        "model": "claude",
        "max_tokens": 100,
        "system": "You are the cook.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello there"}]}],
        "tools": [{"name": "look_up", "input_schema": {"type": "object"}}],
    }
    with anthropic.Anthropic(base_url=model.root, api_key="not-needed", max_retries=0) as client:
        if stream:
            with client.messages.stream(**asked) as events:
                message = events.get_final_message()
        else:
            message = client.messages.create(**asked)
    text, call = message.content
    assert (text.type == "text" and text.text, message.stop_reason, message.model) == (
        "Let me look.",
        "tool_use",
        "claude",
    )
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("look_up", {"what": "a b c"})
    assert (message.usage.input_tokens, message.usage.output_tokens) == (6, 6)


def test_anthropics_client_gets_its_own_errors(model: OfflineModel) -> None:
    model.add("", _script({"when": {"user": "long"}, "fault": {"context_too_long": True}}, {"fault": {"status": 529}}))
    with anthropic.Anthropic(base_url=model.root, api_key="not-needed", max_retries=0) as client:
        with pytest.raises(anthropic.BadRequestError, match="prompt is too long: 8193 tokens > 8192 maximum"):
            client.messages.create(model="c", max_tokens=9, messages=[{"role": "user", "content": "long"}])
        with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
            client.messages.create(model="c", max_tokens=9, messages=[{"role": "user", "content": "short"}])


def test_after_a_tool_of_anthropics_api(model: OfflineModel) -> None:
    model.add("", _script({"when": {"after_tool": "look_up", "result": "(?P<grams>\\d+) g"}, "say": "${grams}."}))
    call = {"type": "tool_use", "id": "t1", "name": "look_up", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "200 g"}]}
    messages = [
        {"role": "user", "content": "How much?"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    answer = httpx.post(f"{model.root}/v1/messages", json={"model": "c", "max_tokens": 9, "messages": messages}).json()
    assert answer["content"] == [{"type": "text", "text": "200."}]
    assert answer["stop_reason"] == "end_turn"


@pytest.mark.parametrize("body", [{"messages": [{"role": "user"}]}, {"messages": [{"role": "user", "content": [5]}]}])
def test_a_message_of_the_wrong_shape_is_refused(model: OfflineModel, body: dict[str, Any]) -> None:
    response = httpx.post(f"{model.root}/v1/messages", json=body)
    assert (response.status_code, response.json()["type"]) == (400, "error")


def test_a_pause_comes_before_the_first_token(model: OfflineModel) -> None:
    model.add("", _script({"say": "one two", "pause": "150ms"}))
    begun = time.monotonic()
    _post(model, HELLO | {"stream": True})
    assert time.monotonic() - begun >= 0.15


@pytest.mark.parametrize("fault", [{"reset_after": 0}, {"hang_after": 0}])
def test_at_zero_tokens_there_are_headers_and_nothing_else(model: OfflineModel, fault: dict[str, int]) -> None:
    model.add("", _script({"say": "one", "fault": fault}))
    url = f"{model.url()}/chat/completions"
    with httpx.stream("POST", url, json=HELLO | {"stream": True}, timeout=0.5) as response:
        assert response.status_code == 200
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadTimeout)):
            next(response.iter_raw())


def test_an_answer_without_end_ends_with_its_client(model: OfflineModel) -> None:
    model.add("", _script({"say": "on and on ", "forever": True}))
    with httpx.stream("POST", f"{model.url()}/chat/completions", json=HELLO | {"stream": True}) as response:
        pieces = response.iter_lines()
        for _ in range(1000):
            next(pieces)
    until = time.monotonic() + 5
    while model.requests[-1].outcome != "gone" and time.monotonic() < until:
        time.sleep(0.01)
    assert model.requests[-1].outcome == "gone"
    assert model.requests[-1].output_tokens > 400


def test_why_it_stops(model: OfflineModel) -> None:
    model.add("", _script({"finish": "content_filter"}))
    choice = _post(model).json()["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", None)
    answer = httpx.post(f"{model.root}/v1/messages", json=HELLO).json()
    assert (answer["stop_reason"], answer["content"]) == ("refusal", [])


def test_what_was_asked_can_be_read_and_forgotten_over_http_and_holds_no_key(tmp_path: Path) -> None:
    with OfflineModel(_script({"say": "Yes."}), record=tmp_path / "requests.jsonl") as model:
        httpx.post(
            f"{model.url()}/chat/completions", json=HELLO, headers={"Authorization": "Bearer a-secret-key"}
        ).raise_for_status()
        told = httpx.get(f"{model.root}/requests")
        [request] = told.json()
        assert request == {
            "path": "/v1/chat/completions",
            "team": "",
            "body": HELLO,
            "rule": 0,
            "text": "Yes.",
            "calls": [],
            "input_tokens": 2,
            "output_tokens": 1,
            "outcome": "answered",
        }
        assert "a-secret-key" not in told.text
        assert httpx.delete(f"{model.root}/requests").status_code == 204
        assert httpx.get(f"{model.root}/requests").json() == []
    assert [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()] == [request]


def test_a_record_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere.*requests cannot be recorded there: No such file or directory"):
        OfflineModel(record=tmp_path / "nowhere" / "requests.jsonl").start()


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="Address already in use; choose another port"):
            OfflineModel(port=taken.getsockname()[1]).start()


def test_elf_model_serve_prints_an_address_that_answers(tmp_path: Path) -> None:
    script = tmp_path / "offline.yaml"
    script.write_text("rules:\n  - say: Scripted.\n")
    command = [sys.executable, "-u", "-m", "elf_sdk", "model", "serve", "--script", str(script), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split(" listens on ")[1].partition(";")[0]
            answer = httpx.post(f"{url}/chat/completions", json=HELLO).json()
            assert answer["choices"][0]["message"]["content"] == "Scripted."
            assert [server.stdout.readline().split()[0] for _ in range(2)] == ["Try:", "curl"]
        finally:
            server.terminate()


def test_elf_model_serve_names_the_line_of_a_mistake(tmp_path: Path) -> None:
    script = tmp_path / "offline.yaml"
    script.write_text("rules:\n  - sai: Scripted.\n")
    command = [sys.executable, "-m", "elf_sdk", "model", "serve", "--script", str(script), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "offline.yaml:2: rules[0].sai: there is no such field" in done.stderr

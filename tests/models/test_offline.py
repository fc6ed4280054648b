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

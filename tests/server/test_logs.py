"""Logs: their two forms, what each line tells of its request and run, and that no secret gets into them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import psycopg
import pytest

from elf_sdk.runs.current import current_run
from elf_sdk.server.auth import Issuer
from elf_sdk.server.logs import JsonFormatter, RequestInfo, TextFormatter, current_request, protect_logs
from elf_sdk.server.redaction import REDACTED, Redactor, secrets_of
from elf_sdk.settings import Settings
from elf_sdk.testing import serve
from tests.server.conftest import boss, chat

JWT = Issuer("s" * 40, "acme", "dev").user_token("ada", "boss")
OPAQUE = "Zk3vT9-qXw_72mRnLb8P"
"""Stands for a token or key of no particular form."""


class Kept(logging.Handler):
    """Keeps the records as a handler gets them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler that knows nothing of ELF writes of all loggers, at every level, tracebacks included."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    previous = logging.getLogRecordFactory()
    protect_logs()
    wire = [logging.getLogger(name) for name in ("uvicorn.error", "websockets")]
    for logger in wire:
        logger.setLevel(logging.INFO)  # as `configure_logs` does
    yield stream
    for logger in wire:
        logger.setLevel(logging.NOTSET)
    logging.setLogRecordFactory(previous)
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize(
    "text",
    [
        "GET /chat?token={secret}&x=1 403",
        "GET /x?a=1&access_token={secret}",
        "Authorization: Bearer {secret}",
        "authorization: Basic {secret}",
        "headers [(b'authorization', b'Bearer {secret}'), (b'x', b'y')]",
        "{{'Authorization': 'Bearer {secret}'}}",
        "X-API-Key: {secret}",
        "a bearer {secret} was refused",
        "subprotocols chat, elf.bearer.{secret}",
        "api_key='{secret}', model='x'",
        "OPENAI_API_KEY={secret}",
        '{{"api_key": "{secret}", "b": 1}}',
        "{{'password': '{secret}'}}",
        "Settings(jwt_secret='{secret}')",
        "host=db user=elf password={secret} dbname=x",
        'connection to "postgresql://elf:{secret}@db/elf" failed',
        "redis://:{secret}@cache:6379/0",
        "https://user:{secret}@proxy.example:3128",
        "Set-Cookie: {secret}",
    ],
)
@pytest.mark.parametrize("secret", [JWT, OPAQUE])
def test_what_looks_like_a_secret_goes(text: str, secret: str) -> None:
    cleaned = Redactor().clean(text.format(secret=secret))
    assert secret not in cleaned
    assert REDACTED in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "a token is needed; send it as `Authorization: Bearer <token>`",
        "the answer took 12 tokens; max_tokens=100, tokens: 5",
        "the token has expired; get a new one",
        "run 4f1c failed: the team's code raised ValueError: no key 'secret'",
        "http://127.0.0.1:8000/teams/boss/health",
        "this team has no JWT_SECRET_KEY, so it can accept no token; set one of at least 32 bytes",
        "risk-assessment-of-the-quarter and task-force-of-the-year",
    ],
)
def test_what_only_speaks_of_secrets_stays(text: str) -> None:
    assert Redactor().clean(text) == text


@pytest.mark.parametrize("value", ["correct horse battery", "p@ss/w:rd?&100%", "it's\\a\"quote", "schlüssel-9000"])
def test_a_known_secret_goes_wherever_it_stands(value: str) -> None:
    redactor = Redactor([value])
    for written in (value, repr(value), httpx.URL("http://x", params={"q": value}).query.decode(), f"x{value}y"):
        cleaned = redactor.clean(f"before {written} after")
        assert REDACTED in cleaned, written
        assert value not in cleaned


def test_the_settings_secrets_are_known() -> None:
    settings = Settings(
        jwt_secret="j" * 40,
        database_url="postgresql://elf:pass%20word%2F1@db/elf",
        model_keys={"openai": "an-odd-key-0123"},
    )
    redactor = Redactor(secrets_of(settings))
    text = f"{settings.jwt_secret} pass%20word%2F1 pass word/1 an-odd-key-0123"
    assert redactor.clean(text) == " ".join([REDACTED] * 4)
    assert secrets_of(Settings(database_url="host=db password=short")) == ()
    assert secrets_of(Settings(database_url="postgresql://[::1/x")) == ()


@pytest.mark.parametrize(
    "piece", ["a-", "eyJ", "a.", "bearer ", "token='", "sk-", "://", "a://x:", "authorization:", '"']
)
def test_hostile_text_comes_to_an_end(piece: str) -> None:
    # Where the search starts over at every piece, this takes longer than a test may.
    assert Redactor().clean(piece * (1_000_000 // len(piece)))


def test_a_secret_is_replaced_once() -> None:
    assert Redactor().clean(JWT) == REDACTED
    assert Redactor([OPAQUE]).clean(f"/chat?token={OPAQUE}&token={JWT}") == "/chat?token=[redacted]&token=[redacted]"


def test_messages_arguments_and_tracebacks(written: io.StringIO) -> None:
    log = logging.getLogger("somebody.elses")
    log.info("calling with %s", {"Authorization": f"Bearer {OPAQUE}"})
    log.warning(f"token={JWT}")  # noqa: G004 - as others do
    log.error("arguments that do not fit %d", f"password={OPAQUE}")
    try:
        try:
            raise ValueError(f"bad key api_key={OPAQUE}")
        except ValueError as error:
            raise RuntimeError(f"postgresql://elf:{OPAQUE}@db refused") from error
    except RuntimeError:
        log.exception("it failed", stack_info=True)
    log.error("also as it is", exc_info=ValueError(f"token={OPAQUE}"))
    text = written.getvalue()
    assert OPAQUE not in text
    assert JWT not in text
    assert "RuntimeError: postgresql://elf:[redacted]@db refused" in text
    assert "bad key api_key=[redacted]" in text
    assert "arguments that do not fit" in text


def test_an_exception_without_a_secret_stays_one(written: io.StringIO) -> None:
    handler = Kept()
    log = logging.getLogger("somebody.elses")
    log.addHandler(handler)
    try:
        for text in ("plain", f"token={OPAQUE}"):
            log.error("it failed", exc_info=ValueError(text))
    finally:
        log.removeHandler(handler)
    kept, cleaned = handler.records
    assert kept.exc_info is not None
    assert isinstance(kept.exc_info[1], ValueError)
    assert cleaned.exc_info is None
    assert cleaned.exc_text is not None


def test_the_debug_logs_of_clients(written: io.StringIO) -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:9/?token={OPAQUE}", headers={"Authorization": f"Bearer {OPAQUE}"})
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(f"postgresql://elf:{OPAQUE}@127.0.0.1:9/elf", connect_timeout=1)
    logging.getLogger("elf.store").error("no database", exc_info=caught.value)
    with pytest.raises(psycopg.ProgrammingError) as refused:
        psycopg.connect(f"postgresql://elf:{OPAQUE}@127.0.0.1:9/elf?nonsense={OPAQUE}")
    logging.getLogger("elf.store").error("%s", refused.value)
    assert "no database" in written.getvalue()
    assert OPAQUE not in written.getvalue()


async def test_nothing_of_a_served_team_is_secret(written: io.StringIO, settings: Settings) -> None:
    secret, key = "the-shared-secret-" + "x" * 30, "an odd key of a model"
    failing = RuntimeError(f"the model refused {key}; the token was {JWT} and api_key={OPAQUE}")
    used = Settings(store=settings.store, jwt_secret=secret, model_keys={"openai": key})
    async with serve(boss({"fail": (failing,)}), settings=used) as served:
        token = served.headers("ada", "boss")["Authorization"].partition(" ")[2]
        async with chat(served, query=f"?token={token}") as client:
            await client.send("fail")
            await client.until("error")
        async with httpx.AsyncClient(base_url=served.url("boss"), params={"token": token}) as http:
            await http.get("/health", headers={"Authorization": f"Bearer {JWT}x"})
            await http.post("/a2a/v1", headers={"Authorization": f"Bearer {JWT}x"}, content=b"{")
    text = written.getvalue()
    assert "failed in the team's code" in text
    for planted in (secret, key, token, JWT, JWT.split(".")[2], OPAQUE):
        assert planted not in text


def record(text: str, **about: Any) -> logging.LogRecord:
    made = logging.LogRecord("elf.x", logging.WARNING, "x.py", 1, text, (), about.pop("exc_info", None))
    vars(made).update(about)
    return made


def test_json_is_one_object_a_line() -> None:
    made = record("two\nlines \ud800 ✓", run_id="r1", request_id="", exc_info=(ValueError, ValueError("no"), None))
    line = JsonFormatter().format(made)
    assert "\n" not in line
    shown = json.loads(line)
    assert shown.pop("time").endswith("Z")
    assert shown == {
        "level": "warning",
        "logger": "elf.x",
        "message": "two\nlines \ufffd ✓",
        "run_id": "r1",
        "exception": "ValueError: no",
    }


def test_text_cannot_pretend_to_be_another_line() -> None:
    line = TextFormatter().format(record("a\n2026-01-01 ERROR elf: forged\r\x1b[2J", request_id="q1", team="boss"))
    first, second = line.split("\n")
    assert first.endswith("WARNING elf.x: a [request_id=q1 team=boss]")
    assert second.startswith("    2026-01-01 ERROR elf: forged")
    assert not set(line) & set("\r\x1b")


async def test_lines_tell_their_request_run_and_team(settings: Settings) -> None:
    handler = Kept()
    log = logging.getLogger("elf.runs")
    log.addHandler(handler)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"X-Request-ID": "asked-1", "traceparent": f"00-{trace}-00f067aa0ba902b7-01", "A2A-Version": "1.0"}
    message = {"message": {"messageId": "1", "role": "ROLE_USER", "parts": [{"text": "fail"}]}}
    try:
        async with serve(boss({"fail": (ValueError("no"),)}), settings=settings) as served:
            async with httpx.AsyncClient(base_url=served.url("boss"), headers=served.headers("ada", "boss")) as http:
                answer = await http.post("/a2a/v1/message:send", json=message, headers=headers)
    finally:
        log.removeHandler(handler)
    [failed] = [each for each in handler.records if "failed in the team's code" in each.getMessage()]
    shown = orjson.loads(JsonFormatter().format(failed))
    assert answer.headers["X-Request-ID"] == shown["request_id"] == "asked-1"
    assert shown["run_id"] == answer.json()["task"]["id"]
    assert (shown["team"], shown["trace_id"]) == ("boss", trace)
    assert "ValueError: no" in shown["exception"]
    assert current_run.get() == ""
    assert current_request.get() == RequestInfo("", "", "")


@pytest.mark.parametrize(
    ("given", "echoed"),
    [
        ("q-1:a/b", "q-1:a/b"),
        ("a b\tc<script>", "abcscript"),
        ("x" * 500, "x" * 128),
        ("<>", None),
        ("", None),
        (None, None),
    ],
)
async def test_a_request_has_an_id(given: str | None, echoed: str | None, settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served, httpx.AsyncClient(base_url=served.url("boss")) as http:
        headers = {} if given is None else {"X-Request-ID": given}
        answers = [await http.get(path, headers=headers) for path in ("/health", "/nowhere")]
        async with chat(served, headers=headers) as client:
            response = client.socket.response
            assert response is not None
            ids = [*(answer.headers["X-Request-ID"] for answer in answers), response.headers["X-Request-ID"]]
    if echoed is not None:
        assert set(ids) == {echoed}
    else:
        assert len(set(ids)) == 3
        assert all(len(each) == 32 for each in ids)


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_nobody_is_heard_below_the_level(level: str) -> None:
    script = (
        "import logging; from elf_sdk.server.logs import configure_logs\n"
        f"configure_logs({level!r}, 'text')\n"
        "for name in ('elf.x', 'uvicorn.error', 'httpx', 'websockets'):\n"
        "    log = logging.getLogger(name)\n"
        "    for level in (log.debug, log.info, log.warning, log.error): level('%s said %s', name, level.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    levels = ["debug", "info", "warning", "error"]
    lowest = {"elf.x": "debug", "uvicorn.error": "info", "websockets": "info", "httpx": "warning"}
    for name, least in lowest.items():
        heard = [each for each in levels if f"{name} said {each}" in done.stderr]
        assert heard == levels[max(levels.index(least), levels.index(level)) :]


@pytest.mark.parametrize(("form", "begins"), [("", "{"), ("json", "{"), ("text", "20")])
def test_what_is_no_terminal_gets_json_unless_told_otherwise(form: str, begins: str) -> None:
    script = (
        "import logging; from elf_sdk.server.logs import configure_logs\n"
        f"configure_logs('info', {form!r})\n"
        "logging.getLogger('elf.x').info('hello %s', 'token=abcdefghijklmnop')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stderr.startswith(begins)
    assert "hello token=[redacted]" in done.stderr

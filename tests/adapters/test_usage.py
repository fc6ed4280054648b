"""Every adapter tells what a provider says of its caches and of reasoning."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest

from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import Adapter
from elf_sdk.runs.events import Usage
from tests.adapters.support import context, events_of
from tests.adapters.test_all import MAKERS

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 12},
}


class Provider(BaseHTTPRequestHandler):
    """Says one word, and in detail what it took."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        head = {"id": "c1", "created": 0, "model": "thinker", "object": "chat.completion.chunk"}
        said = {"index": 0, "delta": {"role": "assistant", "content": "Yes."}, "finish_reason": None}
        done = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for chunk in ({"choices": [said]}, {"choices": [done]}, {"choices": [], "usage": USAGE}):
            self.wfile.write(b"data: " + orjson.dumps(head | chunk) + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", sorted(MAKERS))
async def test_details_of_usage(name: str, model: OfflineModel, provider: str) -> None:
    adapter: Adapter = MAKERS[name]()
    ctx = context(model)
    ctx = replace(ctx, endpoint=replace(ctx.endpoint, provider="compatible", model="thinker", base_url=provider))
    calls = [event for event in await events_of(adapter, ctx) if isinstance(event, Usage)]
    assert calls
    for call in calls:
        assert call == Usage("thinker", 100, 20, cached_tokens=64, reasoning_tokens=12)

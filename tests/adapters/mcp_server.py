"""An MCP server for tests, made with the SDK: `mcp_server.py stdio`, or `mcp_server.py http`, which prints its port."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from typing import Any

import uvicorn
from mcp.server.fastmcp import FastMCP, Image
from mcp.types import CallToolResult, EmbeddedResource, ResourceLink, TextContent, TextResourceContents
from pydantic import AnyUrl
from starlette.responses import PlainTextResponse

app = FastMCP("shop", stateless_http="stateless" in sys.argv, json_response="json" in sys.argv)


@app.tool()
def price_of(thing: str, pieces: int = 1) -> str:
    """Look up a price."""
    return f"{len(thing) * pieces}9 euros"


@app.tool(name="odd.name/of a tool")
def odd(config: str, self_: str = "", run_manager: str = "") -> str:
    """Has arguments that frameworks use themselves."""
    return f"{config}{self_}{run_manager}"


@app.tool()
def broken() -> str:
    """Always fails."""
    raise RuntimeError("the shop is closed")


@app.tool()
def sleep(seconds: float) -> str:
    """Block, as careless code does."""
    time.sleep(seconds)
    return "slept"


@app.tool()
async def wait(seconds: float) -> str:
    """Wait, as code should."""
    await asyncio.sleep(seconds)
    return "waited"


@app.tool()
def die() -> str:
    """End the server's process in the middle of a call."""
    os._exit(3)


@app.tool()
def flood(characters: int) -> str:
    """Answer more than anybody wants."""
    return "x" * characters


@app.tool()
def noise() -> str:
    """Print to the standard output, which over stdio is the way of the messages."""
    sys.stdout.write("this is no message\n")
    sys.stdout.flush()
    return "quiet again"


@app.tool()
def child() -> str:
    """Start a process that outlives a careless server."""
    return str(subprocess.Popen(["sleep", "600"]).pid)


@app.tool()
def pid() -> str:
    """Say which process this is."""
    return str(os.getpid())


@app.tool()
def variable(name: str) -> str:
    """Say what a variable of the environment holds."""
    return os.environ.get(name, "nothing")


@app.tool()
def picture(kilobytes: int = 1) -> Image:
    """Draw."""
    return Image(data=b"\x89PNG" + bytes(kilobytes * 1024 - 4), format="png")


@app.tool()
def table() -> dict[str, Any]:
    """Answer with structure."""
    return {"rows": [1, 2, 3]}


@app.tool()
def papers() -> CallToolResult:
    """Answer with resources."""
    notes = TextResourceContents(uri=AnyUrl("file:///notes.txt"), text="The notes.")
    return CallToolResult(
        content=[
            TextContent(type="text", text="See:"),
            EmbeddedResource(type="resource", resource=notes),
            ResourceLink(type="resource_link", name="manual", uri=AnyUrl("https://example.com/manual.pdf")),
        ]
    )


class _Guarded:
    """Lets nobody in who does not know the word."""

    def __init__(self, inner: Any, token: str) -> None:
        self._inner, self._token = inner, f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != self._token:
            await PlainTextResponse("who are you?", 401)(scope, receive, send)
        else:
            await self._inner(scope, receive, send)


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        app.run()
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        token = next((word.partition("=")[2] for word in sys.argv if word.startswith("token=")), "")
        served: Any = app.streamable_http_app()
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        server = uvicorn.Server(uvicorn.Config(_Guarded(served, token) if token else served, log_level="error"))
        asyncio.run(server.serve(sockets=[listener]))

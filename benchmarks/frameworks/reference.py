"""CrewAI as its documentation serves it: a crew's `kickoff_async`, awaited in the loop of a plain Starlette server.

python -m benchmarks.frameworks.reference PORT MODEL_URL
"""

from __future__ import annotations

import sys

import uvicorn
from crewai import LLM
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.frameworks.teams import crew

__all__ = ["app"]


def app(model: str) -> Starlette:
    """`POST /run` with the question as its body; `/health` and `/livez` say ok."""

    async def run(request: Request) -> PlainTextResponse:
        text = (await request.body()).decode()
        llm = LLM(model="openai/scripted", base_url=model, api_key="not-needed", stream=True)
        return PlainTextResponse(str(await crew(llm).kickoff_async(inputs={"message": text})))

    async def ok(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/run", run, methods=["POST"]), Route("/health", ok), Route("/livez", ok)])


if __name__ == "__main__":
    uvicorn.run(app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")

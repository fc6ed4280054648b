"""The least that serves A2A with the A2A SDK: what `benchmarks.start` starts beside a team.

An ASGI application for uvicorn, on the SDK's default handler with its store in memory. The SDK loads SQLAlchemy where
that is installed, and a minimal installation has none; so none is found here.
"""

# ruff: noqa: E402

from __future__ import annotations

import sys

# This is how the import system is told that there is no such module.
sys.modules["sqlalchemy"] = None  # type: ignore[assignment]

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import AgentCapabilities, AgentCard, AgentInterface
from starlette.applications import Starlette

__all__ = ["app"]


class _Silent(AgentExecutor):
    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Nothing is asked here."""

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Nothing runs here."""


_CARD = AgentCard(
    name="minimal",
    description="Answers with its card.",
    version="1",
    capabilities=AgentCapabilities(streaming=True),
    supported_interfaces=[AgentInterface(url="http://127.0.0.1/", protocol_binding="JSONRPC", protocol_version="1.0")],
)
_HANDLER = DefaultRequestHandler(agent_executor=_Silent(), task_store=InMemoryTaskStore(), agent_card=_CARD)

app = Starlette(routes=[*create_agent_card_routes(_CARD), *create_jsonrpc_routes(_HANDLER, "/")])

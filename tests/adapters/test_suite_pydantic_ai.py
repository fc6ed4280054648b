import pytest

from elf_sdk.testing.adapter_suite import Faults, Service
from elf_sdk.testing.tools import ASYNC_TOOLS
from tests.adapters.programs import pydantic_ai
from tests.adapters.suite import OnPostgres, Suite


@pytest.mark.xdist_group("pydantic_ai-async")
class TestAsync(Suite):
    """An agent whose tools are coroutines."""

    agent = pydantic_ai.Async
    asking = pydantic_ai.Async
    tools = frozenset(tool.__name__ for tool in ASYNC_TOOLS)


@pytest.mark.xdist_group("pydantic_ai-blocking")
class TestBlocking(OnPostgres, Service, Faults):
    """An agent whose tools are functions, which block."""

    agent = pydantic_ai.Blocking
    asking = pydantic_ai.Blocking

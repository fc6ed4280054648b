import pytest

from elf_sdk.testing.adapter_suite import Faults, Service
from elf_sdk.testing.tools import ASYNC_TOOLS
from tests.adapters.programs import function
from tests.adapters.suite import OnPostgres, Suite


@pytest.mark.xdist_group("function-async")
class TestAsync(Suite):
    """An async generator, which streams and has no synchronous code."""

    agent = function.Streaming
    asking = function.Asking
    failing = function.Failing
    mistaken = function.Mistaken
    tools = frozenset(tool.__name__ for tool in ASYNC_TOOLS)


@pytest.mark.xdist_group("function-plain")
class TestPlain(OnPostgres, Service, Faults):
    """A plain function, which blocks wherever it works; what an adapter alone keeps is that of its own client."""

    agent = function.Plain
    asking = function.Asking
    closes = False
    endless = function.Endless

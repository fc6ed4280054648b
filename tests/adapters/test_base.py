import asyncio
import subprocess
import sys
import threading
from contextlib import aclosing

import pytest

from elf_sdk.adapters.base import Bridge, Closed, checked_factory
from elf_sdk.adapters.failure import said
from elf_sdk.adapters.registry import adapter_for, adapter_names
from elf_sdk.errors import BadInput
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.events import Step, TextDelta
from tests.adapters.support import context

MODULES = ["base", "crewai", "delegation", "failure", "function", "langgraph", "registry"]


async def test_events_of_threads_and_of_the_loop_merge_in_order() -> None:
    bridge = Bridge(limit=3)

    def count() -> None:
        for number in range(50):
            bridge.push(TextDelta(str(number)))

    async def work() -> None:
        await bridge.put(Step("a"))
        await asyncio.to_thread(count)
        await bridge.put(Step("a", "end"))

    events = [event async for event in bridge.events(work())]
    assert events == [Step("a"), *(TextDelta(str(number)) for number in range(50)), Step("a", "end")]


async def test_a_thread_waits_for_a_slow_reader_and_ends_when_it_goes() -> None:
    bridge = Bridge(limit=5)
    pushed = 0
    ended = threading.Event()

    def push() -> None:
        nonlocal pushed
        try:
            while True:
                bridge.push(TextDelta("x"))
                pushed += 1
        except Closed:
            ended.set()

    async def work() -> None:
        threading.Thread(target=push, daemon=True).start()
        await asyncio.Event().wait()

    async with aclosing(bridge.events(work())) as stream:
        await anext(stream)
        await asyncio.sleep(0.05)
        assert pushed < 20
    assert await asyncio.to_thread(ended.wait, 1)


async def test_what_the_work_raises_comes_after_what_it_said() -> None:
    bridge = Bridge()

    async def work() -> None:
        await bridge.put(Step("a"))
        raise ZeroDivisionError

    events = bridge.events(work())
    assert await anext(events) == Step("a")
    with pytest.raises(ZeroDivisionError):
        await anext(events)


def test_a_factory_that_asks_for_something_else_is_told_what_there_is() -> None:
    def build(modle: object) -> None: ...

    with pytest.raises(BadInput, match=r"the parameter 'modle'.*use any of model, tools"):
        checked_factory(build, ("model", "tools"), "langgraph")


def test_the_authors_own_error_is_named_with_its_line(model: OfflineModel) -> None:
    prices: dict[str, int] = {}
    with pytest.raises(KeyError) as raised:
        prices["price"]
    assert str(said(raised.value, context(model))).startswith("KeyError: 'price' (test_base.py, line ")


def test_adapters_by_name() -> None:
    assert {"crewai", "function", "langgraph"} <= set(adapter_names())
    for name in adapter_names():
        assert adapter_for(name).name == name
    with pytest.raises(BadInput, match="no adapter 'autogen' here; use one of crewai, function, langgraph"):
        adapter_for("autogen")


def test_importing_loads_no_framework() -> None:
    code = f"""
import sys, importlib
import elf_sdk
for name in {MODULES!r}:
    importlib.import_module("elf_sdk.adapters." + name)
frameworks = ("crewai", "langgraph", "langchain_core", "langchain_openai", "openai")
loaded = [name for name in sys.modules if name.split(".")[0] in frameworks]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("name", "make"), [("crewai", "CrewAIAdapter"), ("langgraph", "LangGraphAdapter")])
def test_a_framework_that_is_not_installed_is_one_sentence(name: str, make: str) -> None:
    code = f"""
import asyncio, importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == {name!r} else found(name, package)
from elf_sdk import {make}, TeamSpec
from elf_sdk.errors import Missing
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Owner, RunContext
from elf_sdk.team.spec import Member
spec = TeamSpec(name="a-team", members=(Member(role="m", is_manager=True),))
endpoint = Endpoint("offline", "offline", "http://127.0.0.1:9/v1", "not-needed")
ctx = RunContext(run_id="r", spec=spec, owner=Owner("i", "u"), conversation="c", text="x", endpoint=endpoint)
async def main():
    async for event in {make}(lambda: None).run(ctx):
        pass
try:
    asyncio.run(main())
except Missing as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == f"this team uses {name}, which is not installed; run: pip install 'elf-sdk[{name}]'\n"

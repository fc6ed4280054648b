import pytest

from tests.adapters.programs import langgraph
from tests.adapters.suite import Suite


@pytest.mark.xdist_group("langgraph")
class TestLangGraph(Suite):
    agent = langgraph.Agent
    asking = langgraph.Asking
    recovering = langgraph.Recovering
    failing = langgraph.Failing
    mistaken = langgraph.Mistaken
    endless = langgraph.Endless

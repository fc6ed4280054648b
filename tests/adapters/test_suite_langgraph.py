from tests.adapters.programs import langgraph
from tests.adapters.suite import Suite


class TestLangGraph(Suite):
    agent = langgraph.Agent
    asking = langgraph.Asking
    recovering = langgraph.Recovering
    failing = langgraph.Failing
    mistaken = langgraph.Mistaken

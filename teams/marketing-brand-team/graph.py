"""A draft, a sceptical reader, and the draft again with the reader's notes in mind."""

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import SystemMessage
from langgraph.graph import END, START, MessagesState, StateGraph

DRAFT = "You are the Brand Editor. Draft how the brand should sound for this."
READ = "You are the Reader. You have never heard of this brand. Say in two lines what is unclear in the draft."
REVISE = "You are the Brand Editor. Revise your draft with the reader's notes in mind, and give only the result."


def build_graph(model: BaseChatModel) -> StateGraph:
    """The graph for one run."""

    async def draft(state: MessagesState) -> MessagesState:
        return {"messages": [await model.ainvoke([SystemMessage(DRAFT), *state["messages"]])]}

    async def read(state: MessagesState) -> MessagesState:
        return {"messages": [await model.ainvoke([SystemMessage(READ), *state["messages"]])]}

    async def revise(state: MessagesState) -> MessagesState:
        return {"messages": [await model.ainvoke([SystemMessage(REVISE), *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("draft", draft)
    graph.add_node("read", read)
    graph.add_node("revise", revise)
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "read")
    graph.add_edge("read", "revise")
    graph.add_edge("revise", END)
    return graph

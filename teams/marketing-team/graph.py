"""Three people in a row: the researcher's notes feed the strategist, whose plan feeds the copywriter's brief."""

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import SystemMessage
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

RESEARCHER = (
    "You are the Market Researcher. In a few lines: who would want this, what they do today, and what they doubt."
)
STRATEGIST = "You are the Marketing Strategist. From the notes, choose the audience, the one message and the channels."
COPYWRITER = (
    "You are the Copywriter. Write the campaign brief that everybody can work from, with a plan by week. "
    "If the work is about how the brand sounds, propose it to the brand team instead."
)


def build_graph(model: BaseChatModel, tools: list[BaseTool]) -> StateGraph:
    """The graph for one run. The copywriter's words are the answer, because it alone leads to the end."""
    writing = model.bind_tools(tools) if tools else model

    async def researcher(state: MessagesState) -> MessagesState:
        return {"messages": [await model.ainvoke([SystemMessage(RESEARCHER), *state["messages"]])]}

    async def strategist(state: MessagesState) -> MessagesState:
        return {"messages": [await model.ainvoke([SystemMessage(STRATEGIST), *state["messages"]])]}

    async def copywriter(state: MessagesState) -> MessagesState:
        return {"messages": [await writing.ainvoke([SystemMessage(COPYWRITER), *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("researcher", researcher)
    graph.add_node("strategist", strategist)
    graph.add_node("copywriter", copywriter)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "researcher")
    graph.add_edge("researcher", "strategist")
    graph.add_edge("strategist", "copywriter")
    graph.add_conditional_edges("copywriter", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "copywriter")
    return graph

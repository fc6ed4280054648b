"""LangGraph to events. LangGraph and LangChain are imported when a run begins, never before."""

from elf_sdk.adapters.langgraph.adapter import LangGraphAdapter
from elf_sdk.adapters.langgraph.model import chat_model

__all__ = ["LangGraphAdapter", "chat_model"]

"""A team without a framework: one Python function."""

from elf_sdk.adapters.function.adapter import FunctionAdapter
from elf_sdk.adapters.function.context import FunctionContext, SyncFunctionContext

__all__ = ["FunctionAdapter", "FunctionContext", "SyncFunctionContext"]

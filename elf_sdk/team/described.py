"""JSON Schema of models, in which a field is described by the text below it in the source.

Pydantic's own `use_attribute_docstrings` reads the same text, but at the definition of each class, and so at every
start of a server, which shows it to nobody.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

__all__ = ["Described"]


class Described(GenerateJsonSchema):
    """For `schema_generator=` of `model_json_schema` and of `TypeAdapter.json_schema`."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        """A model's schema, with its fields described."""
        described = super().model_schema(schema)
        model: Any = schema["cls"]
        meanings: dict[str, str] = {}
        for cls in reversed(model.__mro__):
            if hasattr(cls, "model_fields") and cls.__module__.startswith("elf_sdk."):
                meanings.update(_meanings(cls.__module__).get(cls.__name__, {}))
        for name, text in meanings.items():
            key = (model.model_fields[name].alias if self.by_alias else None) or name
            field = {"description": text, **described["properties"][key]}
            # A field that is a model need not repeat what that says of itself.
            described["properties"][key] = self.handle_ref_overrides(field)
        return described


@functools.cache
def _meanings(module: str) -> Mapping[str, Mapping[str, str]]:
    """The text below each field, by class and field, of a module that is loaded."""
    found: dict[str, dict[str, str]] = {}
    for cls in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(cls, ast.ClassDef):
            for field, below in pairwise(cls.body):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        found.setdefault(cls.name, {})[name] = inspect.cleandoc(text)
                    case _:
                        pass
    return found

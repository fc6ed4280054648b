"""What an MCP server answers, as text for the model and as artifacts for people. Decided without I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from elf_sdk.runs.events import Artifact

if TYPE_CHECKING:
    from mcp.types import CallToolResult, ContentBlock

__all__ = ["artifacts_of", "text_of"]

_PART: Final = 240_000
"""Characters of base64 in one event, a multiple of four, so that each part is whole bytes."""
_LARGEST: Final = 8 * 1024 * 1024
"""Characters of base64 of one file that becomes an artifact."""


def text_of(result: CallToolResult) -> str:
    """The text for the model.

    Structured content is given where there is no text, because servers repeat it as text (MCP 2025-06-18, Tools). What
    is no text is named: a model that gets a tool's result as text cannot see it.
    """
    texts = [_text(block) for block in result.content]
    if result.structuredContent is not None and not any(texts):
        return json.dumps(result.structuredContent, ensure_ascii=False)
    return "\n".join(text for text in texts if text)


def _text(block: ContentBlock) -> str:
    if block.type == "text":
        return block.text
    if block.type == "resource_link":
        described = f": {block.description}" if block.description else ""
        return f"[{block.name}, {block.uri}{described}]"
    if block.type == "resource":
        text = getattr(block.resource, "text", None)
        return text if isinstance(text, str) else f"[the file {block.resource.uri}, {block.resource.mimeType}]"
    if len(block.data) > _LARGEST:
        return f"[{block.mimeType}, which is too large to be kept]"
    return f"[{block.mimeType}, which the person sees]"


def artifacts_of(result: CallToolResult, artifact_id: str, name: str) -> Iterator[Artifact]:
    """Images, sounds, files and links, in parts where they are too large for one event.

    Args:
        result: the server's answer.
        artifact_id: of the artifacts; a number is added from the second one on.
        name: for people.
    """
    for number, block in enumerate(result.content, 1):
        here = artifact_id if number == 1 else f"{artifact_id}-{number}"
        if block.type == "resource_link":
            if str(block.uri).startswith(("https://", "http://")):
                media_type = block.mimeType or "application/octet-stream"
                yield Artifact(here, block.title or block.name, media_type, url=str(block.uri), filename=block.name)
        elif block.type == "resource":
            blob = getattr(block.resource, "blob", None)
            if isinstance(blob, str):
                file = str(block.resource.uri).rpartition("/")[2]
                media_type = block.resource.mimeType or "application/octet-stream"
                yield from _parts(here, file or name, media_type, blob, file)
        elif block.type != "text":
            yield from _parts(here, name, block.mimeType, block.data, "")


def _parts(artifact_id: str, name: str, media_type: str, data: str, filename: str) -> Iterator[Artifact]:
    if len(data) > _LARGEST:
        return
    for start in range(0, len(data), _PART):
        yield Artifact(
            artifact_id,
            name,
            media_type,
            raw=data[start : start + _PART],
            filename=filename,
            append=start > 0,
            last=start + _PART >= len(data),
        )

"""`elf serve`."""

from __future__ import annotations

from pathlib import Path

import click

from elf_sdk.server.loading import load_server

__all__ = ["serve"]


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path())
@click.option("--host", help="Address to listen on.  [default: ELF_HOST, or 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.  [default: ELF_PORT, or 8000]")
def serve(directory: Path, host: str | None, port: int | None) -> None:
    """Serve the team of DIRECTORY alone, as its container does.

    Example: elf serve teams/marketing-team --port 8000
    """
    load_server(directory).serve(host, port)

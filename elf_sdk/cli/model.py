"""`elf model`: the offline model as a server of its own."""

from __future__ import annotations

from pathlib import Path

import click

from elf_sdk.cli.group import Group

__all__ = ["model"]


@click.group(cls=Group)
def model() -> None:
    """Run the offline model, a server with the APIs of OpenAI and Anthropic for demos and tests.

    Example: elf model serve --script offline.yaml
    """


@model.command()
@click.option("--script", type=click.Path(path_type=Path), help="A YAML file with scripted answers.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8100, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option("--record", type=click.Path(path_type=Path), help="A file that gets a line of JSON for each request.")
def serve(script: Path | None, host: str, port: int, record: Path | None) -> None:
    """Serve scripted answers until interrupted. What was asked is at /requests; DELETE forgets it.

    Example: elf model serve --script offline.yaml --port 8100
    """
    from elf_sdk.models.offline import MODEL, OfflineModel
    from elf_sdk.models.script import load_script

    server = OfflineModel(load_script(script) if script else None, host=host, port=port, record=record)
    url = server.start()
    try:
        click.echo(f"The offline model listens on {url}; Ctrl-C stops it.")
        click.echo("Try:")
        question = '{"model": "%s", "messages": [{"role": "user", "content": "What can you do?"}]}' % MODEL  # noqa: UP031
        click.echo(f"  curl -s {url}/chat/completions -H 'Content-Type: application/json' -d '{question}'")
        server.wait()
    finally:
        server.stop()

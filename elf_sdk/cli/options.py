"""The options and arguments that several commands take: one name, one meaning and one help wherever they stand.

Written as decorators, such as `@options.branch`. What means something else in one command stays with that command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

__all__ = ["as_json", "branch", "clone", "context", "helm", "path", "project", "push", "teams", "url"]

as_json: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
branch: Final = click.option("--branch", help="A branch for a review, instead of the one that Argo CD follows.")
clone: Final = click.option(
    "--clone",
    type=click.Path(path_type=Path),
    help="Directory of the clone. Default: gitops, beside elf.yaml; without an address, the project's own repository.",
)
context: Final = click.option(
    "--context", default="", help="The context of the kubeconfig to ask.  [default: the environment's own]"
)
helm: Final = click.option(
    "--helm",
    "choice",
    type=click.Choice(["auto", "embedded", "cli"]),
    default="auto",
    show_default=True,
    help="Which Helm renders the charts; auto is the embedded one where it is installed.",
)
path: Final = click.argument("path", type=click.Path(path_type=Path), default=Path())
project: Final = click.option(
    "--project", "path", type=click.Path(path_type=Path), default=Path(), help="The project.  [default: this directory]"
)
push: Final = click.option("--push", is_flag=True, help="Push the commit too.")
teams: Final = click.argument("teams", nargs=-1, metavar="[TEAM]…")
url: Final = click.option("--url", help="Address of the team.  [default: the one of `elf dev`]")

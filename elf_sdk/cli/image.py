"""`elf image`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from elf_sdk.cli import options
from elf_sdk.cli.group import Group
from elf_sdk.cli.output import print_done, print_json
from elf_sdk.deploy.image.builder import BUILDERS, Builder, choose_builder
from elf_sdk.deploy.image.index import read_index
from elf_sdk.deploy.image.program import Tell
from elf_sdk.errors import BadInput
from elf_sdk.team.project import Project, find_project

if TYPE_CHECKING:
    from elf_sdk.deploy.image.build import Built
    from elf_sdk.deploy.image.load import Loaded
    from elf_sdk.deploy.image.push import Pushed

__all__ = ["image"]

_all = click.option("--all", "every", is_flag=True, help="All teams.")
_builder = click.option(
    "--builder",
    "choice",
    type=click.Choice(["auto", *BUILDERS]),
    default="auto",
    show_default=True,
    help="What builds; auto is the first of them whose engine answers.",
)
_verbose = click.option("--verbose", is_flag=True, help="Show what the builder prints.")


@click.group(cls=Group)
def image() -> None:
    """Build, push and load the container images of teams.

    Example: elf image build --all, then elf image push --all
    """


@image.command()
@options.teams
@_all
@options.project
@_builder
@click.option("--base", default="", help="The image to build on, instead of each team's image.base.")
@click.option("--allow-unlocked", is_flag=True, help="Take a team's requirements.txt although it has no hashes.")
@click.option(
    "--sbom",
    "sboms",
    type=click.Path(path_type=Path),
    help="Directory for a copy of each image's bill of materials (CycloneDX).",
)
@click.option("--no-cache", is_flag=True, help="Use nothing of earlier builds.")
@click.option(
    "--context",
    "output",
    type=click.Path(path_type=Path),
    help="Build nothing: write the Dockerfile, and all that it copies, to this directory, below the team's name.",
)
@_verbose
@options.as_json
def build(
    teams: tuple[str, ...],
    every: bool,
    path: Path,
    choice: str,
    base: str,
    allow_unlocked: bool,
    sboms: Path | None,
    no_cache: bool,
    output: Path | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Build the image of each TEAM, called as the chart calls it.

    Packages are locked by hash. They come from where this user's pip takes them from.

    Example: elf image build brand-team --builder buildah
    """
    from elf_sdk.deploy.image import build as images

    project, names = _chosen(path, teams, every)
    if output is not None:
        for context in images.contexts(project, names, base=base, allow_unlocked=allow_unlocked):
            place = output / context.team.spec.name
            context.write(place, read_index())
            click.echo(f"{place}: the context of {context.reference}")
        return
    built = []
    for each in images.build(
        project,
        names,
        builder=lambda: _engine(choice),
        base=base,
        allow_unlocked=allow_unlocked,
        cache=not no_cache,
        sboms=sboms,
        tell=_teller(verbose),
        starts=lambda context: click.echo(f"building {context.reference} on {context.base}", err=True),
    ):
        built.append(each)
        if not as_json:
            size = f", {each.size / 1e6:.0f} MB" if each.size else ""
            print_done(f"{each.reference}  {each.image_id[7:19]}{size}, {each.seconds:.0f} s")
    if as_json:
        print_json({"images": [_built(each) for each in built]})


@image.command()
@options.teams
@_all
@options.project
@_builder
@click.option("--force", is_flag=True, help="Take the tag away from another image that has it in the registry.")
@_verbose
@options.as_json
def push(
    teams: tuple[str, ...], every: bool, path: Path, choice: str, force: bool, verbose: bool, as_json: bool
) -> None:
    """Push the image of each TEAM, and write its digest for the first environment to images.lock.yaml.

    Credentials are those of docker login, podman login or buildah login. The digest is the registry's own.

    Example: DOCKER_REGISTRY=registry.example.com/agents elf image push --all
    """
    from elf_sdk.deploy.image import push as pushing

    project, names = _chosen(path, teams, every)
    pushed = []
    for each in pushing.push(
        project,
        names,
        builder=lambda: _engine(choice),
        force=force,
        tell=_teller(verbose),
        starts=lambda reference: click.echo(f"pushing {reference}", err=True),
    ):
        pushed.append(each)
        if not as_json:
            done = "was there already" if each.was_there else f"{each.seconds:.0f} s"
            print_done(f"{each.reference}  {each.digest}  {each.environment}, {done}")
    if as_json:
        print_json({"images": [_pushed(each) for each in pushed]})


@image.command()
@options.teams
@_all
@options.project
@_builder
@click.option("--kind", default="", metavar="NAME", help="Into the kind cluster of that name.")
@click.option("--k3s", is_flag=True, help="Into this machine's k3s, or its containerd.")
@click.option("--ssh", default="", metavar="USER@HOST", help="Into the k3s or containerd of another machine.")
@_verbose
@options.as_json
def load(
    teams: tuple[str, ...],
    every: bool,
    path: Path,
    choice: str,
    kind: str,
    k3s: bool,
    ssh: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Load the image of each TEAM into a cluster that has no registry.

    Charts find it by its tag, as long as images.lock.yaml has no digest for the environment.

    Example: elf image load --all --kind dev
    """
    from elf_sdk.deploy.image import load as loading

    target = loading.Target(kind, k3s, ssh)
    project, names = _chosen(path, teams, every)
    loaded = []
    for each in loading.load(
        project,
        target,
        names,
        builder=lambda: _engine(choice),
        tell=_teller(verbose),
        starts=lambda reference: click.echo(f"loading {reference} into {target}", err=True),
    ):
        loaded.append(each)
        if not as_json:
            print_done(f"{each.reference}  in {target}, {each.seconds:.0f} s")
    if as_json:
        print_json({"images": [_loaded(each) for each in loaded]})


def _built(each: Built) -> dict[str, Any]:
    return {
        "team": each.team,
        "image": str(each.reference),
        "id": each.image_id,
        "bytes": each.size or None,
        "seconds": round(each.seconds, 1),
        "extras": list(each.extras),
        "locked": each.locked,
        "sbom": str(each.sbom) if each.sbom else None,
    }


def _pushed(each: Pushed) -> dict[str, Any]:
    return {
        "team": each.team,
        "image": str(each.reference),
        "digest": each.digest,
        "environment": each.environment,
        "file": str(each.lock),
        "was_there": each.was_there,
        "seconds": round(each.seconds, 1),
    }


def _loaded(each: Loaded) -> dict[str, Any]:
    return {
        "team": each.team,
        "image": str(each.reference),
        "target": str(each.target),
        "seconds": round(each.seconds, 1),
    }


def _chosen(path: Path, teams: tuple[str, ...], every: bool) -> tuple[Project, tuple[str, ...]]:
    if bool(teams) == every:
        raise BadInput("name the teams, or write --all" + (", not both" if teams else ""))
    project = find_project(path)
    return project, tuple(team.spec.name for team in project.teams) if every else teams


def _engine(choice: str) -> Builder:
    engine = choose_builder(choice)
    click.echo(f"with {engine.name} {engine.version}", err=True)
    return engine


def _teller(verbose: bool) -> Tell:
    return (lambda line: click.echo(f"    {line}", err=True)) if verbose else (lambda line: None)

"""`elf image push`: an image reaches its registry, and its digest the team's `images.lock.yaml`.

A tag is a version, and a version means one image: a tag that is in the registry with another image is refused. What
counts as the digest is what the registry says after the push.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elf_sdk.deploy.image.builder import Builder, choose_builder
from elf_sdk.deploy.image.program import Tell
from elf_sdk.deploy.image.registry import Registry
from elf_sdk.deploy.images import IMAGES_FILE, read_digests, write_digest
from elf_sdk.deploy.reference import Reference, image_of
from elf_sdk.errors import BadInput, Conflict, Failure
from elf_sdk.settings import ImageSettings, load_image_settings
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["Pushed", "push"]


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image in its registry.

    Attributes:
        team: its team.
        reference: what it is called.
        digest: of its manifest, as the registry says.
        environment: whose digest was written.
        lock: the file that it was written to.
        was_there: whether the registry had this very image before.
        seconds: that it took.
    """

    team: str
    reference: Reference
    digest: str
    environment: str
    lock: Path
    was_there: bool
    seconds: float


def push(
    project: Project,
    names: Iterable[str] = (),
    *,
    builder: Callable[[], Builder] = choose_builder,
    force: bool = False,
    settings: ImageSettings | None = None,
    tell: Tell = lambda line: None,
    starts: Callable[[Reference], None] = lambda reference: None,
) -> Iterator[Pushed]:
    """Push the images of `project`, one after the other; each is given when its digest is written.

    Images, registries, tags and lock files are looked at before the first push starts, so that what can be known
    beforehand stops all of them.

    Args:
        project: the organisation and its teams.
        names: of teams; none means those of the project's path.
        builder: gives the builder, which has the images.
        force: put an image in the place of another with the same tag.
        settings: what the environment says; default: the process's own.
        tell: hears what the builder prints.
        starts: told about each image before it is pushed.

    Raises:
        BadInput: there is no registry, no image, or something is wrong in a lock file.
        Conflict: the tag is in the registry, and means another image.
        Denied: the registry refuses this user.
        Retryable: the registry is not reached.
        Failure: the push failed.
    """
    told = settings or load_image_settings()
    environment = project.organisation.environments[0].name
    wanted = [(team, _reference(team, project, environment)) for team in project.select(names)]
    for team, _ in wanted:
        read_digests(team.directory, project.organisation)
    engine = builder()
    ready = []
    for team, reference in wanted:
        image = engine.image_id(reference)
        if image is None:
            raise BadInput(
                f"{engine.name} has no image {reference}; run elf image build {team.spec.name} --builder {engine.name}"
            )
        ready.append((team, reference, _digest_there(reference, image, told, force=force)))
    for team, reference, there in ready:
        starts(reference)
        begin = time.monotonic()
        digest = there or engine.push(reference, tell)
        if not there:
            _confirm(reference, digest, told)
        write_digest(team.directory, project.organisation, environment, digest)
        yield Pushed(
            team.spec.name,
            reference,
            digest,
            environment,
            team.directory / IMAGES_FILE,
            bool(there),
            time.monotonic() - begin,
        )


def _reference(team: LoadedTeam, project: Project, environment: str) -> Reference:
    reference = image_of(team.spec.for_environment(environment), project.organisation)
    if not reference.registry:
        raise BadInput(
            f"{reference} is in no registry; name one under registry in elf.yaml, such as registry.example.com/agents, "
            "or in DOCKER_REGISTRY"
        )
    return reference


def _digest_there(reference: Reference, image: str, settings: ImageSettings, *, force: bool) -> str:
    """The digest that the registry has for this very image; empty where it has to be pushed."""
    with Registry(reference.registry, settings.credentials) as registry:
        found = registry.manifest(reference)
    if found is None:
        return ""
    if image in (found.image_id, found.digest):
        return found.digest
    if force:
        return ""
    raise Conflict(
        f"{reference} is in the registry already, and is another image ({found.digest}); raise version in the "
        "team.yaml and build again, or push with --force, which takes the tag away from that image"
    )


def _confirm(reference: Reference, digest: str, settings: ImageSettings) -> None:
    with Registry(reference.registry, settings.credentials) as registry:
        found = registry.manifest(reference)
    if found is None or found.digest != digest:
        has = found.digest if found else "nothing"
        raise Failure(
            f"{reference} was pushed as {digest}, and the registry has {has} under that tag; did somebody else push? "
            f"No {IMAGES_FILE} was changed"
        )

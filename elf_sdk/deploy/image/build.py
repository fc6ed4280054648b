"""`elf image build`: a team's files, the locked packages and the elf-sdk that runs here become one image."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from elf_sdk.deploy.image.builder import Builder, choose_builder
from elf_sdk.deploy.image.context import DOCKERFILE, team_files, write_context
from elf_sdk.deploy.image.dockerfile import SBOM_PATH, dockerfile
from elf_sdk.deploy.image.index import PackageIndex, read_index, wheels_of
from elf_sdk.deploy.image.program import Tell
from elf_sdk.deploy.image.provenance import provenance_of
from elf_sdk.deploy.image.requirements import extras_of, locked, own_requirements, read_lock
from elf_sdk.deploy.image.wheel import elf_sdk_wheel
from elf_sdk.deploy.reference import Reference, image_of, qualified
from elf_sdk.errors import BadInput
from elf_sdk.files import replace_file
from elf_sdk.settings import ImageSettings, load_image_settings
from elf_sdk.team.organisation import Organisation
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["Built", "Context", "build", "contexts", "labels_of"]

_HASHES: Final = re.compile(r" \\\n +--hash=\S+")


@dataclass(frozen=True, slots=True)
class Context:
    """All that one team's image is built from.

    Attributes:
        team: the team.
        reference: of the image.
        base: the image to build on.
        files: what is generated, content by path in the build context.
        copied: what is copied from the team's directory, by path below `team/`.
        requirements: every pinned package with its hashes.
        locked: whether the team's own packages have hashes, too.
    """

    team: LoadedTeam
    reference: Reference
    base: str
    files: Mapping[str, bytes]
    copied: Mapping[str, Path]
    requirements: str
    locked: bool

    def write(self, place: Path, index: PackageIndex) -> None:
        """Write it into the directory `place`, which must be new or empty.

        Raises:
            BadInput: there is something in it.
            Failure: it cannot be written.
        """
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise BadInput(f"{place} is there already; name a directory that is not")
        write_context(place, self.files, self.copied, wheels_of(index.directories, self.requirements))


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built.

    Attributes:
        team: its team.
        reference: what it is called.
        image_id: digest of its configuration.
        size: bytes, uncompressed, with the base; 0 where the builder does not say.
        seconds: that it took.
        extras: of elf-sdk, that are in it.
        locked: whether every package in it was locked by its hash.
        sbom: file with its bill of materials, or None where none was asked for.
    """

    team: str
    reference: Reference
    image_id: str
    size: int
    seconds: float
    extras: tuple[str, ...]
    locked: bool
    sbom: Path | None = None


def build(
    project: Project,
    names: Iterable[str] = (),
    *,
    builder: Callable[[], Builder] = choose_builder,
    base: str = "",
    allow_unlocked: bool = False,
    cache: bool = True,
    sboms: Path | None = None,
    settings: ImageSettings | None = None,
    tell: Tell = lambda line: None,
    starts: Callable[[Context], None] = lambda context: None,
) -> Iterator[Built]:
    """Build the images of `project`, one after the other; each is given when it is there.

    Everything that can be wrong in the files is found before the first build starts.

    Args:
        project: the organisation and its teams.
        names: of teams; none means those of the project's path.
        builder: gives the builder; called once the files are right.
        base: the image to build on, instead of each team's `image.base`.
        allow_unlocked: take packages of a team that are not locked by hash.
        cache: use layers of earlier builds.
        sboms: directory for a copy of each image's bill of materials, `<team>-<version>.cdx.json`.
        settings: what the environment says; default: the process's own.
        tell: hears what the builder prints.
        starts: told about each image before it is built.

    Raises:
        BadInput: a team's files cannot become an image.
        Missing: nothing here builds images.
        Failure: a build failed.
    """
    told = settings or load_image_settings()
    ready = tuple(contexts(project, names, base=base, allow_unlocked=allow_unlocked, settings=told))
    engine, index = builder(), read_index(told.proxies)
    for context in ready:
        starts(context)
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="elf-image-") as place:
            context.write(Path(place), index)
            engine.build(
                Path(place),
                context.reference,
                context.base,
                index,
                tell,
                epoch=told.source_date_epoch,
                cache=cache,
            )
        yield Built(
            context.team.spec.name,
            context.reference,
            engine.image_id(context.reference) or "",
            engine.size(context.reference),
            time.monotonic() - begin,
            extras_of(context.team.spec),
            context.locked,
            _sbom(engine, context, sboms) if sboms else None,
        )


def _sbom(engine: Builder, context: Context, directory: Path) -> Path:
    content = engine.read(context.reference, SBOM_PATH)
    path = directory / f"{context.team.spec.name}-{context.reference.tag}.cdx.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{directory} cannot be made: {error.strerror}; choose another place") from None
    replace_file(path, content)
    return path


def contexts(
    project: Project,
    names: Iterable[str] = (),
    *,
    base: str = "",
    allow_unlocked: bool = False,
    settings: ImageSettings | None = None,
) -> Iterator[Context]:
    """What each image is built from; arguments and errors as for `build`."""
    told = settings or load_image_settings()
    lock, wheel = read_lock(), elf_sdk_wheel()
    for team in project.select(names):
        yield _context(team, project.organisation, lock, wheel, base, allow_unlocked, told)


def _context(
    team: LoadedTeam,
    organisation: Organisation,
    lock: str,
    wheel: tuple[str, bytes],
    base: str,
    allow_unlocked: bool,
    settings: ImageSettings,
) -> Context:
    # What differs between environments is built, pushed and recorded as the first one has it.
    spec = team.spec.for_environment(organisation.environments[0].name)
    if not (team.directory / "team.py").is_file():
        raise BadInput(
            f"{os.path.relpath(team.directory)}: there is no team.py, so nothing would run; write one with a subclass "
            "of TeamServer"
        )
    copied = team_files(team)
    label = team.file.removesuffix("/team.yaml")
    own, all_locked = own_requirements(team.directory, label, allow_unlocked=allow_unlocked)
    requirements = locked(lock, extras_of(team.spec))
    on = qualified(base or spec.image.base)
    files = {
        DOCKERFILE: dockerfile(spec, labels_of(team, organisation, on, settings), own=bool(own), locked=all_locked),
        "packages/requirements.txt": requirements.encode(),
        f"elf-sdk/{wheel[0]}": wheel[1],
    }
    if own:
        files["packages/team.txt"] = own.encode()
        files["packages/constraints.txt"] = re.sub(_HASHES, "", requirements).encode()
    return Context(team, image_of(spec, organisation), on, files, copied, requirements + own, all_locked)


def labels_of(team: LoadedTeam, organisation: Organisation, base: str, settings: ImageSettings) -> dict[str, str]:
    """The labels of a team's image (OCI image specification, annotations), those that are known.

    `created` is there only where SOURCE_DATE_EPOCH says it, because the time of a build would make every image another.
    """
    spec, git = team.spec, provenance_of(team.directory)
    epoch = settings.source_date_epoch
    created = "" if epoch is None else datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    known = {
        "base.name": base,
        "created": created,
        "description": spec.purpose,
        "revision": git.revision,
        "source": git.source,
        "title": spec.title,
        "vendor": organisation.title,
        "version": spec.version,
    }
    return {f"org.opencontainers.image.{name}": value for name, value in known.items() if value}

"""`elf image load`: an image into a cluster that has no registry, straight into what its nodes keep.

    kind      kind load image-archive
    k3s       k3s ctr images import, or ctr where only containerd is there
    ssh       the same on another machine, with the image sent over the connection

Such an image has no registry and so no digest: charts find it by its tag, and only while `images.lock.yaml` has no
digest for the environment.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elf_sdk.deploy.image.builder import Builder, choose_builder
from elf_sdk.deploy.image.program import Tell, last_line
from elf_sdk.deploy.reference import Reference, image_of
from elf_sdk.errors import BadInput, Failure, Missing
from elf_sdk.team.project import Project

__all__ = ["Loaded", "Target", "load"]

_HOST: Final = re.compile(r"([A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9\[][A-Za-z0-9.:\]_-]*")
_HOUR: Final = 3600

_REMOTE: Final = (
    'as=; [ "$(id -u)" = 0 ] || as="sudo -n"; '
    "if command -v k3s >/dev/null; then exec $as k3s ctr -n k8s.io images import -; fi; "
    "exec $as ctr -n k8s.io images import -"
)
"""What runs on the other machine. It reads the image from its standard input."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where images go: exactly one of the three.

    Attributes:
        kind: name of a kind cluster.
        k3s: whether to this machine's k3s or containerd.
        ssh: another machine, `USER@HOST`, with k3s or containerd.
    """

    kind: str = ""
    k3s: bool = False
    ssh: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.kind, self.k3s, self.ssh))) != 1:
            raise BadInput("name one place to load into: --kind NAME, --k3s or --ssh USER@HOST")
        if self.ssh and not _HOST.fullmatch(self.ssh):
            raise BadInput(f"{self.ssh!r} is no USER@HOST")

    def __str__(self) -> str:
        return f"kind cluster {self.kind}" if self.kind else self.ssh or "the containerd of this machine"

    def command(self, archive: Path) -> Sequence[str]:
        """The command that loads `archive`; for another machine it reads the archive from its standard input.

        Raises:
            Missing: a program is not installed.
        """
        if self.kind:
            _need("kind", "see kind.sigs.k8s.io")
            return ("kind", "load", "image-archive", str(archive), "--name", self.kind)
        if self.ssh:
            _need("ssh", "apt-get install openssh-client")
            return ("ssh", "-o", "BatchMode=yes", "--", self.ssh, _REMOTE)
        if shutil.which("k3s"):
            return ("k3s", "ctr", "-n", "k8s.io", "images", "import", str(archive))
        _need("ctr", "it comes with containerd, and k3s has its own")
        return ("ctr", "-n", "k8s.io", "images", "import", str(archive))


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image in a cluster.

    Attributes:
        team: its team.
        reference: what it is called there.
        target: where.
        seconds: that it took.
    """

    team: str
    reference: Reference
    target: Target
    seconds: float


def load(
    project: Project,
    target: Target,
    names: Iterable[str] = (),
    *,
    builder: Callable[[], Builder] = choose_builder,
    tell: Tell = lambda line: None,
    starts: Callable[[Reference], None] = lambda reference: None,
) -> Iterator[Loaded]:
    """Load the images of `project`, one after the other; each is given when it is there.

    Raises:
        BadInput: there is no such image.
        Missing: a program is not installed.
        Failure: it failed.
    """
    first = project.organisation.environments[0].name
    wanted = [
        (team, image_of(team.spec.for_environment(first), project.organisation)) for team in project.select(names)
    ]
    engine = builder()
    for team, reference in wanted:
        if engine.image_id(reference) is None:
            raise BadInput(
                f"{engine.name} has no image {reference}; run elf image build {team.spec.name} --builder {engine.name}"
            )
    for team, reference in wanted:
        starts(reference)
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="elf-load-") as place:
            archive = Path(place, "image.tar")
            command = target.command(archive)
            engine.save(reference, archive, tell)
            _import(command, archive, reference, target)
        yield Loaded(team.spec.name, reference, target, time.monotonic() - begin)


def _need(program: str, remedy: str) -> None:
    if shutil.which(program) is None:
        raise Missing(f"{program} is not installed; {remedy}")


def _import(command: Sequence[str], archive: Path, reference: Reference, target: Target) -> None:
    with archive.open("rb") as content:
        try:
            done = subprocess.run(  # noqa: S603 - fixed commands; the names in them were checked
                command, stdin=content, capture_output=True, text=True, timeout=_HOUR, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failure(f"{reference} could not be loaded into {target}: {error}") from None
    if done.returncode:
        said = last_line((done.stderr or done.stdout).splitlines()) or "it says nothing"
        raise Failure(f"{reference} could not be loaded into {target}: {said}")

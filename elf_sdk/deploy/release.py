"""Helm's releases in a cluster, behind one small seam: a `helm` program driven by pyhelm3, or the embedded library.

Helm is not told to wait: `rollout` says better than it what a Deployment waits for.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, Protocol

from elf_sdk.deploy.cluster.kubeconfig import Context
from elf_sdk.deploy.helm import CommandLineHelm
from elf_sdk.errors import ElfError, Failure, Missing, Retryable

__all__ = ["CommandLineReleases", "EmbeddedReleases", "Releases", "choose_releases"]

Choice = Literal["auto", "embedded", "cli"]

_INSTALL: Final = "pip install 'elf-sdk[tools]'"
_HISTORY: Final = 5
"""Revisions that are kept of a release, each as a Secret."""
_SECONDS: Final = 120
_UNDER_WAY: Final = re.compile(r"another operation .* is in progress|has no deployed releases")
_ABSENT: Final = re.compile(r"release: not found")


class Releases(Protocol):
    """What deploying needs of Helm. Safe to use from several threads for different releases."""

    @property
    def name(self) -> str:
        """Which Helm it is, with its version."""

    def install(self, chart: Path, values: Mapping[str, Any], *, release: str, namespace: str) -> None:
        """Install the chart in the directory `chart`, or upgrade the release to it.

        Args:
            chart: its directory.
            values: over those of the chart; values of an earlier revision do not count.
            release: its name.
            namespace: of the release; it is there.

        Raises:
            Retryable: another Helm is at this release, or was cut off at it.
            Failure: what Helm or the cluster has to say against it.
        """

    def uninstall(self, *, release: str, namespace: str) -> bool:
        """Remove a release with all its objects; whether there was one.

        Raises:
            Failure: as for `install`.
        """


def choose_releases(context: Context, choice: Choice = "auto") -> Releases:
    """The Helm to deploy with: a fit `helm` on the PATH, else the embedded one.

    Raises:
        Missing: there is none of this kind.
    """
    if choice == "embedded":
        return EmbeddedReleases(context)
    program = shutil.which("helm")
    try:
        if program is None:
            raise Missing(f"there is no `helm` on the PATH; {_INSTALL} brings one that is embedded")
        return CommandLineReleases(context, Path(program))
    except Missing:
        if choice == "cli":
            raise
    return EmbeddedReleases(context)


class EmbeddedReleases:
    """Helm 4 as a library in this process (package helm-python-sdk).

    Raises:
        Missing: it is not installed, or does not load here.
    """

    def __init__(self, context: Context) -> None:
        try:
            self._helm: ModuleType = importlib.import_module("helm_python")
        except ImportError:
            raise Missing(f"there is no Helm: {_INSTALL} brings one, or install Helm 4") from None
        except RuntimeError as error:
            raise Missing(f"the embedded Helm does not load here: {error}; put a `helm` on the PATH") from None
        self._context = None if context.in_pod else context.name

    @property
    def name(self) -> str:
        """As in the seam."""
        return f"embedded Helm {self._helm.helm_sdk_version()}"

    def install(self, chart: Path, values: Mapping[str, Any], *, release: str, namespace: str) -> None:
        """As in the seam."""
        given = dict(values)
        try:
            with self._config(namespace) as config, self._helm.Chart.load(chart) as loaded:
                # A history that holds nothing but what was uninstalled would be no release; ours keep none.
                if self._is_there(config, release):
                    config.upgrade(loaded, release, given, timeout=_SECONDS, reset_values=True, max_history=_HISTORY)
                else:
                    config.install(loaded, release, given, timeout=_SECONDS)
        except self._helm.HelmError as error:
            raise _said(str(error), release, namespace) from None

    def uninstall(self, *, release: str, namespace: str) -> bool:
        """As in the seam."""
        try:
            with self._config(namespace) as config:
                if not self._is_there(config, release):
                    return False
                config.uninstall(release, timeout=_SECONDS)
        except self._helm.HelmError as error:
            raise _said(str(error), release, namespace) from None
        return True

    def _config(self, namespace: str) -> Any:
        return self._helm.Config(kube_context=self._context, namespace=namespace)

    def _is_there(self, config: Any, release: str) -> bool:
        try:
            config.status(release)
        except self._helm.HelmError as error:
            if isinstance(error, self._helm.HelmNotFoundError) or _ABSENT.search(str(error)):
                return False
            raise
        return True


class CommandLineReleases:
    """A `helm` program, driven by pyhelm3.

    Raises:
        Missing: pyhelm3 is not installed, or the program is not fit.
    """

    def __init__(self, context: Context, program: Path) -> None:
        try:
            pyhelm3 = importlib.import_module("pyhelm3")
            self._errors: ModuleType = importlib.import_module("pyhelm3.errors")
            semver = importlib.import_module("semver")
        except ImportError:
            raise Missing(f"the package pyhelm3 is not installed; {_INSTALL} brings it") from None
        self._name = CommandLineHelm(program).name
        version = self._name.split()[1].removeprefix("v")

        class Command(pyhelm3.Command):  # type: ignore[name-defined, misc]
            # A Helm that was built from its module says v4.2 and no patch, which pyhelm3 does not read.
            def client_version(self) -> Any:
                return semver.Version.parse(version, optional_minor_and_patch=True)

        # The context says who asks; a token would stand among the arguments, which every user of the machine can read.
        command = Command(
            executable=str(program),
            kubecontext=None if context.in_pod else context.name,
            history_max_revisions=_HISTORY,
            default_timeout=f"{_SECONDS}s",
        )
        self._client: Any = pyhelm3.Client(command, executable=str(program))

    @property
    def name(self) -> str:
        """As in the seam."""
        return self._name

    def install(self, chart: Path, values: Mapping[str, Any], *, release: str, namespace: str) -> None:
        """As in the seam."""

        async def upgrade() -> None:
            # One dictionary: of several, pyhelm3 would join the lists.
            await self._client.install_or_upgrade_release(
                release,
                await self._client.get_chart(chart),
                dict(values),
                namespace=namespace,
                create_namespace=False,
                reset_values=True,
            )

        try:
            asyncio.run(upgrade())
        except self._errors.Error as error:
            raise _said(str(error), release, namespace) from None

    def uninstall(self, *, release: str, namespace: str) -> bool:
        """As in the seam."""

        async def remove() -> bool:
            try:
                await self._client.get_current_revision(release, namespace=namespace)
            except self._errors.ReleaseNotFoundError:
                return False
            await self._client.uninstall_release(release, namespace=namespace)
            return True

        try:
            return asyncio.run(remove())
        except self._errors.Error as error:
            raise _said(str(error), release, namespace) from None


def _said(text: str, release: str, namespace: str) -> ElfError:
    message = " ".join(text.split()).removeprefix("Error: ")
    if _UNDER_WAY.search(message):
        return Retryable(
            f"another deploy of {release} in {namespace} is under way, or was cut off; wait for it, or if there is "
            "none, take its rest away with --remove and deploy again"
        )
    return Failure(message)

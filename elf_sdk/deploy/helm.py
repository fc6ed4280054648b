"""Real Helm, behind one small seam: the embedded library, or a `helm` on the PATH. Both give the same objects.

Which one (`auto`): the embedded one where it is installed, because it is faster by an order; else the `helm` on the
PATH, if it is fit; else `Missing`, which says what to install.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, Protocol

from elf_sdk.errors import Failure, Missing

__all__ = ["CommandLineHelm", "EmbeddedHelm", "Helm", "choose_helm", "fit"]

Choice = Literal["auto", "embedded", "cli"]

_INSTALL: Final = "pip install 'elf-sdk[tools]'"
_ERROR: Final = 3
"""Helm's severity of a finding that fails a lint."""


class Helm(Protocol):
    """What packaging needs of Helm."""

    @property
    def name(self) -> str:
        """Which Helm it is, with its version."""

    def render(self, chart: Path, values: Path, *, release: str, namespace: str) -> str:
        """Lint the chart in the directory `chart` with the file `values`, and render it.

        Returns:
            The manifests, as a stream of YAML documents.

        Raises:
            Failure: what Helm has to say against it.
        """


def choose_helm(choice: Choice = "auto") -> Helm:
    """The Helm to use.

    Raises:
        Missing: there is none of this kind.
    """
    if choice in ("auto", "embedded"):
        try:
            return EmbeddedHelm()
        except Missing:
            if choice == "embedded":
                raise
    program = shutil.which("helm")
    if program is None:
        raise Missing(f"there is no Helm: {_INSTALL} brings one, or install Helm 4 so that `helm` is on the PATH")
    return CommandLineHelm(Path(program))


class EmbeddedHelm:
    """Helm 4 as a library in this process (package helm-python-sdk). Safe to use from several threads."""

    def __init__(self) -> None:
        try:
            self._helm: ModuleType = importlib.import_module("helm_python")
        except ImportError:
            raise Missing(f"the embedded Helm is not installed; {_INSTALL} brings it") from None
        except RuntimeError as error:
            raise Missing(f"the embedded Helm does not load here: {error}; put a `helm` on the PATH") from None

    @property
    def name(self) -> str:
        """As in the seam."""
        return f"embedded Helm {self._helm.helm_sdk_version()}"

    def render(self, chart: Path, values: Path, *, release: str, namespace: str) -> str:
        """As in the seam."""
        try:
            given: dict[str, Any] = self._helm.values_from_yaml(values.read_text(encoding="utf-8"))
            # Rendering checks the values against the schema too; once is enough, it is a third of a lint.
            report = self._helm.lint(chart, given, strict=True, namespace=namespace, skip_schema_validation=True)
            if report["errors"]:
                findings = [m["error"] for m in report["messages"] if m["severity"] >= _ERROR] or report["errors"]
                raise Failure("; ".join(_one_line(str(finding)) for finding in findings))
            with self._helm.Chart.load(chart) as loaded:
                rendered: Mapping[str, str] = loaded.render(given, name=release, namespace=namespace)
        except self._helm.HelmError as error:
            raise Failure(_one_line(str(error))) from None
        return "\n".join(f"---\n{text}" for path, text in sorted(rendered.items()) if path.endswith((".yaml", ".yml")))


class CommandLineHelm:
    """A `helm` program.

    Raises:
        Missing: it does not run, or its version does not render charts as Argo CD's does.
    """

    def __init__(self, program: Path) -> None:
        self._program = str(program)
        found = _run([self._program, "version", "--template", "{{ .Version }}"])
        version = found.stdout.strip()
        if found.returncode != 0 or not fit(version):
            what = f"is {version}" if version else f"does not run: {_one_line(found.stderr)}"
            raise Missing(f"{program} {what}; Helm 3.19 or later, or 4, is needed, or {_INSTALL}")
        self._version = version

    @property
    def name(self) -> str:
        """As in the seam."""
        return f"helm {self._version} ({self._program})"

    def render(self, chart: Path, values: Path, *, release: str, namespace: str) -> str:
        """As in the seam."""
        common = ["--values", str(values), "--namespace", namespace]
        self._call("lint", str(chart), "--strict", "--quiet", *common)
        return self._call("template", release, str(chart), *common)

    def _call(self, *arguments: str) -> str:
        done = _run([self._program, *arguments])
        if done.returncode != 0:
            # A lint's findings are on stdout, and stderr only counts them.
            findings = re.findall(r"^\[ERROR\] (.+(?:\n(?!\[|\d+ chart).+)*)", done.stdout, re.MULTILINE)
            raise Failure(_one_line("; ".join(findings) or done.stderr or done.stdout))
        return done.stdout


def fit(version: str) -> bool:
    """Whether Helm `version`, such as `v3.19.2` or `v4.1`, renders charts as they are meant.

    3.18 and older check schemas by another draft; Argo CD bundles 3.19 and later.
    """
    match = re.match(r"v?(\d+)\.(\d+)", version)
    return (
        match is not None and ((3, 19) <= (number := (int(match[1]), int(match[2]))) < (5, 0)) and number[0] in (3, 4)
    )


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # A chart renders from its files alone: no cluster, no plugins and no settings of this user take part.
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
    try:
        return subprocess.run(  # noqa: S603 - the program is the user's own helm, the arguments are ours
            command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False, env=keep
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", "it took more than two minutes")


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""Real Helm, behind one small seam: the embedded library, or a `helm` on the PATH. Both give the same objects.

Which one (`auto`): the embedded one where it is installed, because it is faster by an order; else the `helm` on the
PATH, if it is fit; else `Missing`, which says what to install.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal

from elf_sdk.cache import digest_of
from elf_sdk.deploy.archive import archive
from elf_sdk.deploy.kubernetes import KUBERNETES_VERSION
from elf_sdk.errors import Failure, Missing
from elf_sdk.files import list_tree

if TYPE_CHECKING:
    import jsonschema_rs

__all__ = ["Choice", "CommandLineHelm", "EmbeddedHelm", "Helm", "Release", "choose_helm", "fit"]

Choice = Literal["auto", "embedded", "cli"]

_SCHEMA: Final = "values.schema.json"
_INSTALL: Final = "pip install 'elf-sdk[tools]'"
_WARNING: Final = 2
"""Helm's severity of a finding that fails a strict lint."""
_KUBERNETES: Final = f"v{KUBERNETES_VERSION}.0"
"""For which kinds are looked up: otherwise it is the version that this Helm was built with, if any."""


@dataclass(frozen=True, slots=True)
class Release:
    """A chart as it is to be rendered.

    Attributes:
        name: of the release.
        namespace: as Helm is told it.
        values: a file of values that go before the chart's own.
    """

    name: str
    namespace: str
    values: Path


class Helm(ABC):
    """What packaging needs of Helm. Safe to use from several threads."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Which Helm it is, with its version."""

    @abstractmethod
    def render_each(self, chart: Path, releases: Sequence[Release]) -> list[str | Failure]:
        """Lint the chart in the directory `chart`, and render every release of it.

        A lint looks at Chart.yaml and at each object that the templates render to: for its name, for the selector that
        a Deployment needs, and for kinds that Kubernetes has given up, whose table Helm builds anew for each object.
        So of charts with the same templates that render the same kinds, with selectors in the same of them, one
        without a finding stands for the others. Names differ: `ObjectSchemas` checks every one.

        Returns:
            For each release its manifests, as a stream of YAML documents, or what Helm has to say against it.
        """

    def objects(self, manifests: str) -> list[object] | None:
        """What a stream of YAML documents says; None where this Helm is no reader of them."""
        return None

    def render(self, chart: Path, values: Path, *, release: str, namespace: str) -> str:
        """Lint and render one release.

        Raises:
            Failure: what Helm has to say against it.
        """
        (result,) = self.render_each(chart, [Release(release, namespace, values)])
        if isinstance(result, Failure):
            raise result
        return result


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


class EmbeddedHelm(Helm):
    """Helm 4 as a library in this process (package helm-python-sdk)."""

    def __init__(self) -> None:
        try:
            self._helm: ModuleType = importlib.import_module("helm_python")
        except ImportError:
            raise Missing(f"the embedded Helm is not installed; {_INSTALL} brings it") from None
        except RuntimeError as error:
            raise Missing(f"the embedded Helm does not load here: {error}; put a `helm` on the PATH") from None
        self._lints = _Lints()

    @property
    def name(self) -> str:
        """As in the seam."""
        return f"embedded Helm {self._helm.helm_sdk_version()}"

    def render_each(self, chart: Path, releases: Sequence[Release]) -> list[str | Failure]:
        """As in the seam.

        Helm compiles values.schema.json anew for every render, which takes three times as long as the rest of it. So
        the values of every release are checked by the schema compiled once, as Helm merges them, and the chart is
        rendered without that file.
        """
        files = _read(chart)
        schema = files.get(_SCHEMA, b"{}")
        try:
            bare = archive(chart.name, {path: content for path, content in files.items() if path != _SCHEMA})
            with self._helm.Chart.load_archive(bare) as loaded:
                results = [self._try(self._render, loaded, schema, release) for release in releases]
        except self._helm.HelmError as error:
            return [Failure(_one_line(str(error)))] * len(releases)
        return self._lints.add(files, releases, results, lambda release: self._lint(chart, release))

    def objects(self, manifests: str) -> list[object]:
        """What a stream of YAML documents says, read as Helm and Kubernetes' own tools read it.

        Twice as fast as Python's reader, which has to give the same.

        Raises:
            Failure: it is no YAML.
        """
        try:
            return [self._helm.values_from_yaml(document) for document in documents(manifests)]
        except self._helm.HelmError as error:
            raise Failure(f"what was rendered is no YAML: {_one_line(str(error))}") from None

    def _lint(self, chart: Path, release: Release) -> None:
        report = self._helm.lint(
            chart, self._given(release), strict=True, namespace=release.namespace, kube_version=_KUBERNETES
        )
        if report["errors"]:
            findings = [m["error"] for m in report["messages"] if m["severity"] >= _WARNING] or report["errors"]
            raise Failure("; ".join(_one_line(str(finding)) for finding in findings))

    def _render(self, bare: Any, schema: bytes, release: Release) -> str:
        given = self._given(release)
        if found := [
            f"{'.'.join(map(str, error.instance_path)) or 'values'}: {error.message}"
            for error in _compiled(schema).iter_errors(bare.merge_values(given))
        ]:
            raise Failure(_one_line(f"the values do not fit {_SCHEMA}: {'; '.join(found)}"))
        rendered: Mapping[str, str] = bare.render(given, name=release.name, namespace=release.namespace)
        return "\n".join(f"---\n{text}" for path, text in sorted(rendered.items()) if path.endswith((".yaml", ".yml")))

    def _given(self, release: Release) -> dict[str, Any]:
        given: dict[str, Any] = self._helm.values_from_yaml(release.values.read_text(encoding="utf-8"))
        return given

    def _try(self, work: Callable[..., str], *arguments: object) -> str | Failure:
        try:
            return work(*arguments)
        except Failure as failure:
            return failure
        except self._helm.HelmError as error:
            return Failure(_one_line(str(error)))


@cache
def _compiled(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(json.loads(schema))


class CommandLineHelm(Helm):
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
        self._lints = _Lints()

    @property
    def name(self) -> str:
        """As in the seam."""
        return f"helm {self._version} ({self._program})"

    def render_each(self, chart: Path, releases: Sequence[Release]) -> list[str | Failure]:
        """As in the seam."""
        files = _read(chart)
        results = [self._render(chart, release) for release in releases]
        return self._lints.add(files, releases, results, lambda release: self._lint(chart, release))

    def _render(self, chart: Path, release: Release) -> str | Failure:
        try:
            return self._call("template", release.name, str(chart), *_given(release))
        except Failure as failure:
            return failure

    def _lint(self, chart: Path, release: Release) -> None:
        self._call("lint", str(chart), "--strict", "--quiet", "--kube-version", _KUBERNETES, *_given(release))

    def _call(self, *arguments: str) -> str:
        done = _run([self._program, *arguments])
        if done.returncode != 0:
            # A lint's findings are on stdout, and stderr only counts them.
            findings = re.findall(r"^\[(?:WARNING|ERROR)\] (.+(?:\n(?!\[|\d+ chart).+)*)", done.stdout, re.MULTILINE)
            raise Failure(_one_line("; ".join(findings) or done.stderr or done.stdout))
        return done.stdout


def _read(chart: Path) -> dict[str, bytes]:
    return {path: (chart / path).read_bytes() for path in list_tree(chart)}


def _given(release: Release) -> tuple[str, ...]:
    return "--values", str(release.values), "--namespace", release.namespace


class _Lints:
    """The charts that were linted without a finding, by all that a lint looks at."""

    def __init__(self) -> None:
        self._right: set[str] = set()

    def add(
        self,
        files: Mapping[str, bytes],
        releases: Sequence[Release],
        results: Sequence[str | Failure],
        lint: Callable[[Release], None],
    ) -> list[str | Failure]:
        """`results` of rendering, with a failure in place of each that a lint has something against.

        Args:
            files: of the chart.
            releases: as they were rendered.
            results: by release.
            lint: lints the chart with the values of a release, and raises `Failure` if there is something.
        """
        chart = _linted(files)
        found: list[str | Failure] = []
        for release, result in zip(releases, results, strict=True):
            outcome = result
            if isinstance(result, str):
                shapes = {_shape(document) for document in documents(result)}
                key = digest_of(chart, *sorted(shape for shape in shapes if shape))
                if None in shapes or key not in self._right:
                    try:
                        lint(release)
                        self._right.add(key)
                    except Failure as failure:
                        outcome = failure
            found.append(outcome)
        return found


_KIND: Final = re.compile(r"^(apiVersion|kind): (.*)$", re.MULTILINE)
_SELECTOR: Final = re.compile("matchLabels|matchExpressions")
"""What Helm itself looks for in an object that has to select pods."""
_RENDERED: Final = re.compile(r"values(?:-.+)?\.yaml|README\.md")
"""Files of which a lint sees nothing but what they render to."""
_OWN: Final = re.compile(
    rb'^(?:(name): "[a-z][-a-z0-9]*"|(version|appVersion): "N\.N\.N"|(description): "(?:[^"\\]|\\.)*")$'.replace(
        b"N", rb"(?:0|[1-9][0-9]*)"
    ),
    re.MULTILINE,
)
"""Lines of Chart.yaml that are a team's own, written so that a lint has nothing against them."""


def _shape(document: str) -> str | None:
    """What a lint looks at in an object, beside its name; None where that is not written as our templates write it."""
    kinds = sorted(_KIND.findall(document))
    if [name for name, _ in kinds] != ["apiVersion", "kind"]:
        return None
    return " ".join([*(value for _, value in kinds), *(["selector"] if _SELECTOR.search(document) else [])])


def _linted(files: Mapping[str, bytes]) -> str:
    """A digest of what a lint looks at in a chart, beside what it renders to."""
    parts: list[bytes | str] = []
    for path in sorted(path for path in files if not _RENDERED.fullmatch(path)):
        content = files[path]
        parts += [path, _OWN.sub(_field, content) if path == "Chart.yaml" else content]
    return digest_of(*parts)


def _field(line: re.Match[bytes]) -> bytes:
    return line[line.lastindex or 0]


def documents(manifests: str) -> Iterator[str]:
    """The documents of a stream, each as text: what is between lines that are `---`, as Helm itself splits them."""
    for document in re.split(r"^---[ \t]*$", manifests, flags=re.MULTILINE):
        if any(line.strip() and not line.lstrip().startswith("#") for line in document.splitlines()):
            yield document


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

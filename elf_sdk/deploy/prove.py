"""Charts proven: linted and rendered by real Helm, and every object checked against the schemas of Kubernetes.

    with Prover("auto", charts=len(charts)) as prover:
        for proof in prover.prove(Provable(chart.team, directory, chart.namespaces) for chart in charts):
            ...

What is done for each chart, once: `helm lint --strict` with the values of its first environment. What is done for each
environment: values against values.schema.json, rendering, reading what was rendered as YAML, and every object strictly
against the schema of its kind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Self

from elf_sdk.deploy.helm import Choice, Helm, Release, choose_helm
from elf_sdk.deploy.kubernetes import ObjectSchemas, parse_manifests
from elf_sdk.errors import Failure, Missing
from elf_sdk.files import write_tree

__all__ = ["Proof", "Provable", "Prover", "Rendered", "prove_one"]

_FEW: Final = 12
"""Charts that are proven in this process: others take half a second to start."""
_AHEAD: Final = 4
"""Charts that wait for each process, so that none waits for a chart."""


@dataclass(frozen=True, slots=True)
class Provable:
    """A chart in a directory, and the environments that it is to be proven for.

    Attributes:
        team: name of the release.
        directory: of the chart, with a values-<environment>.yaml for each environment.
        namespaces: by environment.
    """

    team: str
    directory: Path
    namespaces: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a chart comes to in one environment.

    Attributes:
        objects: how many.
        manifests: all of them, as a stream of YAML documents; empty where it was not asked for.
    """

    objects: int
    manifests: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of one chart.

    Attributes:
        team: as in `Provable`.
        rendered: by environment, for those that are right.
        wrong: by environment, for the others: what is wrong, one sentence.
    """

    team: str
    rendered: Mapping[str, Rendered] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)


def prove_one(helm: Helm, schemas: ObjectSchemas, chart: Provable) -> Proof:
    """Prove one chart in this process."""
    releases = [
        Release(chart.team, namespace, chart.directory / f"values-{environment}.yaml")
        for environment, namespace in chart.namespaces.items()
    ]
    rendered: dict[str, Rendered] = {}
    wrong: dict[str, str] = {}
    for environment, result in zip(chart.namespaces, helm.render_each(chart.directory, releases), strict=True):
        try:
            if isinstance(result, Failure):
                raise result
            objects = parse_manifests(result)
            schemas.check(objects)
            rendered[environment] = Rendered(len(objects), result)
        except Failure as failure:
            wrong[environment] = str(failure)
    return Proof(chart.team, rendered, wrong)


class Prover:
    """Proves charts on every core.

    Args:
        helm: which Helm; or what gives one, and then all is done in this process.
        charts: about how many there will be.
        manifests: whether what is rendered is wanted, and not only proven.

    Raises:
        Missing: Helm or the Kubernetes schemas have to be installed.
    """

    def __init__(self, helm: Choice | Callable[[], Helm] = "auto", *, charts: int = 1, manifests: bool = False) -> None:
        self._manifests = manifests
        cores = os.cpu_count() or 1
        self._processes: list[_Process] = []
        if callable(helm) or charts <= _FEW:
            engine, schemas = (choose_helm(helm) if isinstance(helm, str) else helm()), ObjectSchemas()
            self.helm = engine.name
            self._work: Callable[[Provable], Proof] = lambda chart: prove_one(engine, schemas, chart)
        else:
            try:
                for _ in range(min(cores, charts // _FEW + 1)):
                    self._processes.append(_Process(helm, manifests=manifests))
                idle: SimpleQueue[_Process] = SimpleQueue()
                for process in self._processes:
                    self.helm = process.greeted()
                    idle.put(process)
            except BaseException:
                self._end()
                raise

            def work(chart: Provable) -> Proof:
                process = idle.get()
                try:
                    return process.prove(chart)
                finally:
                    idle.put(process)

            self._work = work
        self._threads = ThreadPoolExecutor(len(self._processes) or cores)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            # Whoever waits for an answer must not wait for it any longer.
            self._end()
        self._threads.shutdown(cancel_futures=True)
        self._end()

    def prove(self, charts: Iterable[Provable]) -> Iterator[Proof]:
        """A proof for each chart, in their order. Charts are taken a few ahead, so they may be made meanwhile.

        Raises:
            Failure: the process that proves ended.
        """
        ahead = _AHEAD * (len(self._processes) or 1)
        waiting: deque[Future[Proof]] = deque()
        for chart in charts:
            waiting.append(self._threads.submit(self._work, chart))
            while len(waiting) > ahead or (waiting and waiting[0].done()):
                yield self._plain(waiting.popleft().result())
        while waiting:
            yield self._plain(waiting.popleft().result())

    def prove_trees(self, charts: Iterable[tuple[str, Mapping[str, bytes], Mapping[str, str]]]) -> Iterator[Proof]:
        """The same for charts in memory: each is a team, the files by path in the chart, and namespaces by environment.

        Raises:
            Failure: as `prove`, or the files cannot be laid out for Helm to read.
        """
        with TemporaryDirectory(prefix="elf-charts-") as place:

            def laid_out() -> Iterator[Provable]:
                for number, (team, tree, namespaces) in enumerate(charts):
                    directory = Path(place, str(number), team)
                    write_tree(directory, tree)
                    yield Provable(team, directory, namespaces)

            yield from self.prove(laid_out())

    def _plain(self, proof: Proof) -> Proof:
        if self._manifests or not proof.rendered:
            return proof
        return Proof(proof.team, {name: Rendered(each.objects) for name, each in proof.rendered.items()}, proof.wrong)

    def _end(self) -> None:
        for process in self._processes:
            process.end()
        self._processes = []


class _Process:
    """Another Python that runs `main`, one chart at a time: a line of JSON each way."""

    def __init__(self, helm: Choice, *, manifests: bool) -> None:
        # Go's collector runs a fifth as often: charts leave little behind, and the default costs a quarter of the time.
        environ = {"GOGC": "400", **os.environ}
        root = str(Path(__file__).parents[2])
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environ.get("PYTHONPATH", ""))))
        # -P: not what lies in the directory that this was started in, which is a team's own code.
        command = [sys.executable, "-P", "-m", "elf_sdk.deploy.prove"]
        self._process = subprocess.Popen(  # noqa: S603 - this same Python
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, encoding="utf-8"
        )
        self._send({"helm": helm, "manifests": manifests})

    def greeted(self) -> str:
        """The name of its Helm."""
        answer = self._receive()
        if "missing" in answer:
            raise Missing(answer["missing"])
        return str(answer["helm"])

    def prove(self, chart: Provable) -> Proof:
        self._send({"team": chart.team, "directory": str(chart.directory), "namespaces": dict(chart.namespaces)})
        answer = self._receive()
        rendered = {name: Rendered(*each) for name, each in answer["rendered"].items()}
        return Proof(chart.team, rendered, answer["wrong"])

    def end(self) -> None:
        self._process.kill()
        with self._process:
            pass

    def _send(self, message: Mapping[str, object]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: it was asked for
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # what is read next says that it ended

    def _receive(self) -> Any:
        assert self._process.stdout is not None  # noqa: S101 - as above
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise Failure(
                "the process that proves charts ended in the middle of it; nothing was replaced, so try again"
            )
        return json.loads(line)


def main() -> None:
    """Answer the lines of a `Prover` until there are no more."""
    # An interrupt from the keyboard reaches all processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(message: Mapping[str, object]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    hello = json.loads(sys.stdin.readline() or "null")
    if hello is None:
        return
    try:
        helm, schemas = choose_helm(hello["helm"]), ObjectSchemas()
    except Missing as missing:
        answer({"missing": str(missing)})
        return
    answer({"helm": helm.name})
    for line in sys.stdin:
        job = json.loads(line)
        proof = prove_one(helm, schemas, Provable(job["team"], Path(job["directory"]), job["namespaces"]))
        rendered = {
            name: [each.objects, each.manifests if hello["manifests"] else ""] for name, each in proof.rendered.items()
        }
        answer({"rendered": rendered, "wrong": proof.wrong})


if __name__ == "__main__":
    main()

"""Charts proven: linted and rendered by real Helm, and every object checked against the schemas of Kubernetes.

    with Prover("auto", charts=len(charts)) as prover:      # processes start when there is something to prove
        for proof in prover.prove(Provable(chart.team, directory, chart.namespaces) for chart in charts):
            ...

What is done for each environment: values against values.schema.json, rendering, reading what was rendered as YAML, and
every object strictly against the schema of its kind. `helm lint --strict` is done once for all that it could tell
nothing new of (`elf_sdk.deploy.helm`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self

from elf_sdk.deploy.helm import Choice, Helm, Release, choose_helm
from elf_sdk.deploy.kubernetes import ObjectSchemas, parse_manifests
from elf_sdk.deploy.proofs import Proofs, proof_keys
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
        keys: from `proof_keys`; without them nothing is known of the chart.
        tree: files that are written into the directory when Helm has to see them; None where they are there.
    """

    team: str
    directory: Path
    namespaces: Mapping[str, str]
    keys: Mapping[str, str] = field(default_factory=dict)
    tree: Mapping[str, bytes] | None = None


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
            objects = parse_manifests(result, helm.objects(result))
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
        proofs: what was proven before; new proofs are added. Not for a Helm of one's own.
    """

    def __init__(
        self,
        helm: Choice | Callable[[], Helm] = "auto",
        *,
        charts: int = 1,
        manifests: bool = False,
        proofs: Proofs | None = None,
    ) -> None:
        self.helm = ""
        """The name of the Helm that proves; empty as long as nothing had to be proven."""
        self._choice, self._manifests = helm, manifests
        self._proofs = None if callable(helm) else proofs
        cores = os.cpu_count() or 1
        self._count = 0 if callable(helm) or charts <= _FEW else min(cores, charts // _FEW + 1)
        self._processes: list[_Process] = []
        self._starting = Lock()
        self._work: Callable[[Provable], Proof] | None = None
        self._threads = ThreadPoolExecutor(self._count or cores)

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
            Missing: Helm or the Kubernetes schemas have to be installed.
            Failure: the process that proves ended, or a tree cannot be laid out for Helm to read.
        """
        ahead = _AHEAD * max(1, self._count)
        waiting: deque[Future[tuple[Provable, Proof]]] = deque()
        try:
            for chart in charts:
                waiting.append(self._threads.submit(self._once, chart))
                while len(waiting) > ahead or (waiting and waiting[0].done()):
                    yield self._noted(*waiting.popleft().result())
            while waiting:
                yield self._noted(*waiting.popleft().result())
        finally:
            # Given up in the middle: what is under way still writes where its caller is about to clear away.
            for future in waiting:
                future.cancel()
            wait(waiting)

    def prove_trees(self, charts: Iterable[tuple[str, Mapping[str, bytes], Mapping[str, str]]]) -> Iterator[Proof]:
        """The same for charts in memory: each is a team, the files by path in the chart, and namespaces by environment.

        Raises:
            Missing, Failure: as `prove`.
        """
        with TemporaryDirectory(prefix="elf-charts-") as place:
            yield from self.prove(
                Provable(team, Path(place, str(number), team), namespaces, proof_keys(team, tree, namespaces), tree)
                for number, (team, tree, namespaces) in enumerate(charts)
            )

    def _once(self, chart: Provable) -> tuple[Provable, Proof]:
        if self._proofs is not None and not self._manifests and chart.keys:
            known = {environment: self._proofs.objects(key) for environment, key in chart.keys.items()}
            rendered = {name: Rendered(objects) for name, objects in known.items() if objects is not None}
            if rendered.keys() == chart.namespaces.keys():
                return chart, Proof(chart.team, rendered)
        if chart.tree is not None:
            write_tree(chart.directory, chart.tree)
        return chart, self._started()(chart)

    def _started(self) -> Callable[[Provable], Proof]:
        """What proves a chart: in this process, or in one of several others."""
        with self._starting:
            if self._work is None:
                self._work = (
                    self._others(self._choice) if isinstance(self._choice, str) and self._count else self._here()
                )
            return self._work

    def _here(self) -> Callable[[Provable], Proof]:
        helm, schemas = choose_helm(self._choice) if isinstance(self._choice, str) else self._choice(), ObjectSchemas()
        self.helm = helm.name
        return lambda chart: prove_one(helm, schemas, chart)

    def _others(self, helm: Choice) -> Callable[[Provable], Proof]:
        idle: SimpleQueue[_Process] = SimpleQueue()
        started = [_Process(helm, manifests=self._manifests) for _ in range(self._count)]
        self._processes += started
        for process in started:
            self.helm = process.greeted()
            idle.put(process)

        def prove(chart: Provable) -> Proof:
            process = idle.get()
            try:
                return process.prove(chart)
            finally:
                idle.put(process)

        return prove

    def _noted(self, chart: Provable, proof: Proof) -> Proof:
        if self._proofs is not None and not proof.wrong:
            for environment, key in chart.keys.items():
                self._proofs.add(key, proof.rendered[environment].objects)
        if self._manifests or not proof.rendered:
            return proof
        return Proof(proof.team, {name: Rendered(each.objects) for name, each in proof.rendered.items()}, proof.wrong)

    def _end(self) -> None:
        while self._processes:
            self._processes.pop().end()


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
        # What it was told and did not read any more is of no interest.
        with suppress(BrokenPipeError), self._process:
            pass

    def _send(self, message: Mapping[str, object]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: it was asked for
        # What is read next says that it ended.
        with suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout is not None  # noqa: S101 - as above
        try:
            line = self._process.stdout.readline()
        except ValueError:
            line = ""  # closed, because the work was given up
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

"""Charts proven by several processes, and known again when they were proven before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import elf_sdk
from elf_sdk.cache import Cache
from elf_sdk.deploy.kubernetes import parse_manifests
from elf_sdk.deploy.package import package
from elf_sdk.deploy.proofs import Proofs, proof_keys
from elf_sdk.deploy.prove import Prover
from elf_sdk.deploy.team_chart import TeamChart, TeamCharts
from elf_sdk.errors import Failure
from elf_sdk.team.project import find_project
from tests.deploy.organisations import write_project

MANY = 30


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that is proven by other processes."""
    names = [f"team-{number}" for number in range(MANY)]
    return write_project(tmp_path_factory.mktemp("many"), {name: {"placement": "a"} for name in names})


def trees(root: Path) -> Iterator[tuple[str, Mapping[str, bytes], Mapping[str, str]]]:
    for chart in charts(root):
        yield chart.team, chart.tree, chart.namespaces


def charts(root: Path) -> list[TeamChart]:
    project = find_project(root)
    made = TeamCharts(project)
    return [made.chart(team) for team in project.teams]


def test_other_processes_prove_what_this_one_does(many: Path) -> None:
    with Prover(charts=MANY, manifests=True) as prover:
        there = list(prover.prove_trees(trees(many)))
    with Prover(charts=1, manifests=True) as prover:
        here = list(prover.prove_trees(trees(many)))
    assert there == here
    assert [proof.team for proof in there] == sorted(f"team-{number}" for number in range(MANY))
    for proof in there:
        assert list(proof.rendered) == ["dev", "staging", "prod"]
        for rendered in proof.rendered.values():
            assert len(parse_manifests(rendered.manifests)) == rendered.objects > 3
    assert children() == []


def test_a_chart_that_is_wrong_is_told_and_the_others_are_proven(many: Path) -> None:
    given = [(team, dict(tree), namespaces) for team, tree, namespaces in trees(many)]
    given[3][1]["values-prod.yaml"] = b"replicas: many\n"
    given[4][1]["templates/team.yaml"] = b"{{ fail .Values.team.name }}"
    given[5][1]["Chart.yaml"] = b"name: [\n"
    with Prover(charts=MANY) as prover:
        proofs = list(prover.prove_trees(given))
    assert set(proofs[3].rendered) == {"dev", "staging"}
    assert "replicas" in proofs[3].wrong["prod"]
    assert proofs[4].wrong.keys() == proofs[5].wrong.keys() == {"dev", "staging", "prod"}
    assert given[4][0] in proofs[4].wrong["prod"]
    assert [proof.team for proof in proofs if not proof.wrong] == [team for team, _, _ in given[:3] + given[6:]]


def kill_all(prover: Prover, root: Path) -> None:
    for _ in prover.prove_trees(trees(root)):
        for pid in children():
            os.kill(pid, signal.SIGKILL)


def test_a_process_that_ends_in_the_middle_is_said(many: Path) -> None:
    with Prover(charts=MANY) as prover, pytest.raises(Failure, match=r"ended in the middle.*nothing was replaced"):
        kill_all(prover, many)
    assert children() == []


def test_nothing_of_the_directory_that_it_was_started_in_is_run(many: Path) -> None:
    modules = [many / f"{module}.py" for module in ("json", "yaml", "elf_sdk", "helm_python")]
    for module in modules:
        module.write_text("open('executed', 'w').close()")
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "elf_sdk", "package", "--output", "fresh", "--prove"],
            cwd=many,
            env={**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for module in modules:
            module.unlink()
    assert done.returncode == 0, done.stderr
    assert not (many / "executed").exists()


def test_what_was_proven_before_is_known_again(many: Path) -> None:
    with Proofs.of(many) as proofs, Prover(charts=MANY, proofs=proofs) as prover:
        first = list(prover.prove_trees(trees(many)))
        assert prover.helm
    with Proofs.of(many) as proofs, Prover(charts=MANY, proofs=proofs) as prover:
        assert list(prover.prove_trees(trees(many))) == first
        assert prover.helm == ""
    changed = [(team, {**tree, "values-dev.yaml": b"replicas: 0\n"}, names) for team, tree, names in trees(many)][:1]
    with Proofs.of(many) as proofs, Prover(charts=1, proofs=proofs) as prover:
        list(prover.prove_trees(changed))
        assert prover.helm


def test_what_was_wrong_is_not_known(tmp_path: Path) -> None:
    root = write_project(tmp_path / "p")
    given = [(team, {**tree, "values-dev.yaml": b"replicas: x\n"}, names) for team, tree, names in trees(root)]
    for _ in range(2):
        with Proofs.of(root) as proofs, Prover(charts=1, proofs=proofs) as prover:
            assert all(proof.wrong for proof in prover.prove_trees(given))


@pytest.mark.parametrize("path", ["Chart.yaml", "values.yaml", "values-dev.yaml", "values.schema.json", "templates/x"])
def test_a_proof_is_of_every_file_that_helm_reads(path: str) -> None:
    tree = dict.fromkeys(("Chart.yaml", "values.yaml", "values-dev.yaml", "values.schema.json"), b"1")
    before = proof_keys("a", tree, {"dev": "ns"})
    assert proof_keys("a", {**tree, path: b"2"}, {"dev": "ns"}) != before
    assert proof_keys("b", tree, {"dev": "ns"}) != before
    assert proof_keys("a", tree, {"dev": "other"}) != before
    assert proof_keys("a", {**tree, "README.md": b"", "values-prod.yaml": b""}, {"dev": "ns"}) == before


def test_no_template_reads_what_a_proof_leaves_out() -> None:
    for root, _, names in os.walk(Path(__file__).parents[2] / "chart-templates"):
        for name in names:
            assert ".Files" not in Path(root, name).read_text(encoding="utf-8")


def test_a_chart_that_was_removed_is_written_again_without_helm(project_dir: Path) -> None:
    package(find_project(project_dir))

    report = package(find_project(project_dir), output=project_dir / "again")
    assert {team.status for team in report.teams} == {"added"}
    assert report.helm == ""
    assert package(find_project(project_dir), output=project_dir / "again", prove=True).helm


def test_a_damaged_cache_is_no_proof(project_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ELF_CACHE_DIR", str(tmp_path / "cache"))
    package(find_project(project_dir))
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes().replace(b"5", b"6"))
    assert Cache(next((tmp_path / "cache").glob("proofs-*")), "").get("x") is None
    assert package(find_project(project_dir), output=project_dir / "again").helm


def children() -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "elf_sdk.deploy.prove"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import elf_sdk
from elf_sdk.cache import Cache
from elf_sdk.deploy.chart import load_templates
from elf_sdk.deploy.helm import Helm, Release
from elf_sdk.deploy.manifest import MANIFEST
from elf_sdk.deploy.package import package
from elf_sdk.errors import BadInput, Failure
from elf_sdk.files import compare, list_tree, tree_lock
from elf_sdk.team.project import find_project
from tests.deploy.organisations import TEAMS, elf, write_project


def tree(root: Path) -> dict[str, bytes]:
    return {path: (root / path).read_bytes() for path in list_tree(root)}


def beside(output: Path) -> list[str]:
    """Hidden leftovers next to the output."""
    return sorted(path.name for path in output.parent.iterdir() if path.name.startswith(f".{output.name}."))


def test_a_project_becomes_a_chart_and_an_archive_for_each_team(project_dir: Path) -> None:
    done = elf("package", "--output", "out", cwd=project_dir)
    assert done.returncode == 0, done.stderr
    assert "3 charts in out, proven for dev, staging and prod by" in done.stdout
    output = project_dir / "out"
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [MANIFEST, *TEAMS, *(f"{team}-0.1.0.tgz" for team in TEAMS)]
    )
    assert {path.name for path in (output / "chief-team").iterdir()} == {
        "Chart.yaml",
        "README.md",
        "charts",
        "templates",
        "values-dev.yaml",
        "values-prod.yaml",
        "values-staging.yaml",
        "values.schema.json",
        "values.yaml",
    }
    assert (output / f"chief-team/{load_templates().vendored}").is_file()
    assert beside(output) == []


def test_the_same_input_gives_the_same_bytes(project_dir: Path, tmp_path: Path) -> None:
    assert elf("package", "--output", "one", cwd=project_dir, PYTHONHASHSEED="1").returncode == 0
    old = os.umask(0o077)
    try:
        output = tmp_path / "elsewhere" / "two"
        done = elf(
            "package", str(project_dir), "--output", str(output), cwd=tmp_path, PYTHONHASHSEED="2", TZ="Asia/Tokyo"
        )
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["diff", "-r", project_dir / "one", output], check=False).returncode == 0
    assert (output / "chief-team/Chart.yaml").stat().st_mode & 0o777 == 0o644
    assert (output / "chief-team/charts").stat().st_mode & 0o777 == 0o755


def test_the_policies_are_the_edges_of_the_organisation(project_dir: Path) -> None:
    import yaml

    report = package(find_project(project_dir))
    org = find_project(project_dir).org
    for team in org.teams:
        for name in report.environments:
            own = yaml.safe_load((report.output / team / f"values-{name}.yaml").read_text())
            edges = yaml.safe_load((report.output / team / "values.yaml").read_text())["edges"] | own.get("edges", {})
            callers, callees = ([each["team"] for each in edges[side]] for side in ("callers", "callees"))
            assert callers == [other for other in org.teams if org.may_call(other, team)]
            assert callees == [other for other in org.teams if org.may_call(team, other)]


def test_half_an_edge_opens_nothing_and_is_said(tmp_path: Path) -> None:
    root = write_project(tmp_path / "p", {"chief-team": {"manages": ["brand-team"]}, "brand-team": {}})
    done = elf("package", cwd=root)
    assert done.returncode == 0
    assert "brand-team" in done.stderr
    assert "warning" in done.stderr
    assert '"chief-team"' not in (root / "charts/brand-team/values-prod.yaml").read_text()


def test_one_team_alone_is_packaged_and_its_absent_neighbours_are_named(tmp_path: Path) -> None:
    root = write_project(tmp_path / "p", {"brand-team": {"reports_to": "chief-team"}})
    alone = tmp_path / "brand-team"
    (root / "teams" / "brand-team").rename(alone)
    done = elf("package", "brand-team", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "chief-team" in done.stderr
    assert (alone / "charts/brand-team/values-prod.yaml").is_file()


def test_unchanged_charts_are_left_alone(project_dir: Path) -> None:
    package(find_project(project_dir))
    before = (project_dir / "charts").stat().st_ino

    def no_helm() -> None:
        raise AssertionError("there is nothing to prove")

    report = package(find_project(project_dir), helm=no_helm)  # type: ignore[arg-type]
    assert [team.status for team in report.teams] == ["unchanged"] * 3
    assert (project_dir / "charts").stat().st_ino == before
    assert package(find_project(project_dir), prove=True).helm


def test_only_what_was_asked_for_is_replaced(project_dir: Path) -> None:
    output = project_dir / "charts"
    package(find_project(project_dir))
    before = tree(output)
    write_project(project_dir, {team: {**fields, "version": "0.2.0"} for team, fields in TEAMS.items()})
    report = package(find_project(project_dir), ["brand-team"])
    assert [(team.team, team.status) for team in report.teams] == [("brand-team", "changed")]
    after = tree(output)
    assert "brand-team-0.2.0.tgz" in after
    assert "brand-team-0.1.0.tgz" not in after
    for path in before:
        if path.startswith(("chief", "data")):
            assert after[path] == before[path]
    assert package(find_project(project_dir / "teams" / "data-team"), output=output).teams[0].status == "changed"


def test_a_team_that_is_gone_goes_with_the_whole_project_only(project_dir: Path) -> None:
    output = project_dir / "charts"
    package(find_project(project_dir))
    for name in ("brand-team", "data-team"):
        (project_dir / "teams" / name / "team.yaml").unlink()
    write_project(project_dir, {"chief-team": {}})
    package(find_project(project_dir), ["chief-team"])
    assert (output / "brand-team").is_dir()
    report = package(find_project(project_dir))
    assert {team.team: team.status for team in report.teams} == {
        "brand-team": "removed",
        "chief-team": "unchanged",
        "data-team": "removed",
    }
    assert sorted(path.name for path in output.iterdir()) == [MANIFEST, "chief-team", "chief-team-0.1.0.tgz"]


def test_a_chart_that_was_taken_away_by_hand_is_no_obstacle(project_dir: Path) -> None:
    output = project_dir / "charts"
    package(find_project(project_dir))
    shutil.rmtree(output / "brand-team")
    (output / "data-team-0.1.0.tgz").unlink()
    write_project(project_dir, {"chief-team": {**TEAMS["chief-team"], "purpose": "another"}})
    package(find_project(project_dir), ["chief-team"])
    assert not (output / "brand-team").exists()
    assert (output / "data-team").is_dir()
    statuses = {team.team: team.status for team in package(find_project(project_dir)).teams}
    assert statuses == {"brand-team": "added", "chief-team": "unchanged", "data-team": "changed"}
    assert not package(find_project(project_dir), check=True).drifted


def test_an_empty_directory_is_a_fine_output(project_dir: Path) -> None:
    (project_dir / "charts").mkdir()
    assert package(find_project(project_dir)).helm
    nested = project_dir / "a" / "b"
    assert {team.status for team in package(find_project(project_dir), output=nested).teams} == {"added"}
    assert (nested / MANIFEST).is_file()


def test_check_lists_every_drift_and_changes_nothing(project_dir: Path) -> None:
    assert elf("package", "--check", cwd=project_dir).returncode == 1
    assert not (project_dir / "charts").exists()
    package(find_project(project_dir))
    assert elf("package", "--check", cwd=project_dir).returncode == 0
    chart = project_dir / "charts" / "brand-team"
    (chart / "values.yaml").write_text("replicas: 9\n")
    (chart / "README.md").unlink()
    (chart / "templates" / "extra.yaml").write_text("")
    before = tree(project_dir / "charts")
    done = elf("package", "--check", cwd=project_dir)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "missing   brand-team/README.md",
        "changed   brand-team/values.yaml",
        "not ours  brand-team/templates/extra.yaml",
    ]
    assert "run elf package" in done.stderr
    assert tree(project_dir / "charts") == before
    body = json.loads(elf("package", "--check", "--json", cwd=project_dir).stdout)
    assert body["ok"] is False
    assert body["teams"][0]["drift"]["changed"] == ["brand-team/values.yaml"]
    assert elf("package", "--check", "data-team", cwd=project_dir).returncode == 0


def test_check_lists_what_is_beside_the_charts(project_dir: Path) -> None:
    package(find_project(project_dir))
    (project_dir / "charts/notes.txt").write_text("mine")
    (project_dir / "charts/other").mkdir()
    (project_dir / "charts/other/Chart.yaml").write_text("name: other\n")
    done = elf("package", "--check", cwd=project_dir)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["not ours  notes.txt", "not ours  other/Chart.yaml"]
    assert "charts holds 2 files that elf package did not write" in done.stderr
    body = json.loads(elf("package", "--check", "--json", cwd=project_dir).stdout)
    assert (body["ok"], body["foreign"]) == (False, ["notes.txt", "other/Chart.yaml"])
    assert elf("package", "--check", "data-team", cwd=project_dir).returncode == 0


def test_check_notices_a_changed_team(project_dir: Path) -> None:
    package(find_project(project_dir))
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "purpose": "another"}})
    done = elf("package", "--check", cwd=project_dir)
    assert done.returncode == 1
    assert "data-team/values.yaml" in done.stdout
    assert "brand-team" not in done.stdout


def test_the_report_as_json(project_dir: Path) -> None:
    body = json.loads(elf("package", "--json", cwd=project_dir).stdout)
    assert body["ok"] is True
    assert body["environments"] == ["dev", "staging", "prod"]
    assert body["teams"][0]["objects"] == {"dev": 8, "staging": 8, "prod": 10}


@pytest.mark.parametrize("content", ["notes.txt", "brand-team/Chart.yaml"])
def test_an_output_that_holds_something_else_is_refused(content: str, project_dir: Path) -> None:
    file = project_dir / "out" / content
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    done = elf("package", "--output", "out", cwd=project_dir)
    assert done.returncode == 2
    assert content in done.stderr
    assert tree(project_dir / "out") == {content: b"mine"}
    assert beside(project_dir / "out") == []


def test_a_file_of_ones_own_among_the_charts_is_never_taken_away(project_dir: Path) -> None:
    package(find_project(project_dir))
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "purpose": "another"}})
    (project_dir / "charts/brand-team/notes.txt").write_text("mine")
    done = elf("package", cwd=project_dir)
    assert done.returncode == 2
    assert "brand-team/notes.txt" in done.stderr
    assert (project_dir / "charts/brand-team/notes.txt").read_text() == "mine"


def test_a_list_that_leads_outside_is_refused(project_dir: Path) -> None:
    package(find_project(project_dir))
    file = project_dir / "charts" / MANIFEST
    body = json.loads(file.read_text())
    for team, path in (("../../teams", "../../teams/x"), ("brand-team", "brand-team/../../elf.yaml")):
        file.write_text(json.dumps({**body, "charts": {team: {"version": "0.1.0", "sha256": "", "files": [path]}}}))
        with pytest.raises(BadInput, match="no list that elf package wrote"):
            package(find_project(project_dir))
    file.write_text("{")
    with pytest.raises(BadInput, match="no list"):
        package(find_project(project_dir))


def test_a_link_as_output_is_refused(project_dir: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (project_dir / "out").symlink_to(elsewhere)
    done = elf("package", "--output", "out", cwd=project_dir)
    assert done.returncode == 2
    assert "is a link" in done.stderr
    assert list(elsewhere.iterdir()) == []


def test_links_inside_are_replaced_and_never_followed(project_dir: Path, tmp_path: Path) -> None:
    package(find_project(project_dir))
    outside = tmp_path / "outside.yaml"
    outside.write_text("mine")
    values = project_dir / "charts/brand-team/values.yaml"
    values.unlink()
    values.symlink_to(outside)
    assert package(find_project(project_dir)).drifted[0].drift.changed == ("brand-team/values.yaml",)
    assert outside.read_text() == "mine"
    assert not values.is_symlink()


def test_a_file_as_output_is_refused(project_dir: Path) -> None:
    (project_dir / "out").write_text("mine")
    done = elf("package", "--output", "out", cwd=project_dir)
    assert done.returncode == 2
    assert "is no directory" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self/mem").exists(), reason="needs a place that is read-only")
def test_an_output_that_cannot_be_written_is_refused(project_dir: Path) -> None:
    # The root user may write everywhere but to /proc.
    done = elf("package", "--output", "/proc/out", cwd=project_dir)
    assert done.returncode == 2
    assert "/proc cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_leaves_what_was_there(project_dir: Path) -> None:
    package(find_project(project_dir))
    before = tree(project_dir / "charts")
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "purpose": "another"}})

    def small_files() -> None:
        # Python ignores SIGXFSZ, so that a write beyond the limit fails as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    done = subprocess.run(
        [sys.executable, "-m", "elf_sdk", "package"],
        cwd=project_dir,
        env={**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=small_files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "nothing was replaced" in done.stderr
    assert tree(project_dir / "charts") == before
    assert beside(project_dir / "charts") == []


def test_a_chart_that_kubernetes_refuses_replaces_nothing(project_dir: Path) -> None:
    package(find_project(project_dir))
    before = tree(project_dir / "charts")
    write_project(
        project_dir, {"data-team": {**TEAMS["data-team"], "environments": {"prod": {"runs": {"store": "ephemeral"}}}}}
    )
    done = elf("package", cwd=project_dir)
    assert done.returncode == 2
    assert "data-team in prod" in done.stderr
    assert tree(project_dir / "charts") == before


class SpoiltHelm(Helm):
    """Helm that renders a field which Kubernetes does not know."""

    name = "spoilt"

    def render_each(self, chart: Path, releases: Sequence[Release]) -> list[str | Failure]:
        service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: {}\nspec:\n  port: 1\n"
        return [service.format(release.name) for release in releases]


def test_a_wrong_object_is_named_by_team_environment_kind_and_path(project_dir: Path) -> None:
    with pytest.raises(Failure) as caught:
        package(find_project(project_dir), helm=SpoiltHelm)
    assert "brand-team in dev: Service/brand-team: spec: " in str(caught.value)
    assert "'port'" in str(caught.value)
    assert not (project_dir / "charts").exists()
    assert beside(project_dir / "charts") == []


def test_two_packagers_exclude_each_other(project_dir: Path) -> None:
    lock = project_dir / ".charts.lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        done = elf("package", cwd=project_dir)
    finally:
        os.close(descriptor)
    assert done.returncode == 1
    assert "another process is writing" in done.stderr
    assert not (project_dir / "charts").exists()
    assert elf("package", cwd=project_dir).returncode == 0
    assert beside(project_dir / "charts") == []


def test_many_packagers_at_once_leave_one_right_tree(project_dir: Path) -> None:
    command = [sys.executable, "-m", "elf_sdk", "package"]
    environ = {**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1])}
    processes = [
        subprocess.Popen(
            command, cwd=project_dir, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0 or "another process is writing" in said, said
    assert not package(find_project(project_dir), check=True).drifted
    assert beside(project_dir / "charts") == []


@pytest.mark.parametrize("exchange", [True, False])
def test_killed_anywhere_it_leaves_the_old_tree_or_the_new_one(exchange: bool, project_dir: Path) -> None:
    output = project_dir / "charts"
    trees = []
    for purpose in ("old", "new"):
        write_project(project_dir, {team: {**fields, "purpose": purpose} for team, fields in TEAMS.items()})
        package(find_project(project_dir))
        trees.append(tree(output))
    # Writes both in turn for ever, so that kills hit every step and the swap most of all.
    loop = (
        "from pathlib import Path\n"
        "from elf_sdk import files\n"
        "from elf_sdk.files import staged, swap, tree_lock, write_tree, list_tree\n"
        "import sys, time\n"
        f"{'' if exchange else 'files._exchange = None'}\n"
        "root, output = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "trees = [{p: (root / n / p).read_bytes() for p in list_tree(root / n)} for n in '01']\n"
        "while True:\n"
        "    started = time.monotonic()\n"
        "    for tree in trees:\n"
        "        with tree_lock(output), staged(output) as stage:\n"
        "            write_tree(stage, tree)\n"
        "            swap(stage, output)\n"
        "    print(time.monotonic() - started, flush=True)\n"
    )
    for number, files in enumerate(trees):
        for path, content in files.items():
            target = project_dir / "trees" / str(number) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    chance = random.Random(7)  # noqa: S311 - when to kill
    seen = set()
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", loop, project_dir / "trees", output],
            env={**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1])},
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None
            time.sleep(chance.uniform(0, float(process.stdout.readline())))
            process.send_signal(signal.SIGKILL)
        if not exchange:
            # Two renames leave a moment without a tree; the next writer repairs it first of all.
            with tree_lock(output):
                pass
        found = tree(output)
        assert found in trees
        seen.add(trees.index(found))
    assert seen == {0, 1}
    assert package(find_project(project_dir), prove=True).helm
    assert not package(find_project(project_dir), check=True).drifted
    assert beside(output) == []


def test_what_a_kill_between_two_renames_leaves_is_repaired(project_dir: Path) -> None:
    output = project_dir / "charts"
    package(find_project(project_dir))
    before = tree(output)
    output.rename(project_dir / ".charts.old")
    (project_dir / ".charts.new").mkdir()
    (project_dir / ".charts.new" / "half").write_text("written")
    report = package(find_project(project_dir))
    assert [team.status for team in report.teams] == ["unchanged"] * 3
    assert tree(output) == before
    assert beside(output) == []


def test_unknown_teams_and_places_are_bad_input(project_dir: Path) -> None:
    done = elf("package", "ghost-team", cwd=project_dir)
    assert done.returncode == 2
    assert "ghost-team" in done.stderr
    assert elf("package", "a/", "b/", cwd=project_dir).returncode == 2
    assert "brand-team" in elf("package", "brand-team", cwd=project_dir).stdout


def test_compare_sees_links_directories_and_missing_roots(tmp_path: Path) -> None:
    assert compare({"a": b""}, tmp_path / "none").added == ("a",)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "c")
    (tmp_path / "c").write_bytes(b"x")
    found = compare({"b": b"x", "c": b"x"}, tmp_path)
    assert (found.added, found.changed, found.removed) == ((), ("b",), ("a",))


def test_a_chart_that_was_changed_by_hand_at_once_is_noticed(project_dir: Path) -> None:
    """Again and again, so that the file is written within the tick in which it was looked at."""
    package(find_project(project_dir))
    values = project_dir / "charts/brand-team/values.yaml"
    right = values.read_bytes()
    for number in range(10):
        values.write_bytes(right.replace(b"elf package", b"elf %07d" % number))
        assert package(find_project(project_dir), check=True).drifted
        values.write_bytes(right)
        assert not package(find_project(project_dir)).drifted


def test_a_file_with_the_same_size_and_time_is_not_the_same_file(project_dir: Path) -> None:
    package(find_project(project_dir))
    values = project_dir / "charts/brand-team/values.yaml"
    for each in list_tree(project_dir / "charts"):
        os.utime(project_dir / "charts" / each, (1, 1))
    time.sleep(0.25)
    assert not package(find_project(project_dir)).drifted
    values.write_bytes(values.read_bytes().replace(b"elf package", b"elf PACKAGE"))
    os.utime(values, (1, 1))
    assert [team.team for team in package(find_project(project_dir), check=True).drifted] == ["brand-team"]


def test_how_charts_look_is_remembered_once_they_are_old_enough(project_dir: Path) -> None:
    package(find_project(project_dir))
    time.sleep(0.25)
    assert not package(find_project(project_dir)).drifted
    with Cache.opened("charts", str(project_dir / "charts"), keep=True) as cache:
        assert all(cache.get(team)["looks"] for team in TEAMS)

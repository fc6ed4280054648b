"""Promotion from one environment to the next: what moves, what does not, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from elf_sdk.deploy.gitops.choice import Asked
from elf_sdk.deploy.gitops.promote import commit
from elf_sdk.deploy.gitops.write import write
from elf_sdk.deploy.images import write_digest
from elf_sdk.errors import BadInput, Conflict
from tests.deploy.organisations import TEAMS

from .conftest import Site, digest, plan, promote


def test_the_same_chart_and_image_go_through_all_environments_in_one_commit_each(site: Site) -> None:
    site.release("1.1.0", 2, "brand-team")  # released on its own, so two versions are in dev
    promote(site, "staging")
    assert site.log() == (
        "Promote 3 teams from dev to staging\n\n"
        f"staging: brand-team 1.1.0 comes, image {digest(2)}\n"
        f"staging: chief-team 1.0.0 comes, image {digest(1)}\n"
        f"staging: data-team 1.0.0 comes, image {digest(1)}\n"
        "as the tests want it\n\n"
        "Elf-Operation: promote\nElf-Environments: staging\nElf-Promoted-From: dev\nElf-Evals: 3 right\n\n"
    )
    promote(site, "prod", *TEAMS)
    for team in TEAMS:
        chart = {p.name: p.read_bytes() for p in site.place("dev", team).rglob("*") if p.is_file()}
        for environment in ("staging", "prod"):
            there = {p.name: p.read_bytes() for p in site.place(environment, team).rglob("*") if p.is_file()}
            assert {name for name in there if there[name] != chart.get(name)} == {
                "app.yaml",
                f"values-{environment}.yaml",
            }
            app = site.data(environment, team)
            assert (app["version"], app["digest"]) == (
                site.data("dev", team)["version"],
                site.data("dev", team)["digest"],
            )
            assert site.lock(team)[environment] == app["digest"]
    assert site.data("prod", "brand-team")["namespace"] == "elf-teams"
    assert site.data("prod", "brand-team", "values-prod.yaml")["replicas"] == 2


def test_what_is_there_already_is_no_commit(site: Site) -> None:
    promote(site, "staging")
    assert promote(site, "staging") is None
    assert all(not move.changes for move in plan(site, "staging").moves)


def test_one_team_moves_alone_where_its_neighbours_are(site: Site) -> None:
    promote(site, "staging")
    before = site.files("staging")
    site.release("1.1.0", 2)
    promote(site, "staging", "data-team")
    changed = {path for path, content in site.files("staging").items() if before[path] != content}
    assert {path.split("/")[0] for path in changed} == {"data-team"}
    assert site.data("staging", "data-team")["digest"] == digest(2)
    assert site.data("staging", "brand-team")["version"] == "1.0.0"


@pytest.mark.parametrize(
    ("to", "teams", "message"),
    [
        (
            "prod",
            ["data-team"],
            "data-team is not in staging, and no environment is skipped; bring it there before prod",
        ),
        ("dev", ["data-team"], "dev is the first environment, which elf gitops write writes"),
        ("live", ["data-team"], "there is no environment 'live'; there are: dev, staging, prod"),
        ("staging", ["other-team"], "there is no team 'other-team'"),
        (
            "staging",
            ["data-team"],
            "staging does not have brand-team, the other end of data-team; chief-team, the other",
        ),
    ],
)
def test_what_cannot_be_promoted_is_refused(site: Site, to: str, teams: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan(site, to, *teams)


def test_an_image_without_a_digest_is_promoted_only_when_that_is_said(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.release("1.0.0", 1)
    (site.root / "teams" / "chief-team" / "images.lock.yaml").unlink()
    site.edit("chief-team", version="1.0.1")
    repository = site.clone()
    write(site.project, repository, Asked(("chief-team",)))
    repository.commit_written()
    with pytest.raises(BadInput, match="chief-team runs in dev by the tag of its image, which may be another image"):
        plan(site, "staging")
    assert [move.target.app.digest for move in plan(site, "staging", by_tag=True).moves].count("") == 1


def test_a_neighbour_that_comes_later_changes_edges_and_nothing_else(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.edit("brand-team", peers=[])
    site.edit("data-team", peers=[], reports_to=None)
    site.edit("chief-team", manages=["brand-team"])
    site.release("1.0.0", 1)
    promote(site, "staging", "chief-team", "brand-team")
    before = site.files("staging")

    site.edit("data-team", reports_to="chief-team")
    site.edit("chief-team", manages=["brand-team", "data-team"], version="2.0.0", replicas=7)
    promote(site, "staging", "data-team")
    after = site.files("staging")
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {"chief-team/values-staging.yaml"}
    values = site.data("staging", "chief-team", "values-staging.yaml")
    assert [callee["team"] for callee in values["edges"]["callees"]] == ["brand-team", "data-team"]
    assert values["replicas"] == 1, "what else has changed in its team.yaml waits for its own promotion"
    assert "chief-team gets new neighbours, and nothing else" in site.log()


def test_what_moved_meanwhile_is_not_read_again(site: Site) -> None:
    planned = plan(site, "staging")
    site.release("1.1.0", 2)  # while the evals talk to what was there
    repository = site.clone()
    assert commit(site.project, repository, planned)
    assert {site.data("staging", team)["digest"] for team in TEAMS} == {digest(1)}
    assert site.data("dev", "brand-team")["digest"] == digest(2)


def test_a_promotion_that_is_pushed_too_late_is_put_on_what_is_there(site: Site) -> None:
    promote(site, "staging")
    site.release("1.1.0", 2)
    mine, other = plan(site, "staging", "data-team"), site.clone("other")
    theirs = plan(site, "staging", "brand-team", clone=other)
    assert commit(site.project, other, theirs)
    other.push()
    assert commit(site.project, site.clone(), mine)
    pushed = site.clone().push()
    assert len(pushed.commits) == 1
    assert {team: site.data("staging", team)["version"] for team in TEAMS} == {
        "brand-team": "1.1.0",
        "chief-team": "1.0.0",
        "data-team": "1.1.0",
    }
    assert "Elf-Promoted-From: dev" in site.log()


def test_two_promotions_of_the_same_team_do_not_overwrite_each_other(site: Site) -> None:
    promote(site, "staging")
    site.release("1.1.0", 2, "data-team")
    mine, other = plan(site, "staging", "data-team"), site.clone("other")
    site.release("1.2.0", 3, "data-team")
    other.refresh()
    assert commit(site.project, other, plan(site, "staging", "data-team", clone=other))
    other.push()
    repository = site.clone()
    assert commit(site.project, repository, mine)
    with pytest.raises(
        Conflict, match="environments/staging/data-team was changed by somebody else since this promote"
    ):
        repository.push()
    repository.git("reset", "--quiet", "--hard", "origin/main")
    repository.refresh()
    assert site.data("staging", "data-team")["version"] == "1.2.0", "theirs is there, whole"
    with pytest.raises(Conflict, match="begin again"):
        commit(site.project, repository, mine)


def test_a_branch_for_a_review_leaves_the_clone_as_it_is(site: Site) -> None:
    planned, repository = plan(site, "staging"), site.clone()
    assert commit(site.project, repository, planned, branch="to-staging")
    assert not site.place("staging", "brand-team").exists()
    repository.push(branch="to-staging")
    branches = subprocess.run(
        ["git", "branch", "--format=%(refname:short)"], cwd=site.remote, check=True, capture_output=True, text=True
    )
    assert branches.stdout.split() == ["main", "to-staging"]


def test_a_promotion_is_taken_back_by_git_revert(site: Site) -> None:
    promote(site, "staging")
    before = site.files("staging")
    site.release("1.1.0", 2)
    promote(site, "staging")
    repository = site.clone()
    repository.git("revert", "--no-edit", "HEAD")
    assert site.files("staging") == before
    repository.push()


def test_plain_manifests_are_not_promoted(tmp_path: Path) -> None:
    site = Site(tmp_path)
    repository = site.clone()
    write(site.project, repository, Asked(format="manifests"))
    repository.commit_written()
    with pytest.raises(BadInput, match="gitops holds plain manifests, and no charts that could be moved"):
        plan(site, "staging")


def test_a_promotion_in_the_repository_of_the_project_itself(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (site.root / "elf.yaml").unlink()
    for command in (
        ["init", "--quiet", "-b", "main"],
        ["remote", "add", "origin", str(site.remote)],
        ["add", "--all"],
        ["commit", "--quiet", "-m", "Teams"],
    ):
        subprocess.run(["git", *command], cwd=site.root, check=True)
    repository = site.clone()
    for team in TEAMS:
        write_digest(site.root / "teams" / team, site.project.organisation, "dev", digest(1))
    write(site.project, repository)
    repository.commit_written()
    repository.refresh()
    planned = plan(site, "staging")
    assert commit(site.project, repository, planned)
    files = repository.git("show", "--format=", "--name-only", "HEAD").split()
    assert files
    assert all(name.startswith(("gitops/environments/staging/", "gitops/projects/")) for name in files)
    assert all(site.lock(team)["staging"] == digest(1) for team in TEAMS), "beside it, for the person to commit"

"""`elf org who-may-call`: who may call a team, by which relationship, and what compiled from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.deploy.organisations import TEAMS, elf, write_project

GATEWAY = {"agent_gateway": {"namespace": "edge", "labels": {"app": "gateway"}}}


def asked(root: Path, *arguments: str) -> Any:
    done = elf("org", "who-may-call", *arguments, "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_team_has_its_callers_with_what_compiled_from_the_relationship(tmp_path: Path) -> None:
    data = {**TEAMS["data-team"], "environments": {"prod": {"namespace": "vip"}}}
    root = write_project(tmp_path, {**TEAMS, "data-team": data}, {"name": "acme", **GATEWAY})
    body = asked(root, "brand-team", "--env", "prod")
    assert body["environment"] == "prod"
    (brand,) = body["teams"]
    assert (brand["url"], brand["audience"]) == ("http://brand-team.elf-teams.svc:8000", "elf:acme:prod:brand-team")
    assert brand["callers"] == [
        {"team": "chief-team", "namespace": "elf-teams", "relation": "manages", "labels": {"app": "chief-team"}},
        {"team": "data-team", "namespace": "vip", "relation": "peers", "labels": {"app": "data-team"}},
    ]
    assert brand["clients"][0] == {"what": "the agent gateway", "namespace": "edge", "labels": {"app": "gateway"}}
    assert [each["team"] for each in asked(root)["teams"]] == ["brand-team", "chief-team", "data-team"]


def test_a_person_reads_the_same(tmp_path: Path) -> None:
    done = elf("org", "who-may-call", "brand-team", cwd=write_project(tmp_path))
    assert done.stdout.splitlines() == [
        "brand-team in dev",
        "  address   http://brand-team.elf-teams-dev.svc:8000",
        "  audience  elf:elf:dev:brand-team",
        "  chief-team          manages it     pods app=chief-team      in elf-teams-dev",
        "  data-team           peer           pods app=data-team       in elf-teams-dev",
        "  the Control Center  brings people  pods app=control-center  in elf-control-center",
    ]


def test_the_matrix_has_every_pair(tmp_path: Path) -> None:
    root = write_project(tmp_path)
    assert asked(root, "--matrix")["allowed"] == {
        "brand-team": {"chief-team": False, "data-team": True},
        "chief-team": {"brand-team": True, "data-team": True},
        "data-team": {"brand-team": True, "chief-team": False},
    }
    assert elf("org", "who-may-call", "--matrix", cwd=root).stdout.splitlines()[1:] == [
        "1 brand-team    · ✓",
        "2 chief-team  ✓   ✓",
        "3 data-team   ✓ ·  ",
    ]


def test_a_relationship_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    clusters = [{"name": name, "server": f"https://{name}.example.com"} for name in ("in-cluster", "far")]
    data = {**TEAMS["data-team"], "environments": {"dev": {"cluster": "far"}}}
    root = write_project(tmp_path, {**TEAMS, "data-team": data}, {"clusters": clusters})
    done = elf("org", "who-may-call", "brand-team", cwd=root)
    assert "data-team  " not in done.stdout
    assert "data-team runs in the cluster 'far', and brand-team in 'in-cluster', so neither can call" in done.stderr
    assert "so neither can call the other there" in elf("package", "brand-team", "--check", cwd=root).stderr


def test_an_environment_or_a_team_that_is_not_there_is_told(tmp_path: Path) -> None:
    root = write_project(tmp_path)
    for arguments, said in (
        (("--env", "qa"), "there are: dev, staging, prod"),
        (("x-team",), "there is no team 'x-team'"),
    ):
        done = elf("org", "who-may-call", *arguments, cwd=root)
        assert done.returncode == 2
        assert said in done.stderr

"""Returning a team to what ran there before."""

from __future__ import annotations

import pytest

from elf_sdk.deploy.gitops.rollback import RolledBack, rollback
from elf_sdk.errors import BadInput
from tests.deploy.organisations import TEAMS

from .conftest import Site, digest, promote


def back(site: Site, *teams: str, environment: str = "staging") -> RolledBack:
    chosen = site.project.organisation.environment(environment)
    return rollback(site.project, site.clone(), teams, chosen)


def test_a_team_returns_to_the_bytes_that_ran_before(site: Site) -> None:
    promote(site, "staging")
    before = site.files("staging")
    site.release("1.1.0", 2)
    promote(site, "staging")
    after = site.files("staging")

    done = back(site, "data-team")
    [returned] = done.returns
    assert (returned.before.app.version, returned.after.app.version) == ("1.1.0", "1.0.0")
    mine = {path: content for path, content in before.items() if path.startswith("data-team/")}
    assert site.files("staging") == {**{p: c for p, c in after.items() if p not in mine}, **mine}
    assert site.lock("data-team")["staging"] == digest(1)
    assert site.log("--format=%s") == "Return data-team in staging to 1.0.0\n"
    site.clone().push()

    back(site, "data-team")  # and back again
    assert site.files("staging") == after


def test_several_teams_return_in_one_commit(site: Site) -> None:
    promote(site, "staging")
    before = site.files("staging")
    site.release("1.1.0", 2)
    promote(site, "staging")
    assert back(site, *TEAMS).commit
    assert site.files("staging") == before
    assert site.log("--format=%s") == "Return 3 teams in staging to what ran before\n"


def test_new_neighbours_are_not_what_a_rollback_takes_back(site: Site) -> None:
    site.edit("brand-team", peers=[])
    site.edit("data-team", peers=[], reports_to=None)
    site.edit("chief-team", manages=["brand-team"])
    promote(site, "staging", "chief-team", "brand-team")
    site.release("1.1.0", 2, "chief-team")
    promote(site, "staging", "chief-team")
    site.edit("data-team", reports_to="chief-team")
    site.edit("chief-team", manages=["brand-team", "data-team"])
    promote(site, "staging", "data-team")
    [returned] = back(site, "chief-team").returns
    assert (returned.before.app.version, returned.after.app.version) == ("1.1.0", "1.0.0")


def test_what_was_never_there_cannot_return(site: Site) -> None:
    with pytest.raises(BadInput, match="data-team is not in staging; elf promote --to staging brings it there"):
        back(site, "data-team")
    promote(site, "staging")
    with pytest.raises(BadInput, match="nothing of data-team was in staging before what is there now"):
        back(site, "data-team")
    assert site.files("staging")

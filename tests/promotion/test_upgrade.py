"""The library of the charts, brought to a newer version in one environment after the other."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.deploy.chart import Templates, load_templates
from elf_sdk.deploy.gitops.merge import in_order, refitted, with_difference
from elf_sdk.deploy.gitops.upgrade import Upgrade, upgrade
from elf_sdk.deploy.values_model import values_schema
from elf_sdk.errors import BadInput, Failure
from tests.deploy.organisations import TEAMS
from tests.promotion import written

from .conftest import Site, promote


def newer(version: str = "9.0.0", service: str = "") -> Templates:
    """The templates of a later release: a label more on every Service."""
    templates = load_templates()
    library = dict(templates.library)
    chart = library["Chart.yaml"].replace(
        f"version: {templates.library_version}".encode(), f"version: {version}".encode()
    )
    assert chart != library["Chart.yaml"]
    text = library["templates/_service.tpl"].decode()
    assert text.count("metadata:\n") == 1
    library["templates/_service.tpl"] = (
        service or text.replace("metadata:\n", "metadata:\n  annotations: {a: b}\n")
    ).encode()
    return replace(templates, library={**library, "Chart.yaml": chart}, library_version=version)


def up(site: Site, environment: str, templates: Templates | None = None, *, check: bool = False) -> Upgrade:
    chosen = site.project.organisation.environment(environment)
    return upgrade(site.project, site.clone(), chosen, templates=templates or newer(), check=check)


def test_only_the_library_changes_and_one_environment_a_commit(site: Site) -> None:
    promote(site, "staging")
    site.release("1.1.0", 2)
    for team in TEAMS:
        site.edit(team, version="2.0.0", replicas=5, display_name="Another")  # none of this is released
    before = {name: site.files(name) for name in ("dev", "staging")}
    old = load_templates().library_version

    assert {team.after.app.team for team in up(site, "dev").teams} == set(TEAMS)
    assert site.files("staging") == before["staging"]
    assert site.log("--format=%s") == "Upgrade the charts of 3 teams in dev to elf-team 9.0.0\n"
    assert "dev: data-team 1.1.0, library " in site.log()
    up(site, "staging")
    for name in ("dev", "staging"):
        after = site.files(name)
        for team in TEAMS:
            gone = {path for path in before[name] if path.startswith(f"{team}/") and path not in after}
            come = {path for path in after if path.startswith(f"{team}/") and path not in before[name]}
            assert gone == {f"{team}/charts/elf-team-{old}.tgz"}
            assert come == {f"{team}/charts/elf-team-9.0.0.tgz"}
        changed = {path for path in after if path in before[name] and after[path] != before[name][path]}
        assert changed == {f"{team}/{file}" for team in TEAMS for file in ("app.yaml", "Chart.yaml")}
        for path in changed:
            ours = after[path].decode().replace("9.0.0", old)
            assert ours == before[name][path].decode(), "nothing in it but the library's version"
    archive = site.files("dev")["data-team/charts/elf-team-9.0.0.tgz"]
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        held = tar.extractfile("elf-team/templates/_service.tpl")
        assert held is not None
        assert b"annotations: {a: b}" in held.read()
    assert up(site, "dev").commit is None, "it is there already"


def test_an_environment_waits_for_the_one_below(site: Site) -> None:
    promote(site, "staging")
    with pytest.raises(BadInput, match=r"library than 9\.0\.0 in dev; upgrade that first: elf upgrade --env dev"):
        up(site, "staging")


def test_a_chart_that_is_wrong_with_the_new_library_changes_nothing(site: Site) -> None:
    before = site.files("dev")
    with pytest.raises(Failure, match="nothing was replaced"):
        up(
            site,
            "dev",
            newer(service='{{- define "elf-team.service" -}}\napiVersion: v1\nkind: Service\nspec: 1\n{{- end -}}\n'),
        )
    assert site.files("dev") == before
    assert "Upgrade" not in site.log()


def test_a_newer_library_is_not_replaced_by_an_older_one(site: Site) -> None:
    up(site, "dev", newer("9.0.0"))
    with pytest.raises(BadInput, match=r"has the library 9.0.0, and this elf brings 8.0.0; install the newer elf"):
        up(site, "dev", newer("8.0.0"))


def test_what_would_be_upgraded_is_said_without_a_change(site: Site) -> None:
    before = site.files("dev")
    assert len(up(site, "dev", check=True).teams) == len(TEAMS)
    assert site.files("dev") == before


SCHEMA = {
    "properties": {
        "a": {"type": "integer"},
        "labels": {"type": "object"},
        "probe": {"$ref": "#/$defs/Probe"},
        "new": {"$ref": "#/$defs/Probe"},
    },
    "$defs": {"Probe": {"properties": {"path": {"type": "string"}, "seconds": {"type": "integer"}}}},
}


def test_values_are_kept_but_for_what_a_schema_no_longer_knows_or_newly_wants() -> None:
    common = {"a": 1, "labels": {"x": "y"}, "probe": {"path": "/old", "old": 1}, "gone": True}
    fresh = {"a": 2, "labels": {}, "probe": {"path": "/new", "seconds": 5}, "new": {"path": "/", "seconds": 1}}
    assert refitted(common, fresh, common, SCHEMA) == {
        "a": 1,
        "labels": {"x": "y"},
        "probe": {"path": "/old", "seconds": 5},
        "new": {"path": "/", "seconds": 1},
    }
    own = {"a": 3, "gone": False}
    fresh_own = {"labels": {"z": "z"}, "probe": {"path": "/mine", "seconds": 9}, "new": {"seconds": 2}}
    assert refitted(own, fresh_own, common, SCHEMA) == {"a": 3, "probe": {"seconds": 9}, "new": {"seconds": 2}}


def test_a_difference_is_put_on_other_values() -> None:
    there = {"probe": {"path": "/x", "seconds": 1}, "a": 1, "labels": {"k": "v"}}
    before = {"probe": {"seconds": 2}, "a": 2}
    after = {"probe": {"seconds": 3}, "a": 2, "new": {"path": "/"}}
    merged = with_difference(there, before, after)
    assert merged == {"probe": {"path": "/x", "seconds": 3}, "a": 1, "labels": {"k": "v"}, "new": {"path": "/"}}
    assert list(in_order(merged, SCHEMA)) == ["a", "labels", "probe", "new"]
    assert with_difference(merged, after, before)["probe"] == {"path": "/x", "seconds": 2}
    assert "new" not in with_difference(merged, after, before)


FILES = ("app.yaml", "values.yaml")


def same_where_both(values: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `values` that has the keys of `like`."""
    return {
        key: same_where_both(values[key], value) if isinstance(value, Mapping) else values[key]
        for key, value in like.items()
        if key in values
    }


@pytest.fixture
def earlier(tmp_path: Path) -> Site:
    """The repository that an earlier release wrote, with teams that have gone on since."""
    site = Site(tmp_path, teams=written.TEAMS)
    for team in written.TEAMS:
        site.edit(team, version="3.0.0", resources={"memory_limit": "2Gi"})
    repository = site.clone()
    shutil.copytree(written.WRITTEN, site.place("dev", "x").parents[1])
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "-m", "As it was written")
    repository.push()
    return site


@pytest.mark.parametrize("templates", [load_templates(), newer()], ids=["this-library", "next-library"])
def test_what_an_earlier_release_wrote_is_upgraded_with_its_values(earlier: Site, templates: Templates) -> None:
    for environment in ("dev", "staging"):
        before = {(team, name): earlier.data(environment, team, name) for team in written.TEAMS for name in FILES}
        own = {team: earlier.data(environment, team, f"values-{environment}.yaml") for team in written.TEAMS}
        up(earlier, environment, templates)  # which proves the charts
        for team in written.TEAMS:
            app = earlier.data(environment, team)
            assert app == {**before[team, "app.yaml"], "library": templates.library_version}
            for name, then in (("values.yaml", before[team, "values.yaml"]), (f"values-{environment}.yaml", own[team])):
                kept = refitted(then, {}, then, values_schema())
                now = earlier.data(environment, team, name)
                assert same_where_both(now, kept) == kept, "what is still known is as it was"
    assert up(earlier, "staging", templates).commit is None

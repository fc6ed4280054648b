"""How images are called: alike by who builds them and by who installs them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from elf_sdk.deploy.reference import image_of, is_loopback, qualified
from elf_sdk.errors import BadInput
from elf_sdk.settings import load_image_settings
from elf_sdk.team.organisation import Organisation
from elf_sdk.team.project import find_project
from tests.deploy.organisations import elf, spec, write_project


def test_the_tag_is_the_version_and_the_registry_the_nearest_that_is_named() -> None:
    organisation = Organisation(registry="registry.example.com/agents")
    assert str(image_of(spec(version="1.2.0"), organisation)) == "registry.example.com/agents/brand-team:1.2.0"
    own = spec(image={"registry": "other.example.com"})
    assert str(image_of(own, organisation)) == "other.example.com/brand-team:0.1.0"
    assert str(image_of(spec(), Organisation())) == "brand-team:0.1.0"


@pytest.mark.parametrize(
    ("image", "meant"),
    [
        ("python:3.11-slim", "docker.io/library/python:3.11-slim"),
        ("agents/base:1", "docker.io/agents/base:1"),
        ("registry.example.com/base:1", "registry.example.com/base:1"),
        ("localhost/base:1", "localhost/base:1"),
        ("127.0.0.1:5000/python:3.11", "127.0.0.1:5000/python:3.11"),
    ],
)
def test_a_short_name_means_docker_hub(image: str, meant: str) -> None:
    assert qualified(image) == meant


@pytest.mark.parametrize(
    ("registry", "loopback"),
    [
        ("127.0.0.1:5000", True),
        ("localhost:5000", True),
        ("localhost", True),
        ("[::1]:5000", True),
        ("10.0.0.1:5000", False),
        ("127.0.0.1.example.com", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_without_tls_it_goes_to_this_machine_only(registry: str, loopback: bool) -> None:
    assert is_loopback(registry) is loopback


def test_docker_registry_goes_before_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_REGISTRY", "mirror.example.com/all/")
    image = {"registry": "other.example.com"}
    teams = {"brand-team": {"image": image, "environments": {"prod": {"image": image}}}, "data-team": {}}
    write_project(tmp_path, teams, {"name": "lumen", "registry": "registry.example.com"})
    project = find_project(tmp_path)
    for team in project.teams:
        for environment in project.organisation.environments:
            here = image_of(team.spec.for_environment(environment.name), project.organisation)
            assert here.repository == f"mirror.example.com/all/{team.spec.name}"


def test_a_chart_names_the_image_that_is_built(tmp_path: Path) -> None:
    write_project(tmp_path, {"brand-team": {"version": "1.2.0-rc.1"}})
    done = elf("package", "--output", "out", cwd=tmp_path, DOCKER_REGISTRY="mirror.example.com/all")
    assert done.returncode == 0, done.stderr
    values = yaml.safe_load((tmp_path / "out" / "brand-team" / "values.yaml").read_text(encoding="utf-8"))
    assert values["image"]["repository"] == "mirror.example.com/all/brand-team"
    assert values["image"]["tag"] == "1.2.0-rc.1"


@pytest.mark.parametrize("value", ["https://registry.example.com", "registry example", "registry.example.com/UP", "-x"])
def test_a_registry_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(BadInput, match="DOCKER_REGISTRY is "):
        load_image_settings({"DOCKER_REGISTRY": value})

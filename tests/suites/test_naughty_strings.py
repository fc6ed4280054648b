"""The Big List of Naughty Strings through team.yaml, `elf package` and Helm: none is changed, none does anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from elf_sdk.deploy.chart import chart_tree, load_templates
from elf_sdk.deploy.helm import Helm, Release
from elf_sdk.deploy.kubernetes import parse_manifests
from elf_sdk.errors import Failure
from elf_sdk.files import write_tree
from tests.deploy.conftest import any_helm, embedded  # noqa: F401 - fixtures
from tests.deploy.naughty import FIELDS, packaged, refused
from tests.deploy.organisations import spec, values_of
from tests.suites.support import suite

SUITE = "big-list-of-naughty-strings"
SOURCE = "https://github.com/minimaxir/big-list-of-naughty-strings"

PLACE = suite(SUITE, SOURCE)
STRINGS: list[str] = json.loads((PLACE / "blns.json").read_text(encoding="utf-8"))

REFUSED = {"display_name": 12, "purpose": 7, "role": 15, "skill": 15, "env": 6}
"""How many of the 511 different ones a field does not take: control characters, too long, a space first."""

pytestmark = pytest.mark.timeout(900)


def test_all_strings_are_there() -> None:
    assert len(STRINGS) == 515


def test_each_reaches_the_cluster_as_it_is_or_is_refused_with_the_reason(tmp_path: Path) -> None:
    texts = list(dict.fromkeys(STRINGS))
    without = refused(texts)
    before = set(os.listdir("/tmp"))  # noqa: S108, PTH208 - some strings would write there
    changed = []
    seen = 0
    for text, found in packaged(tmp_path, texts, without):
        seen += 1
        changed += [(field, text, value) for field, value in found.items() if value != text]
    assert seen == len(texts)
    assert changed == []
    assert {field: len(without[field]) for field in FIELDS} == REFUSED
    assert all(reason for field in FIELDS for reason in without[field].values())
    assert not {"blns.fail", "blns.shellshock1.fail", "blns.shellshock2.fail"} & (set(os.listdir("/tmp")) - before)  # noqa: S108, PTH208


def test_every_helm_gives_each_back(any_helm: Helm, tmp_path: Path) -> None:  # noqa: F811 - a fixture
    """As values of a chart, past what team.yaml would refuse of them."""
    team = spec()
    values = values_of(team)
    values["env"] = [{"name": f"V{number}", "value": text} for number, text in enumerate(STRINGS)]
    values["team"] |= {"displayName": "".join(STRINGS), "purpose": "\n".join(STRINGS)}
    chart = tmp_path / "brand-team"
    write_tree(chart, chart_tree(team, {"prod": values}, load_templates()))
    (result,) = any_helm.render_each(chart, [Release("brand-team", "x", chart / "values-prod.yaml")])
    assert not isinstance(result, Failure)
    objects = {each["kind"]: each for each in parse_manifests(result)}
    assert [objects["ConfigMap"]["data"][f"V{number}"] for number in range(len(STRINGS))] == STRINGS
    annotations = objects["Deployment"]["metadata"]["annotations"]
    assert annotations["elf-sdk/display-name"] == "".join(STRINGS)
    assert annotations["elf-sdk/purpose"] == "\n".join(STRINGS)

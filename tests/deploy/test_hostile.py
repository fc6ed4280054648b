"""Text that people write reaches Kubernetes as it is, whatever it looks like to YAML, Helm or a shell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_sdk.deploy.chart import chart_tree, load_templates
from elf_sdk.deploy.encode import inline_markdown, to_yaml
from elf_sdk.deploy.helm import EmbeddedHelm, Helm
from elf_sdk.team.project import survey
from tests.deploy.hostile import HOSTILE, INJECTIONS, MARK
from tests.deploy.naughty import FIELDS, packaged, refused
from tests.deploy.organisations import render, spec, values_of, write_project


def test_yaml_gives_back_every_text_to_both_readers(embedded: EmbeddedHelm, tmp_path: Path) -> None:
    import helm_python

    data = {"texts": HOSTILE, "pairs": [{"name": text, "value": text} for text in HOSTILE], "empty": [], "none": {}}
    document = to_yaml(data)
    assert yaml.safe_load(document) == data
    assert helm_python.values_from_yaml(document) == data


def test_keys_that_yaml_would_read_as_something_else_are_quoted() -> None:
    data = dict.fromkeys(("no", "y", "on", "1", "1e3", "~", "null", "a: b", "", "#", "ephemeral-storage"), "x")
    assert yaml.safe_load(to_yaml(data)) == data


def test_environment_values_are_unchanged_by_helm(any_helm: Helm, tmp_path: Path) -> None:
    team = spec()
    values = values_of(team)
    values["env"] = [{"name": f"V{number}", "value": text} for number, text in enumerate(HOSTILE)]
    data = render(tmp_path, team, values, any_helm)["ConfigMap"]["data"]
    assert [data[f"V{number}"] for number in range(len(HOSTILE))] == HOSTILE


def test_what_kubernetes_gets_as_it_was_written_is_unchanged(any_helm: Helm, tmp_path: Path) -> None:
    team = spec()
    values = values_of(team)
    items = [{"key": text, "path": f"p{number}", "mode": number} for number, text in enumerate(HOSTILE)]
    volume = {"name": "x", "secret": {"items": items, "optional": True}}
    sidecar = {"name": "x", "args": HOSTILE, "env": [], "securityContext": {}}
    annotations = {f"a{number}": text for number, text in enumerate(HOSTILE)}
    values["extra"] |= {"volumes": [volume], "containers": [sidecar], "annotations": annotations}
    template = render(tmp_path, team, values, any_helm)["Deployment"]["spec"]["template"]
    assert volume in template["spec"]["volumes"]
    assert template["spec"]["containers"][1] == sidecar
    assert annotations.items() <= template["metadata"]["annotations"].items()


def test_many_texts_in_one_annotation_are_unchanged_by_helm(any_helm: Helm, tmp_path: Path) -> None:
    team = spec()
    values = values_of(team)
    values["team"] |= {"displayName": "\n".join(HOSTILE), "purpose": "".join(HOSTILE)}
    annotations = render(tmp_path, team, values, any_helm)["Deployment"]["metadata"]["annotations"]
    assert annotations["elf-sdk/display-name"] == "\n".join(HOSTILE)
    assert annotations["elf-sdk/purpose"] == "".join(HOSTILE)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_names_and_purposes_are_unchanged_by_helm(number: int, embedded: Helm, tmp_path: Path) -> None:
    text = HOSTILE[number]
    team = spec()
    values = values_of(team)
    values["team"] |= {"displayName": text, "purpose": text}
    annotations = render(tmp_path, team, values, embedded)["Deployment"]["metadata"]["annotations"]
    assert annotations["elf-sdk/display-name"] == text
    assert annotations["elf-sdk/purpose"] == text


def _allowed(**fields: Any) -> bool:
    try:
        spec(**fields)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("text", [text for text in HOSTILE if _allowed(purpose=text)])
def test_a_spec_with_it_becomes_a_chart_that_helm_accepts(text: str, embedded: Helm, tmp_path: Path) -> None:
    name = text if _allowed(display_name=text) else ""
    role = text if _allowed(members=[{"role": text, "is_manager": True}]) else "lead"
    team = spec(purpose=text, display_name=name, members=[{"role": role, "is_manager": True}])
    annotations = render(tmp_path, team, values_of(team), embedded)["Deployment"]["metadata"]["annotations"]
    assert annotations["elf-sdk/purpose"] == text
    assert annotations["elf-sdk/display-name"] == (name or "brand-team")


def test_no_template_of_a_chart_holds_what_people_wrote() -> None:
    marker = "MarkerOfAPerson"
    team = spec(purpose=marker, display_name=marker, env=[{"name": "X", "value": marker}])
    tree = chart_tree(team, {"prod": values_of(team)}, load_templates())
    holding = {path for path, content in tree.items() if marker.encode() in content}
    assert holding == {"Chart.yaml", "README.md", "values.yaml"}


def test_no_template_looks_anything_up_or_evaluates_text() -> None:
    templates = load_templates()
    for content in [*templates.thin.values(), *templates.library.values()]:
        code = "".join(part.split(b"}}")[0].decode() for part in content.split(b"{{")[1:] if not part.startswith(b"/*"))
        for word in ("lookup", "tpl", "Capabilities", "rand", "now", "genCA", "uuidv4", "getHostByName"):
            assert word not in code


def test_markdown_shows_text_and_does_nothing_else() -> None:
    shown = inline_markdown("# a\n<b> [c](d) `e` *f* | {{ g }}\u2028h-i \\ 😀")
    assert shown == r"\# a \<b\> \[c\](d) \`e\` \*f\* \| \{\{ g \}\} h-i \\ 😀"
    assert [inline_markdown(text) for text in ("- a", "+ a", "1. a", "12) a")] == [
        r"\- a",
        r"\+ a",
        r"1\. a",
        r"12\) a",
    ]


def test_a_readme_is_one_paragraph_of_what_people_wrote() -> None:
    team = spec(purpose="<img src=x>\n\n# heading")
    readme = chart_tree(team, {"prod": values_of(team)}, load_templates())["README.md"].decode()
    assert "\n\\<img src\\=x\\> \\# heading\n" in readme


def test_every_text_reaches_the_cluster_as_it_is_or_is_refused_with_the_reason(tmp_path: Path) -> None:
    """From team.yaml by the real command to what a cluster is given, in every field that takes free text."""
    texts = [text for text in dict.fromkeys(HOSTILE) if len(text) < 4000]
    before = refused(texts)
    assert {field: len(reasons) for field, reasons in before.items()}.keys() == set(FIELDS)
    for reasons in before.values():
        assert all(text in texts and reason for text, reason in reasons.items())
    # What takes more than one line refuses control characters, and nothing else.
    assert len(before["purpose"]) < len(texts) / 4
    for text, found in packaged(tmp_path, texts, before):
        for field, value in found.items():
            assert value == text, (field, text)
    assert not list(tmp_path.rglob(MARK))


def test_every_injection_is_text(tmp_path: Path) -> None:
    assert all(MARK in text for text in INJECTIONS)
    assert set(INJECTIONS) <= set(HOSTILE)
    count = 0
    for text, found in packaged(tmp_path, INJECTIONS, refused(INJECTIONS)):
        count += 1
        assert set(found.values()) == {text}
    assert count == len(INJECTIONS)
    assert not list(tmp_path.rglob(MARK))


LIKE_NUMBERS = re.compile(r"[0-9a-zA-Z_.-]+")
"""Numbers, dates and truths to some readers, and names here: they stay what they are, because they are quoted."""


@pytest.mark.parametrize("field", ["name", "placement", "version", "skill id", "variable", "secret", "label"])
def test_names_take_no_injection_at_all(field: str, tmp_path: Path) -> None:
    for number, text in enumerate(HOSTILE):
        fields: dict[str, dict[str, Any]] = {
            "name": {"name": text},
            "placement": {"placement": text},
            "version": {"version": text},
            "skill id": {"skills": [{"id": text, "name": "a", "description": "b"}]},
            "variable": {"env": [{"name": text, "value": ""}]},
            "secret": {"secrets": [{"name": "A", "from": {"secret": text, "key": "k"}}]},
            "label": {},
        }
        elf_yaml = {"agent_gateway": {"namespace": "a", "labels": {"a": text}}} if field == "label" else None
        found = survey(write_project(tmp_path / str(number), {"brand-team": fields[field]}, elf_yaml))
        if found.errors:
            assert all(problem.message and len(problem.message) < 500 for problem in found.errors)
        else:
            assert text == "" or LIKE_NUMBERS.fullmatch(text), (field, text)

"""Text that people write reaches Kubernetes as it is, whatever it looks like to YAML, Helm or a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_sdk.deploy.chart import chart_tree, load_templates
from elf_sdk.deploy.encode import inline_markdown, to_yaml
from elf_sdk.deploy.helm import CommandLineHelm, EmbeddedHelm, Helm
from tests.deploy.organisations import render, spec, values_of

HOSTILE = [
    "{{ .Release.Name }}",
    "{{ .Values.team.name | quote }}",
    '{{ fail "x" }}',
    "{{/* gone */}}",
    "{{- end -}}",
    "}}{{",
    "{{ lookup }}",
    "{%- raw %}",
    "[[ x ]]",
    "${HOME}",
    "$(PATH)",
    "$$(PATH)",
    "$HOME `id`",
    "#{}",
    "# no comment",
    "a # no comment",
    "- item",
    "key: value",
    "? x",
    "*alias",
    "&anchor x",
    "!!python/object/apply:os.system [id]",
    "!tag",
    "%YAML 1.1",
    "---",
    "...",
    "a\n---\nkind: Pod",
    "no",
    "on",
    "Yes",
    "true",
    "null",
    "~",
    "",
    " ",
    "0x1f",
    "0o17",
    "017",
    "1e3",
    "1_000",
    "12:30:45",
    ".inf",
    ".NaN",
    "=",
    "<<",
    "2026-01-01",
    "2026-01-01T00:00:00Z",
    "1.0",
    "-0",
    "00000000000000000000",
    "123456789012345678901234567890",
    " leading",
    "trailing ",
    "\ttab\t",
    'double "quotes"',
    "single 'quotes'",
    "back\\slash \\n \\u0041 \\",
    "|",
    ">",
    "| block",
    "@at",
    "`tick`",
    "line\nbreak",
    "line\r\nbreak\r",
    "\n\n",
    "trailing newline\n",
    "nel\x85here",
    "nbsp\xa0here",
    "line\u2028separator\u2029paragraph",
    "\ufeffbom \ufeff inside",
    "zero\u200bwidth\u200d",
    "right\u202eto left",
    "del\x7f bell\x07 esc\x1b",
    "c1 \x80\x9f",
    "non-characters \ufffe\uffff \ufdd0",
    "replacement \ufffd",
    "private \ue000 \uf8ff",
    "ünïcödé ß 漢字 العربية",
    "é é",
    "emoji 😀 👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "astral \U0001f600 \U0010ffff \U000e0001",
    '{"json": ["in", 1]}',
    "<script>alert(1)</script>",
    "& < > ' \"",
    "long " * 6000,
    "x" * 30_000,
]


def test_yaml_gives_back_every_text_to_both_readers(embedded: EmbeddedHelm, tmp_path: Path) -> None:
    import helm_python

    data = {"texts": HOSTILE, "pairs": [{"name": text, "value": text} for text in HOSTILE], "empty": [], "none": {}}
    document = to_yaml(data)
    assert yaml.safe_load(document) == data
    assert helm_python.values_from_yaml(document) == data


def test_keys_that_yaml_would_read_as_something_else_are_quoted() -> None:
    data = dict.fromkeys(("no", "y", "on", "1", "1e3", "~", "null", "a: b", "", "#", "ephemeral-storage"), "x")
    assert yaml.safe_load(to_yaml(data)) == data


@pytest.mark.parametrize("engine", ["embedded", "command_line"])
def test_environment_values_are_unchanged_by_helm(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    helm: EmbeddedHelm | CommandLineHelm = request.getfixturevalue(engine)
    team = spec()
    values = values_of(team)
    values["env"] = [{"name": f"V{number}", "value": text} for number, text in enumerate(HOSTILE)]
    data = render(tmp_path, team, values, helm)["ConfigMap"]["data"]
    assert [data[f"V{number}"] for number in range(len(HOSTILE))] == HOSTILE


@pytest.mark.parametrize("engine", ["embedded", "command_line"])
def test_what_kubernetes_gets_as_it_was_written_is_unchanged(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    helm: EmbeddedHelm | CommandLineHelm = request.getfixturevalue(engine)
    team = spec()
    values = values_of(team)
    items = [{"key": text, "path": f"p{number}", "mode": number} for number, text in enumerate(HOSTILE)]
    volume = {"name": "x", "secret": {"items": items, "optional": True}}
    sidecar = {"name": "x", "args": HOSTILE, "env": [], "securityContext": {}}
    annotations = {f"a{number}": text for number, text in enumerate(HOSTILE)}
    values["extra"] |= {"volumes": [volume], "containers": [sidecar], "annotations": annotations}
    template = render(tmp_path, team, values, helm)["Deployment"]["spec"]["template"]
    assert volume in template["spec"]["volumes"]
    assert template["spec"]["containers"][1] == sidecar
    assert annotations.items() <= template["metadata"]["annotations"].items()


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

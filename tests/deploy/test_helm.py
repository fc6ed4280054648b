from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from elf_sdk.deploy.chart import chart_tree, load_templates
from elf_sdk.deploy.helm import CommandLineHelm, Helm, Release, choose_helm, fit
from elf_sdk.deploy.kubernetes import ObjectSchemas, parse_manifests
from elf_sdk.errors import Failure, Missing
from elf_sdk.files import write_tree
from tests.deploy.organisations import elf, render, spec, values_of, write_project
from tests.deploy.test_render import EVERYTHING


def test_what_helm_refuses_is_said_in_one_line(any_helm: Helm, tmp_path: Path) -> None:
    team = spec()
    write_tree(tmp_path / "c", chart_tree(team, {"prod": values_of(team)}, load_templates()))
    (tmp_path / "over.yaml").write_text("replicas: many\n")
    with pytest.raises(Failure) as caught:
        any_helm.render(tmp_path / "c", tmp_path / "over.yaml", release="x", namespace="x")
    assert "replicas" in str(caught.value)
    assert "\n" not in str(caught.value)


def _chart(directory: Path, **files: str) -> Path:
    """A chart of one template, whose metadata are those that `elf package` writes unless `files` say otherwise."""
    tree = {
        "Chart.yaml": f'apiVersion: "v2"\nname: "{directory.name}"\ntype: "application"\nversion: "0.1.0"\n',
        "values.yaml": "kind: v1\n",
        "templates/one.yaml": "apiVersion: {{ .Values.kind }}\nkind: PodDisruptionBudget\nmetadata:\n  name: x\n",
        **{name.replace("__", ".").replace("_", "-"): text for name, text in files.items()},
    }
    write_tree(directory, {name: text.encode() for name, text in tree.items()})
    return directory


def test_a_kind_that_was_given_up_is_found_in_the_environment_that_has_it(any_helm: Helm, tmp_path: Path) -> None:
    chart = _chart(tmp_path / "one", values_dev__yaml="", values_prod__yaml="kind: policy/v1beta1\n")
    releases = [Release("x", "x", chart / f"values-{environment}.yaml") for environment in ("dev", "prod")]
    for _ in range(2):
        dev, prod = any_helm.render_each(chart, releases)
        assert isinstance(dev, str)
        assert isinstance(prod, Failure)
        assert "policy/v1beta1" in str(prod)


@pytest.mark.parametrize(
    ("template", "right", "wrong", "said"),
    [
        pytest.param(
            '"apiVersion": {{ .Values.x }}\n"kind": PodDisruptionBudget\nmetadata: {name: x}\n',
            "policy/v1",
            "policy/v1beta1",
            "policy/v1beta1",
            id="quoted",
        ),
        pytest.param(
            "{apiVersion: {{ .Values.x }}, kind: PodDisruptionBudget, metadata: {name: x}}\n",
            "policy/v1",
            "policy/v1beta1",
            "policy/v1beta1",
            id="in braces",
        ),
        pytest.param(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec:\n  selector: {{ .Values.x | toJson }}\n",
            "{matchLabels: {app: x}}",
            "{}",
            "must contain matchLabels",
            id="selector",
        ),
    ],
)
def test_what_a_lint_refuses_is_found_beside_an_environment_that_is_right(
    any_helm: Helm, tmp_path: Path, template: str, right: str, wrong: str, said: str
) -> None:
    files = {"values_dev__yaml": f"x: {right}\n", "values_prod__yaml": f"x: {wrong}\n", "templates/one.yaml": template}
    chart = _chart(tmp_path / "one", **files)
    releases = [Release("x", "x", chart / f"values-{environment}.yaml") for environment in ("dev", "prod")]
    dev, prod = any_helm.render_each(chart, releases)
    assert isinstance(dev, str)
    assert isinstance(prod, Failure)
    assert said in str(prod)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('version: "one"', "one"),
        ('name: "two"\ntype: "service"\nversion: "0.1.0"', "type"),
        ('version: "0.1.0"\nappVersion: 1', "appVersion"),
    ],
)
def test_a_chart_that_differs_from_one_that_was_linted_is_linted_itself(
    any_helm: Helm, tmp_path: Path, line: str, said: str
) -> None:
    good = _chart(tmp_path / "one", values_dev__yaml="")
    name = "" if line.startswith("name") else 'name: "two"\ntype: "application"\n'
    bad = _chart(tmp_path / "two", values_dev__yaml="", Chart__yaml=f'apiVersion: "v2"\n{name}{line}\n')
    assert any_helm.render(good, good / "values-dev.yaml", release="x", namespace="x")
    with pytest.raises(Failure, match=said):
        any_helm.render(bad, bad / "values-dev.yaml", release="x", namespace="x")


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        ("v3.18.4", False),
        ("v3.19.0", True),
        ("v3.20.2+g1", True),
        ("v4.1", True),
        ("4.2.3", True),
        ("v5.0.0", False),
        ("v2.17", False),
        ("", False),
        ("helm", False),
    ],
)
def test_which_versions_are_fit(version: str, answer: bool) -> None:
    assert fit(version) is answer


def _fake(directory: Path, version: str) -> Path:
    program = directory / "helm"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    return program


def test_an_old_helm_is_refused_by_name_and_version(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"helm is v3\.17\.0; Helm 3\.19"):
        CommandLineHelm(_fake(tmp_path, "v3.17.0"))


def test_without_any_helm_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    # The embedded one is hidden by a module of its name that is not there.
    code = (
        "import sys; sys.modules['helm_python'] = None\n"
        "from elf_sdk.cli import main\n"
        "sys.argv = ['elf', 'package', '--output', 'out']\n"
        "main()"
    )
    root = write_project(tmp_path / "p")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={"PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'elf-sdk[tools]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (root / "out").exists()


def test_auto_prefers_the_embedded_one() -> None:
    assert choose_helm("auto").name.startswith("embedded Helm v4")


def test_the_cli_is_used_on_request(command_line: CommandLineHelm, tmp_path: Path) -> None:
    root = write_project(tmp_path / "p")
    program = command_line.name.partition("(")[2].rstrip(")")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/helm").symlink_to(program)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    done = elf("package", "--helm", "cli", "--output", "out", cwd=root, PATH=path)
    assert done.returncode == 0, done.stderr
    assert command_line.name.partition(" (")[0] in done.stdout
    again = elf("package", "--output", "embedded", "--helm", "embedded", cwd=root)
    assert again.returncode == 0, again.stderr
    assert subprocess.run(["diff", "-r", "out", "embedded"], cwd=root, check=False).returncode == 0


def test_the_archive_is_a_chart_to_helm(command_line: CommandLineHelm, tmp_path: Path) -> None:
    root = write_project(tmp_path / "p")
    assert elf("package", "--output", "out", cwd=root).returncode == 0
    program = command_line.name.partition("(")[2].rstrip(")")

    def template(chart: str) -> str:
        command = [program, "template", "chief-team", chart, "-f", "out/chief-team/values-prod.yaml"]
        return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout

    assert template("out/chief-team-0.1.0.tgz") == template("out/chief-team")
    assert subprocess.run(["tar", "tzf", "out/chief-team-0.1.0.tgz"], cwd=root, check=False).returncode == 0


def test_the_archive_loads_in_the_embedded_helm(tmp_path: Path) -> None:
    import helm_python

    root = write_project(tmp_path / "p")
    assert elf("package", "--output", "out", cwd=root).returncode == 0
    with helm_python.Chart.load(root / "out/chief-team-0.1.0.tgz") as chart:
        assert (chart.name, chart.version) == ("chief-team", "0.1.0")
        assert [each["name"] for each in chart.dependencies] == ["elf-team"]


def _deployment() -> dict[str, object]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1}]}]},
            },
        },
    }


def test_objects_are_checked_strictly_by_kind_name_and_path() -> None:
    schemas = ObjectSchemas()
    schemas.check([_deployment()])
    wrong: dict[str, dict[str, object]] = _deployment()  # type: ignore[assignment]
    wrong["spec"]["replicas"] = "two"
    wrong["spec"]["replica"] = 2
    with pytest.raises(Failure, match=r"Deployment/x: .*") as caught:
        schemas.check([wrong])
    assert "spec.replicas" in str(caught.value)
    assert "'replica'" in str(caught.value)


def test_unknown_kinds_and_doubles_are_refused() -> None:
    schemas = ObjectSchemas()
    with pytest.raises(Failure, match=r"Gizmo/x: Kubernetes 1\.33 has no Gizmo"):
        schemas.check([{"apiVersion": "v1", "kind": "Gizmo", "metadata": {"name": "x"}}])
    with pytest.raises(Failure, match="there twice"):
        schemas.check([_deployment(), _deployment()])
    with pytest.raises(Failure, match="no YAML"):
        parse_manifests("a: [")
    with pytest.raises(Failure, match="no Kubernetes object"):
        parse_manifests("just text")
    with pytest.raises(Missing, match=r"Kubernetes 9\.9"):
        ObjectSchemas("9.9")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_compiled_schemas_agree_with_the_package_they_come_from(tmp_path: Path) -> None:
    import kubernetes_validate  # type: ignore[import-untyped]

    objects = list(render(tmp_path, spec(**EVERYTHING), values_of(spec(**EVERYTHING))).values())
    spoiled = [{**each, "surprise": 1} for each in objects]
    schemas = ObjectSchemas()
    for each in objects:
        schemas.check([each])
        kubernetes_validate.validate(each, "1.33", strict=True)
    for each in spoiled:
        with pytest.raises(Failure, match="surprise"):
            schemas.check([each])
        with pytest.raises(kubernetes_validate.ValidationError, match="surprise"):
            kubernetes_validate.validate(each, "1.33", strict=True)

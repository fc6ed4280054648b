"""What kubeconfig files mean, and which context leads to which cluster of elf.yaml."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from elf_sdk.deploy.cluster.access import Credentials, tls_context
from elf_sdk.deploy.cluster.contexts import context_of
from elf_sdk.deploy.cluster.kubeconfig import Context, Kubeconfig, read_kubeconfig
from elf_sdk.errors import BadInput, ElfError, Failure, Missing
from elf_sdk.settings import kubeconfig_files, service_account_server
from elf_sdk.team.organisation import Cluster, Organisation

ARGO_CD = "https://kubernetes.default.svc"


def write(file: Path, contexts: dict[str, str], current: str = "", user: dict[str, Any] | None = None) -> Path:
    """A kubeconfig with a cluster and a user for each context, by the address of the server."""
    content = {
        "clusters": [{"name": name, "cluster": {"server": server}} for name, server in contexts.items()],
        "users": [{"name": name, "user": user or {"token": f"token-of-{name}"}} for name in contexts],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in contexts],
        **({"current-context": current} if current else {}),
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def one(tmp_path: Path, user: dict[str, Any]) -> Context:
    return read_kubeconfig([write(tmp_path / "config", {"it": "https://it:6443"}, "it", user)]).context()


def test_several_files_are_one_and_the_first_word_counts(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"dev": "https://dev-a"}, "dev")
    second = write(tmp_path / "b", {"dev": "https://dev-b", "prod": "https://prod-b/"}, "prod")
    found = read_kubeconfig([first, tmp_path / "absent", second])
    assert found.current == "dev"
    assert {name: context.server for name, context in found.contexts.items()} == {
        "dev": "https://dev-a",
        "prod": "https://prod-b",
    }


def test_paths_are_relative_to_the_file_that_has_them(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/token").write_text("from-the-file\n")
    write(tmp_path / "deep/config", {"it": "https://it"}, "it", {"tokenFile": "token"})
    context = read_kubeconfig([tmp_path / "deep/config"]).context()
    request = next(Credentials(context).auth_flow(httpx.Request("GET", "https://it")))
    assert request.headers["Authorization"] == "Bearer from-the-file"


@pytest.mark.parametrize("text", ["a: [", "- a", "clusters: 3", "contexts: [{name: a}, 7]", "users: [{user: {}}]"])
def test_what_is_no_kubeconfig_is_refused_without_its_content(text: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(BadInput, match="is no"):
        read_kubeconfig([tmp_path / "config"])


def test_the_message_lists_what_there_is(tmp_path: Path) -> None:
    found = read_kubeconfig([write(tmp_path / "config", {"a": "https://a", "b": "https://b"})])
    with pytest.raises(BadInput, match="kubectl config use-context NAME, of: a, b"):
        found.context()
    with pytest.raises(BadInput, match="no kubeconfig has a context 'c'; there are: a, b"):
        found.context("c")
    with pytest.raises(BadInput, match="there is no kubeconfig; set KUBECONFIG"):
        read_kubeconfig([tmp_path / "absent"]).context()


def test_the_environment_says_which_files() -> None:
    assert kubeconfig_files({"KUBECONFIG": f"/a{os.pathsep}{os.pathsep}/b"}) == (Path("/a"), Path("/b"))
    assert kubeconfig_files({}) == (Path.home() / ".kube/config",)
    assert service_account_server({}) == ""
    pod = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    assert service_account_server(pod) == "https://[fd00::1]:443"


def program(tmp_path: Path, body: str) -> str:
    file = tmp_path / "sign-in"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return "./sign-in"


def exec_user(command: str, version: str = "v1", **more: Any) -> dict[str, Any]:
    return {"exec": {"command": command, "apiVersion": f"client.authentication.k8s.io/{version}", **more}}


def credential(version: str = "v1", **status: str) -> str:
    answer = {"apiVersion": f"client.authentication.k8s.io/{version}", "kind": "ExecCredential", "status": status}
    return f"echo '{json.dumps(answer)}'"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_program_signs_in_and_is_told_what_for(version: str, tmp_path: Path) -> None:
    command = program(tmp_path, f'echo "$KUBERNETES_EXEC_INFO $WORD $1" > said; {credential(version, token="t-1")}')
    user = exec_user(command, version, args=["ask"], env=[{"name": "WORD", "value": "x"}], provideClusterInfo=True)
    user["exec"]["command"] = str(tmp_path / "sign-in")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        credentials = Credentials(one(tmp_path, user))
    finally:
        os.chdir(before)
    assert next(credentials.auth_flow(httpx.Request("GET", "https://it"))).headers["Authorization"] == "Bearer t-1"
    info, rest = (tmp_path / "said").read_text().rsplit("}", 1)
    assert rest == " x ask\n"
    asked = json.loads(f"{info}}}")
    assert asked["apiVersion"] == f"client.authentication.k8s.io/{version}"
    assert asked["spec"]["cluster"]["server"] == "https://it:6443"


def test_a_token_that_runs_out_or_is_refused_is_fetched_anew(tmp_path: Path) -> None:
    answer = credential(token="t-%s").removeprefix("echo ")
    command = program(tmp_path, f"cd {tmp_path}; echo x >> runs; printf {answer} $(wc -l < runs)")
    credentials = Credentials(one(tmp_path, exec_user(command)))
    flow = credentials.auth_flow(httpx.Request("GET", "https://it"))
    assert next(flow).headers["Authorization"] == "Bearer t-1"
    assert flow.send(httpx.Response(401)).headers["Authorization"] == "Bearer t-2"
    assert next(credentials.auth_flow(httpx.Request("GET", "https://it"))).headers["Authorization"] == "Bearer t-2"
    old = credential(token="old", expirationTimestamp="2020-01-01T00:00:00Z")
    again = Credentials(one(tmp_path, exec_user(program(tmp_path, f"echo x >> {tmp_path}/again; {old}"))))
    next(again.auth_flow(httpx.Request("GET", "https://it")))
    assert (tmp_path / "again").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("user", "error", "said"),
    [
        (exec_user("no-such-program-here", installHint="get it\nthere"), Missing, "is not installed: get it there"),
        (exec_user("false"), Failure, "ended with exit code 1"),
        (exec_user("echo", args=["sesame"]), Failure, "something else than a credential"),
        (exec_user("echo", "v2"), BadInput, "of the version 'client.authentication.k8s.io/v2'"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, BadInput, "does not name"),
        ({"auth-provider": {"name": "gcp"}}, BadInput, "signs in by auth-provider, which is out of use"),
        ({"username": "ada"}, BadInput, "signs in by username"),
        ({"token": 7}, BadInput, "token in a kubeconfig of .* is no text"),
        ({"tokenFile": "absent"}, BadInput, "cannot be read"),
    ],
)
def test_what_cannot_sign_in_is_said(user: dict[str, Any], error: type[ElfError], said: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=said) as caught:
        next(Credentials(one(tmp_path, user)).auth_flow(httpx.Request("GET", "https://it")))
    assert "sesame" not in str(caught.value)


def test_who_acts_for_somebody_else_says_so(tmp_path: Path) -> None:
    user = {"token": "t", "as": "ada", "as-groups": ["a", "b"], "as-user-extra": {"reason": ["audit"]}}
    request = next(Credentials(one(tmp_path, user)).auth_flow(httpx.Request("GET", "https://it")))
    assert request.headers["Impersonate-User"] == "ada"
    assert request.headers.get_list("Impersonate-Group") == ["a", "b"]
    assert request.headers["Impersonate-Extra-reason"] == "audit"


def test_certificates_that_are_none_are_said_without_their_text(tmp_path: Path) -> None:
    context = one(tmp_path, {"client-certificate-data": "c2VzYW1l", "client-key-data": "c2VzYW1l"})
    with pytest.raises(BadInput, match="certificates of the context 'it' cannot be used") as caught:
        tls_context(context, Credentials(context))
    assert "sesame" not in str(caught.value)


def kubeconfig(tmp_path: Path, contexts: dict[str, str], current: str = "") -> Kubeconfig:
    return read_kubeconfig([write(tmp_path / "config", contexts, current)])


def organisation(*clusters: Cluster) -> Organisation:
    return Organisation(clusters=(Cluster(name="in-cluster", server=ARGO_CD), *clusters))


PROD = Cluster(name="prod-eu", server="https://prod.example.com:6443")


def test_a_cluster_is_found_by_its_context_then_its_address_then_its_name(tmp_path: Path) -> None:
    found = kubeconfig(tmp_path, {"a": "https://a", "by-address": f"{PROD.server}/", "prod-eu": "https://other"}, "a")
    organised = organisation(PROD)
    assert context_of(PROD, organised, found).name == "by-address"
    named = PROD.model_copy(update={"context": "a"})
    assert context_of(named, organised, found).name == "a"
    assert context_of(PROD, organised, kubeconfig(tmp_path, {"prod-eu": "https://x"})).name == "prod-eu"


def test_argo_cds_own_cluster_is_the_current_one_unless_that_is_another(tmp_path: Path) -> None:
    contexts = {"kind": "https://127.0.0.1:6443", "prod": PROD.server}
    organised = organisation(PROD)
    here = organised.clusters[0]
    assert context_of(here, organised, kubeconfig(tmp_path, contexts, "kind")).name == "kind"
    with pytest.raises(BadInput, match="'prod' leads to the cluster 'prod-eu', and not to 'in-cluster'"):
        context_of(here, organised, kubeconfig(tmp_path, contexts, "prod"))


def test_no_context_and_several_are_said_with_the_remedy(tmp_path: Path) -> None:
    organised = organisation(PROD)
    with pytest.raises(BadInput, match=r"leads to the cluster 'prod-eu' .* write context: below it in elf.yaml"):
        context_of(PROD, organised, kubeconfig(tmp_path, {"a": "https://a"}, "a"))
    several = {"b": PROD.server, "a": PROD.server}
    with pytest.raises(BadInput, match="several contexts lead to the cluster 'prod-eu': a, b"):
        context_of(PROD, organised, kubeconfig(tmp_path, several))
    assert context_of(PROD, organised, kubeconfig(tmp_path, several, "b")).name == "b"

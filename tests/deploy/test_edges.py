"""One relationship, and what follows from it: policy, tokens, allow-list, addresses, in the rendered chart and in pods
that run by it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from elf_sdk.deploy.values import team_values
from elf_sdk.errors import BadInput, Forbidden
from elf_sdk.server.a2a.propagation import DELEGATION
from elf_sdk.server.auth import Issuer, audience
from elf_sdk.server.services import open_services
from elf_sdk.settings import Settings
from elf_sdk.team.edges import compile_edges, read_edges
from elf_sdk.team.project import Project, find_project
from tests.deploy.organisations import Object, environment, render, write_project
from tests.deploy.pods import ISSUER, Kubelet, Pod
from tests.server.conftest import Client
from tests.server.signing import SigningKey, certificate, key_set, publishing

TEAMS: dict[str, dict[str, Any]] = {
    "chief-team": {"manages": ["brand-team", "data-team"]},
    "brand-team": {"reports_to": "chief-team", "peers": ["data-team"], "purpose": "Keeps the {{ voice }}."},
    "data-team": {"reports_to": "chief-team", "peers": ["brand-team"]},
    "apart-team": {},
}
VIP = {"environments": {"dev": {"namespace": "vip"}}}
GATEWAY = {"namespace": "edge", "labels": {"app": "gateway"}, "url": "https://agents.example.com/of/{team}"}
SERVICE = "a-team.elf-teams-dev.svc:8000"
JWKS = "/openid/v1/jwks"
SEND = {"message": {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}}


def charts(
    directory: Path, teams: Mapping[str, Mapping[str, Any]], **organisation: Any
) -> dict[str, dict[str, Object]]:
    """What the charts of an organisation render in dev, by team."""
    project = find_project(write_project(directory / "project", teams, organisation or None))
    return {name: rendered(directory / name, project, name) for name in project.org.teams}


def rendered(directory: Path, project: Project, name: str) -> dict[str, Object]:
    dev = environment("dev", project.organisation)
    edges = compile_edges(project.org, project.organisation, dev, name)
    team = project.org.teams[name]
    return render(directory, team, team_values(team, project.organisation, dev, edges), name="dev")


def opened(objects: Mapping[str, Object]) -> dict[str, set[tuple[str, str]]]:
    """What each layer of a chart says of the team's neighbours, as pairs of namespace and team."""
    policy = objects["NetworkPolicy"]["spec"]
    edges = json.loads(objects[f"ConfigMap/{objects['Deployment']['metadata']['name']}-edges"]["data"]["edges.json"])
    volumes = {each["name"]: each for each in objects["Deployment"]["spec"]["template"]["spec"]["volumes"]}
    tokens = [each.get("serviceAccountToken", {}) for each in volumes["workload"]["projected"]["sources"]]

    def peers(rules: list[Object], side: str) -> set[tuple[str, str]]:
        return {
            (each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], label)
            for rule in rules
            for each in rule.get(side, [])
            if (label := each.get("podSelector", {}).get("matchLabels", {}).get("app", "")) in TEAMS
        }

    spaces = {each["team"]: each["namespace"] for each in edges["callees"]}
    return {
        "policy in": peers(policy["ingress"], "from"),
        "allow-list": {(each["namespace"], each["team"]) for each in edges["callers"]},
        "policy out": peers(policy["egress"], "to"),
        "tokens": {(spaces[team], team) for each in tokens if (team := each.get("audience", "").rpartition(":")[2])},
        "addresses": {tuple(each["url"].removeprefix("http://").split(".")[1::-1]) for each in edges["callees"]},
    }


def test_every_layer_says_the_same(tmp_path: Path) -> None:
    found = charts(tmp_path, TEAMS | {"data-team": TEAMS["data-team"] | VIP})
    space = {"data-team": "vip"}
    for name, objects in found.items():
        layers = opened(objects)
        callers = {(space.get(other, "elf-teams-dev"), other) for other in found if may_call(other, name)}
        callees = {(space.get(other, "elf-teams-dev"), other) for other in found if may_call(name, other)}
        assert layers["policy in"] == layers["allow-list"] == callers
        assert layers["policy out"] == layers["tokens"] == layers["addresses"] == callees


def may_call(caller: str, callee: str) -> bool:
    return callee in (*TEAMS[caller].get("manages", ()), *TEAMS[caller].get("peers", ()))


def test_one_relationship_changes_all_of_them_together(tmp_path: Path) -> None:
    before = {name: opened(objects) for name, objects in charts(tmp_path / "a", TEAMS).items()}
    changed = TEAMS | {
        "chief-team": {"manages": ["brand-team", "data-team", "apart-team"]},
        "apart-team": {"reports_to": "chief-team"},
    }
    after = {name: opened(objects) for name, objects in charts(tmp_path / "b", changed).items()}
    new = {("elf-teams-dev", "apart-team")}
    for layer in ("policy out", "tokens", "addresses"):
        assert after["chief-team"][layer] - before["chief-team"][layer] == new
    for layer in ("policy in", "allow-list"):
        assert after["apart-team"][layer] - before["apart-team"][layer] == {("elf-teams-dev", "chief-team")}
    for name in ("brand-team", "data-team"):
        assert after[name] == before[name]


def test_a_token_s_audience_is_the_one_that_the_callee_asks_for(tmp_path: Path) -> None:
    (edges,) = charts(tmp_path, {"a-team": {"peers": ["b-team"]}, "b-team": {"peers": ["a-team"]}}, name="acme")[
        "a-team"
    ]["ConfigMap/a-team-edges"]["data"].values()
    assert json.loads(edges)["callees"][0]["audience"] == audience("acme", "dev", "b-team")


def test_an_edge_without_its_other_end_does_not_compile_and_is_named(tmp_path: Path) -> None:
    clusters = [{"name": name, "server": f"https://{name}.example.com"} for name in ("in-cluster", "far")]
    teams = TEAMS | {"data-team": TEAMS["data-team"] | {"environments": {"dev": {"cluster": "far"}}}}
    project = find_project(write_project(tmp_path / "project", teams, {"clusters": clusters}))
    dev = environment("dev", project.organisation)
    edges = compile_edges(project.org, project.organisation, dev, "brand-team", {"brand-team", "data-team"})
    assert (edges.callers, edges.callees) == ((), ())
    assert [(each.team, each.reason) for each in edges.absent] == [
        ("chief-team", "is not in dev"),
        ("data-team", "runs in the cluster 'far', and brand-team in 'in-cluster'"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is no JSON"),
        ("[]", "does not hold the relationships of a team"),
        ('{"team": "x"}', "does not hold the relationships of a team"),
        ('{"team": "x", "callers": [{"team": 1}], "callees": []}', "team is no text"),
    ],
)
def test_a_file_that_holds_no_edges_is_told(content: str | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "edges.json").write_text(content)
    with pytest.raises(BadInput, match=said):
        read_edges(tmp_path / "edges.json")


# Pods that run by it.


@pytest.fixture(scope="module")
def kubelet(tmp_path_factory: pytest.TempPathFactory) -> Generator[Kubelet, None, None]:
    directory = tmp_path_factory.mktemp("node")
    authority = certificate(directory / "ca.pem")
    with publishing(authority) as api_server:
        yield Kubelet(directory, SigningKey("RS256", "cluster"), api_server, authority)


def image(directory: Path, name: str) -> Path:
    """What is in the team's image: its file as it was when that was built, when nobody knew of the others."""
    program = directory / "images" / name
    program.mkdir(parents=True)
    (program / "team.yaml").write_text(f"name: {name}\nmembers: [{{role: Lead, is_manager: true}}]\n")
    (program / "team.py").write_text("from tests.deploy.pod_team import Messenger\n\n\nclass Team(Messenger): ...\n")
    return program


@pytest.fixture(scope="module")
def pods(kubelet: Kubelet, tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, Pod], None, None]:
    """Four teams by their charts, one of them in a namespace of its own."""
    directory = tmp_path_factory.mktemp("organisation")
    kubelet.api_server.answers[JWKS] = key_set(kubelet.key)
    found = charts(directory, TEAMS | {"data-team": TEAMS["data-team"] | VIP})
    pods = {
        name: Pod(kubelet, objects, image(directory, name), {"JWT_SECRET_KEY": secret_of(name)})
        for name, objects in found.items()
    }
    for pod in pods.values():
        pod.resolve({other.service: other.replica.url for other in pods.values()})
    try:
        for pod in pods.values():
            pod.replica.start()
        for pod in pods.values():
            asyncio.run(pod.replica.ready())
        yield pods
    finally:
        for pod in pods.values():
            pod.replica.close()


def secret_of(team: str) -> str:
    """Shared with nobody: it only lets a person in."""
    return f"the secret of {team} alone, and long enough"


async def send(pod: Pod, token: str, **metadata: Any) -> httpx.Response:
    body = {"message": {**SEND["message"], "messageId": uuid.uuid4().hex, "metadata": metadata}}
    headers = {"Authorization": f"Bearer {token}", "A2A-Version": "1.0"}
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.post(f"{pod.replica.url}/a2a/v1/message:send", json=body, headers=headers)


async def test_every_edge_answers_and_every_other_pair_is_refused(pods: dict[str, Pod], kubelet: Kubelet) -> None:
    for caller in pods.values():
        for callee in pods.values():
            projected = caller.files / "tokens" / callee.name
            assert projected.exists() == may_call(caller.name, callee.name)
            if projected.exists():
                answer = await send(callee, projected.read_text())
                assert (answer.status_code, answer.json()["task"]["status"]["state"]) == (200, "TASK_STATE_COMPLETED")
                # Whoever has it can call this one team with it, and no other.
                for other in pods.values():
                    if other is not callee:
                        assert (await send(other, projected.read_text())).status_code == 403
            else:
                # As if it had got hold of one all the same.
                forged = kubelet.token(caller.namespace, caller.name, audience("elf", "dev", callee.name))
                # A team is let in by itself: that is who its test is.
                assert (await send(callee, forged)).status_code == (200 if caller is callee else 403)


async def test_a_name_in_another_namespace_is_another_service_account(pods: dict[str, Pod], kubelet: Kubelet) -> None:
    brand = audience("elf", "dev", "brand-team")
    assert (await send(pods["brand-team"], kubelet.token("vip", "data-team", brand))).status_code == 200
    for namespace, account in (("elf-teams-dev", "data-team"), ("vip", "chief-team"), ("elf-teams", "chief-team")):
        assert (await send(pods["brand-team"], kubelet.token(namespace, account, brand))).status_code == 403


async def test_the_callee_checks_the_way_that_the_work_came_by_who_sent_it(pods: dict[str, Pod]) -> None:
    token = (pods["chief-team"].files / "tokens/brand-team").read_text()

    async def refused(*chain: str) -> str:
        answer = await send(pods["brand-team"], token, **{DELEGATION: {"chain": list(chain)}})
        assert answer.status_code == 400
        return str(answer.json())

    assert "'data-team', as its chain says, but 'chief-team' sent it" in await refused("data-team")
    assert "cannot go in a circle" in await refused("brand-team", "chief-team")
    assert "at a depth of 4 at most" in await refused("a", "b", "c", "d", "chief-team")


async def test_work_goes_to_where_the_chart_says_by_the_token_that_is_there(pods: dict[str, Pod]) -> None:
    chief = pods["chief-team"]
    token = Issuer(secret_of("chief-team"), "elf", "dev").user_token("ada", "chief-team")
    url = chief.replica.url.replace("http", "ws", 1) + "/chat"
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}, compression=None) as socket:
        client = Client(socket)
        await client.send("hand it to data-team")
        assert (await client.until("message"))["delta"] == "I know brand-team, data-team."
        preview = await client.until("delegation_preview")
        await client.send({"type": "confirm", "hash": preview["hash"]})
        assert (await client.until("delegation_update", state="finished"))[
            "result"
        ] == "data-team heard: Do it\n\nAll of it."


async def test_a_team_is_given_no_way_to_one_that_it_may_not_call(pods: dict[str, Pod]) -> None:
    settings = Settings(store=":memory:", edges_file=str(pods["chief-team"].files / "edges.json"))
    async with open_services(settings) as services:
        assert services.client_for("chief-team", "data-team").url == pods["data-team"].replica.url
        with pytest.raises(Forbidden, match="chief-team may not call apart-team in dev; name each other"):
            services.client_for("chief-team", "apart-team")


async def test_a_team_starts_without_the_keys_and_trusts_callers_as_soon_as_they_are_there(
    kubelet: Kubelet, tmp_path: Path
) -> None:
    with publishing(kubelet.authority) as api_server:
        node = replace(kubelet, directory=tmp_path, api_server=api_server)
        teams = {"a-team": {"peers": ["b-team"]}, "b-team": {"peers": ["a-team"]}}
        objects = charts(tmp_path, teams)["a-team"]
        pod = Pod(node, objects, image(tmp_path, "a-team"))
        token = node.token("elf-teams-dev", "b-team", audience("elf", "dev", "a-team"))
        try:
            pod.replica.start()
            await pod.replica.ready()
            assert (await send(pod, token)).status_code == 503
            assert ISSUER in (await pod.replica.checks())["issuers"]
            api_server.answers[JWKS] = key_set(node.key)
            # The server itself asks again; a caller that comes meanwhile is told to come again.
            for _ in range(300):
                if (answer := await send(pod, token)).status_code != 503:
                    break
                await asyncio.sleep(0.1)
            assert answer.status_code == 200
            assert "issuers" not in await pod.replica.checks()
            assert set(api_server.tokens) == {f"Bearer {(pod.files / 'jwks/token').read_text()}"}
        finally:
            pod.replica.close()


async def test_the_gateway_s_address_is_on_the_card_and_its_pods_are_let_in(kubelet: Kubelet, tmp_path: Path) -> None:
    objects = charts(tmp_path, {"a-team": {}}, agent_gateway=GATEWAY)["a-team"]
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}},
        "podSelector": {"matchLabels": {"app": "gateway"}},
    }
    assert [rule for rule in objects["NetworkPolicy"]["spec"]["ingress"] if rule["from"] == [peer]]
    pod = Pod(replace(kubelet, directory=tmp_path), objects, image(tmp_path, "a-team"))
    try:
        pod.replica.start()
        await pod.replica.ready()
        async with httpx.AsyncClient() as http:
            card = (await http.get(f"{pod.replica.url}/.well-known/agent-card.json")).json()
            inside = (
                await http.get(f"{pod.replica.url}/.well-known/agent-card.json", headers={"Host": SERVICE})
            ).json()
    finally:
        pod.replica.close()
    addresses = ["https://agents.example.com/of/a-team/a2a/v1", f"http://{SERVICE}/a2a/v1"]
    assert list(dict.fromkeys(each["url"] for each in card["supportedInterfaces"])) == addresses
    assert list(dict.fromkeys(each["url"] for each in inside["supportedInterfaces"])) == addresses[::-1]


def test_the_edges_of_another_team_start_nobody(pods: dict[str, Pod], tmp_path: Path) -> None:
    environ = {**os.environ, "ELF_EDGES_FILE": str(pods["chief-team"].files / "edges.json")}
    command = [sys.executable, "-m", "elf_sdk", "serve", "--port", "0"]
    done = subprocess.run(
        command, cwd=image(tmp_path, "brand-team"), env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "ELF_EDGES_FILE holds the relationships of 'chief-team', and this is 'brand-team'" in done.stderr

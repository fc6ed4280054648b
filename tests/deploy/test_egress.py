"""What a team reaches: the table of its dependencies, and the policies that are written from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from elf_sdk.deploy.egress import Dependency, Egress, Kind, egress_of
from elf_sdk.deploy.kubernetes import ObjectSchemas
from elf_sdk.deploy.values import shortcomings, team_values
from elf_sdk.settings import load_settings
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Organisation
from tests.deploy.organisations import Object, environment, neighbours, render, spec, values_of

EVERYTHING: dict[str, Any] = {
    "llm": {
        "provider": "openai",
        "model": "x",
        "fallbacks": [
            {"provider": "ollama", "model": "x"},
            {"provider": "compatible", "model": "x", "base_url": "http://llm.ai.svc/v1"},
            {"provider": "compatible", "model": "x", "base_url": "http://192.0.2.9:8080/v1"},
        ],
    },
    "mcp": [
        {"name": "crm", "url": "https://crm.example.com:8443/mcp"},
        {"name": "notes", "url": "http://notes:9000"},
        {"name": "own", "command": ["mine"]},
    ],
    "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector.observability.svc:4318"}],
}


def table(name: str = "dev", **fields: Any) -> Egress:
    team = spec(**fields)
    edges = neighbours(team, name, callees=["data-team"])
    return egress_of(team, Organisation(), environment(name), edges, (5432,))


def policy(tmp_path: Path, name: str = "dev", organisation: Organisation | None = None, **fields: Any) -> Object:
    team = spec(**fields)
    values = values_of(
        team, name, neighbours(team, name, callers=["chief-team"], callees=["data-team"], data_team="vip")
    )
    found: Object = render(tmp_path, team, values, name=name)["NetworkPolicy"]["spec"]
    return found


def pods(namespace: str, **labels: str) -> Object:
    selector: Object = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    return selector | ({"podSelector": {"matchLabels": labels}} if labels else {})


def tcp(*ports: int | str) -> list[Object]:
    return [{"port": port, "protocol": "TCP"} for port in ports]


def test_each_dependency_stands_in_the_table_once() -> None:
    found = table(**EVERYTHING).table
    assert {each.kind for each in found} == set(get_args(Kind))
    assert len({each.what for each in found}) == len(found) - 1  # two models of one provider
    assert [(each.what, each.host, each.port) for each in found if each.host and each.place is None] == [
        ("the model of openai", "api.openai.com", 443),
        ("the MCP server 'crm'", "crm.example.com", 8443),
    ]


def test_the_policy_has_a_rule_for_each_known_place_and_one_for_the_rest(tmp_path: Path) -> None:
    found = policy(tmp_path, **EVERYTHING)
    assert found["policyTypes"] == ["Ingress", "Egress"]
    dns, teams, api_server, service, address, near, collector, rest = found["egress"]
    assert teams == {"to": [pods("vip", app="data-team")], "ports": tcp(8000)}
    assert dns["to"] == [pods("kube-system", **{"k8s-app": "kube-dns"}), {"ipBlock": {"cidr": "169.254.20.10/32"}}]
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert api_server["ports"] == tcp(6443)
    assert {"ipBlock": {"cidr": "10.0.0.0/8"}} in api_server["to"]
    assert service == {"to": [pods("ai")]}
    assert address == {"to": [{"ipBlock": {"cidr": "192.0.2.9/32"}}], "ports": tcp(8080)}
    assert near == {"to": [pods("elf-teams-dev")]}
    assert collector == {"to": [pods("observability")]}
    assert rest["ports"] == tcp(443)


def test_who_may_connect_is_a_caller_or_named(tmp_path: Path) -> None:
    callers, control_center, test = policy(tmp_path)["ingress"]
    assert callers == {"from": [pods("elf-teams-dev", app="chief-team")], "ports": tcp("http")}
    assert control_center == {"from": [pods("elf-control-center", app="control-center")], "ports": tcp("http")}
    assert test == {"from": [{"podSelector": {"matchLabels": {"app": "brand-team-test"}}}], "ports": tcp("http")}


def test_the_database_is_where_elf_yaml_says_or_else_its_port_alone(tmp_path: Path) -> None:
    assert {"ports": tcp(5432)} in policy(tmp_path, "prod")["egress"]
    for given in ({"namespace": "postgres"}, {"cidrs": ["192.0.2.0/24"]}):
        organisation = Organisation.model_validate({"database": {**given, "port": 6432}})
        egress = egress_of(spec(), organisation, environment("prod"), Edges("brand-team"), (6432,))
        (rule,) = [rule for rule in egress.rules() if rule["what"] == "the database"]
        assert rule["ports"] == [{"port": 6432, "protocol": "TCP"}]
        assert [each["namespace"] for each in rule["pods"]] == ([given["namespace"]] if "namespace" in given else [])
        assert [each["cidr"] for each in rule["networks"]] == given.get("cidrs", [])


def outside(tmp_path: Path, egress: dict[str, Any], name: str = "dev") -> list[Object]:
    """The rules beside those for what every team has: neighbours, names, and the keys of callers."""
    return list(policy(tmp_path, name, egress=egress)["egress"][3:])


def test_open_is_https_to_public_addresses(tmp_path: Path) -> None:
    (rule,) = outside(tmp_path, {"mode": "open"})
    assert rule["ports"] == tcp(443)
    v4, v6 = (each["ipBlock"] for each in rule["to"])
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "168.63.129.16/32"} <= set(v4["except"])
    assert {"fc00::/7", "fe80::/10"} <= set(v6["except"])


def test_a_proxy_is_one_place_or_none_and_the_process_knows_it(tmp_path: Path) -> None:
    proxy = {"host": "proxy.example.com", "port": 3128, "cidr": "192.0.2.0/24"}
    (rule,) = outside(tmp_path / "a", {"mode": "proxy", "proxy": proxy})
    assert rule == {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": tcp(3128)}
    assert outside(tmp_path / "b", {"mode": "proxy"}) == []
    team = spec(egress={"mode": "proxy", "proxy": proxy})
    settings = render(tmp_path / "c", team, values_of(team, "dev"), name="dev")["ConfigMap"]["data"]
    assert settings["HTTPS_PROXY"] == settings["HTTP_PROXY"] == "http://proxy.example.com:3128"
    assert {"localhost", "127.0.0.1", ".svc", ".svc.cluster.local"} <= set(settings["NO_PROXY"].split(","))
    # What the team says itself goes first.
    team = spec(egress={"proxy": proxy}, env=[{"name": "HTTPS_PROXY", "value": "http://mine:1"}])
    settings = render(tmp_path / "d", team, values_of(team))["ConfigMap"]["data"]
    assert {name for name in settings if "PROXY" in name} == {"HTTPS_PROXY"}


def test_a_gateway_to_models_is_reached_and_no_proxy(tmp_path: Path) -> None:
    proxy = {"kind": "gateway", "host": "llm.example.com", "port": 443, "cidr": "192.0.2.1/32"}
    model = {"provider": "compatible", "model": "x", "base_url": "https://llm.example.com/v1"}
    team = spec(egress={"proxy": proxy}, llm=model)
    objects = render(tmp_path, team, values_of(team))
    assert not any("PROXY" in name for name in objects["ConfigMap"]["data"])
    assert list(shortcomings(team, Organisation(), environment("prod"), Edges(team.name))) == []
    other = spec(egress={"proxy": proxy}, llm={"provider": "openai", "model": "x"})
    (said,) = shortcomings(other, Organisation(), environment("prod"), Edges(team.name))
    assert "the model of openai cannot be reached: egress.proxy is a gateway" in said


def test_cidr_is_what_is_listed(tmp_path: Path) -> None:
    (rule,) = outside(tmp_path / "a", {"mode": "cidr", "cidrs": ["192.0.2.0/24", "2001:db8::/32"]})
    assert rule == {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}]}
    assert outside(tmp_path / "b", {"mode": "cidr"}) == []


def test_cilium_is_told_the_names_of_the_table_and_of_egress_hosts() -> None:
    egress = {"mode": "cilium-fqdn", "hosts": ["*.example.org"]}
    found = table(egress=egress, **EVERYTHING).named_hosts()
    assert found == [
        {"host": "*.example.org", "port": 443},
        {"host": "api.openai.com", "port": 443},
        {"host": "crm.example.com", "port": 8443},
    ]
    assert table(**EVERYTHING).named_hosts() == []


@pytest.mark.parametrize("keys", ["api-server", "issuer", "config-map", None])
def test_what_is_rendered_is_what_the_cluster_s_kinds_allow(keys: str | None, tmp_path: Path) -> None:
    issuer = None if keys is None else {"keys": keys}
    cluster = {"name": "in-cluster", "server": "https://kubernetes.default.svc", "workload_issuer": issuer}
    organisation = Organisation.model_validate(
        {"clusters": [cluster], "agent_gateway": {"namespace": "edge", "labels": {}}}
    )
    team = spec(egress={"mode": "cilium-fqdn", "hosts": ["*.example.org"]}, **EVERYTHING)
    values = team_values(team, organisation, environment("dev"), neighbours(team, "dev", callees=["data-team"]))
    objects = render(tmp_path, team, values, name="dev")
    ObjectSchemas().check(list(objects.values()))
    entities = [rule["toEntities"] for rule in objects["CiliumNetworkPolicy"]["spec"]["egress"] if "toEntities" in rule]
    assert entities == ([["kube-apiserver"]] if keys == "api-server" else [])
    settings = objects["ConfigMap"]["data"]
    assert ("ELF_WORKLOAD_ISSUER" in settings, "ELF_TEAM_TOKENS" in settings) == (keys is not None, keys is not None)
    assert {name for name in settings if name.startswith("ELF_WORKLOAD_JWKS") and not name.endswith("ALGORITHM")} == {
        "api-server": {"ELF_WORKLOAD_JWKS_CA_FILE", "ELF_WORKLOAD_JWKS_TOKEN_FILE", "ELF_WORKLOAD_JWKS_URL"},
        "config-map": {"ELF_WORKLOAD_JWKS_FILE"},
    }.get(keys or "", set())
    # What the chart says is what the server understands.
    read = load_settings({name: value for name, value in settings.items() if name.startswith("ELF_")})
    assert (read.workload_issuer is None) == (keys is None)


@pytest.mark.parametrize(
    ("given", "told", "asked"),
    [
        ({}, {"ELF_ISSUER", "ELF_JWKS_ALGORITHM"}, ["people.example.com"]),
        (
            {"jwks_url": "https://keys.example.com/jwks"},
            {"ELF_ISSUER", "ELF_JWKS_ALGORITHM", "ELF_JWKS_URL"},
            ["keys.example.com"],
        ),
        ({"config_map": {"name": "people"}}, {"ELF_ISSUER", "ELF_JWKS_ALGORITHM", "ELF_JWKS_FILE"}, []),
    ],
    ids=["configuration", "address", "config-map"],
)
def test_people_are_known_by_the_issuer_of_elf_yaml(
    given: dict[str, Any], told: set[str], asked: list[str], tmp_path: Path
) -> None:
    organisation = Organisation.model_validate({"issuer": {"url": "https://people.example.com", **given}})
    edges = Edges("brand-team")
    objects = render(tmp_path, spec(), team_values(spec(), organisation, environment("prod"), edges))
    settings = objects["ConfigMap"]["data"]
    assert {name for name in settings if name.startswith(("ELF_ISSUER", "ELF_JWKS"))} == told
    read = load_settings({name: value for name, value in settings.items() if name.startswith("ELF_")})
    assert read.elf_issuer is not None
    assert read.elf_issuer.issuer == "https://people.example.com"
    volumes = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    (sources,) = [each["projected"]["sources"] for each in volumes if each["name"] == "workload"]
    mounted = [item["path"] for each in sources for item in each.get("configMap", {}).get("items", [])]
    assert ("jwks/people.json" in mounted) == ("config_map" in given)
    table = egress_of(spec(), organisation, environment("prod"), edges).table
    assert [each.host for each in table if each.kind == "keys" and each.host] == asked


def test_an_issuer_whose_keys_anybody_could_change_is_refused() -> None:
    for issuer, said in (
        ({"url": "http://people.example.com"}, "is no https address, so anybody on the way could change keys"),
        ({"url": "https://p.example.com", "jwks_url": "http://p.example.com"}, "is no https address"),
        (
            {"url": "https://p.example.com", "jwks_url": "https://k.example.com", "config_map": {"name": "k"}},
            "one of both",
        ),
    ):
        with pytest.raises(ValidationError, match=said):
            Organisation.model_validate({"issuer": issuer})
    cluster = {"name": "in-cluster", "server": "https://x", "workload_issuer": {"keys": "issuer", "issuer": "http://x"}}
    with pytest.raises(ValidationError, match=r"clusters\[0\].workload_issuer.issuer: .* is no https address"):
        Organisation.model_validate({"clusters": [cluster]})


@pytest.mark.parametrize(
    ("egress", "kind", "said"),
    [
        ({"mode": "open"}, "model", ""),
        ({"mode": "open"}, "mcp", "egress.mode is open, which lets out to port 443 alone"),
        ({"mode": "open"}, "push", ""),
        ({"mode": "cidr"}, "model", "egress.cidrs is empty"),
        ({"mode": "cidr", "cidrs": ["192.0.2.0/24"]}, "mcp", ""),
        ({"mode": "proxy"}, "model", "egress.proxy names none"),
        ({"mode": "proxy", "proxy": {"cidr": "192.0.2.0/24"}}, "model", "egress.proxy has no host"),
        ({"mode": "proxy", "proxy": {"host": "p", "cidr": "192.0.2.0/24"}}, "mcp", ""),
        ({"mode": "proxy", "proxy": {"host": "p", "cidr": "192.0.2.0/24"}}, "push", "notifications go straight to"),
        ({"mode": "cilium-fqdn"}, "model", ""),
        ({"mode": "cilium-fqdn"}, "push", "add them to egress.hosts"),
    ],
)
def test_what_is_not_let_out_is_said_with_the_remedy(egress: dict[str, Any], kind: str, said: str) -> None:
    found = table(egress=egress, **EVERYTHING)
    known = [each for each in found.table if each.kind == kind and each.place is None]
    reason = found.closed(known[0])
    assert (said in reason) if said else reason == ""


def test_a_known_place_is_reached_in_every_mode() -> None:
    for mode in ("open", "cidr", "proxy", "cilium-fqdn"):
        found = table(egress={"mode": mode}, **EVERYTHING)
        assert all(found.closed(each) == "" for each in found.table if each.place is not None)


def test_a_dependency_of_a_kind_of_its_own_would_be_noticed() -> None:
    assert [each.kind for each in table().table] == ["dns", "team", "store", "keys", "push"]
    assert [each for each in table().table if not each.needed] == [
        Dependency("push", "the receivers of push notifications", needed=False)
    ]

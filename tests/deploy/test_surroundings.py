"""What leads to a team's pods, what scales and measures them, and what fills their Secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from elf_sdk.deploy.values import team_values
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Organisation
from tests.deploy.organisations import Object, elf, environment, render, spec, values_of, write_project


def rendered(directory: Path, name: str = "prod", **fields: Any) -> dict[str, Object]:
    team = spec(**fields)
    return render(directory, team, values_of(team, name), name=name)


def let_in(objects: dict[str, Object], port: str) -> list[Any]:
    """Who reaches a port of the team, by the policy."""
    rules = objects["NetworkPolicy"]["spec"]["ingress"]
    return [each for rule in rules if port in {p["port"] for p in rule["ports"]} for each in rule["from"]]


def test_prod_has_an_autoscaler_that_starts_with_its_replicas_and_then_owns_them(tmp_path: Path) -> None:
    objects = rendered(tmp_path)
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 6)
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "brand-team"}
    # Two who decide how many there are would undo each other's work.
    assert "replicas" not in objects["Deployment"]["spec"]
    for name in ("dev", "staging"):
        other = rendered(tmp_path / name, name)
        assert "HorizontalPodAutoscaler" not in other
        assert other["Deployment"]["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    "fields",
    [{"autoscaling": {"enabled": False}}, {"replicas": 0}, {"replicas": 1, "runs": {"store": "ephemeral"}}],
)
def test_there_is_no_autoscaler_where_nothing_can_be_scaled(fields: dict[str, Any], tmp_path: Path) -> None:
    objects = rendered(tmp_path, **fields)
    assert "HorizontalPodAutoscaler" not in objects
    assert objects["Deployment"]["spec"]["replicas"] == fields.get("replicas", 2)


def test_an_environment_overrides_the_autoscaler(tmp_path: Path) -> None:
    over = {
        "staging": {"autoscaling": {"enabled": True, "min_replicas": 3}},
        "prod": {"autoscaling": {"enabled": False}},
    }
    scaler = rendered(tmp_path / "staging", "staging", environments=over)["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 9)
    assert "HorizontalPodAutoscaler" not in rendered(tmp_path / "prod", environments=over)


def test_the_disruption_budget_follows_the_least_number_of_replicas(tmp_path: Path) -> None:
    assert "PodDisruptionBudget" not in rendered(tmp_path / "a", replicas=5, autoscaling={"min_replicas": 1})
    assert "PodDisruptionBudget" in rendered(tmp_path / "b", replicas=1, autoscaling={"min_replicas": 2})


def test_keda_counts_runs_where_a_prometheus_knows_them(tmp_path: Path) -> None:
    given = {"kind": "keda", "max_replicas": 9, "prometheus": "http://prometheus.monitoring:9090"}
    objects = rendered(tmp_path, autoscaling=given, runs={"concurrency": 20})
    assert "HorizontalPodAutoscaler" not in objects
    assert "replicas" not in objects["Deployment"]["spec"]
    scaled = objects["ScaledObject"]["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 9)
    processor, runs = scaled["triggers"]
    assert processor == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}
    of = '{namespace="elf-teams",team="brand-team"}'
    assert runs["metadata"] == {
        "serverAddress": "http://prometheus.monitoring:9090",
        "query": f"sum(elf_runs_working{of}) + sum(elf_runs_queued{of})",
        "threshold": "15",
    }


def test_an_ingress_of_nginx_keeps_silent_connections_and_passes_answers_on_at_once(tmp_path: Path) -> None:
    objects = rendered(tmp_path, ingress={"enabled": True, "host": "brand.example.com", "tls_secret": "cert"})
    ingress = objects["Ingress"]
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["brand.example.com"], "secretName": "cert"}]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "brand.example.com"
    service = rule["http"]["paths"][0]["backend"]["service"]
    assert service == {"name": objects["Service"]["metadata"]["name"], "port": {"name": "http"}}
    annotations = ingress["metadata"]["annotations"]
    assert all(isinstance(value, str) for value in annotations.values())
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "3600"
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}} in let_in(
        objects, "http"
    )


def test_an_ingress_of_traefik_is_told_where_tls_ends_and_annotations_of_ones_own_go_first(tmp_path: Path) -> None:
    given = {"enabled": True, "class_name": "traefik", "host": "b.example.com"}
    plain = rendered(tmp_path / "plain", ingress=given)["Ingress"]
    assert "annotations" not in plain["metadata"]
    own = {"traefik.ingress.kubernetes.io/router.entrypoints": "internal", "example.com/x": "on"}
    more = {"tls_secret": "cert", "annotations": own, "controller": {"namespace": "edge", "labels": {"app": "traefik"}}}
    objects = rendered(tmp_path / "tls", ingress={**given, **more})
    assert objects["Ingress"]["metadata"]["annotations"] == {
        "example.com/x": "on",
        "traefik.ingress.kubernetes.io/router.entrypoints": "internal",
        "traefik.ingress.kubernetes.io/router.tls": "true",
    }
    assert {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}},
        "podSelector": {"matchLabels": {"app": "traefik"}},
    } in let_in(objects, "http")


def test_a_route_never_ends_a_chat_unless_it_is_told_to(tmp_path: Path) -> None:
    given = {"enabled": True, "parent": "public", "parent_namespace": "edge", "host": "brand.example.com"}
    objects = rendered(tmp_path / "a", gateway=given)
    route = objects["HTTPRoute"]["spec"]
    (parent,) = route["parentRefs"]
    assert (parent["name"], parent["namespace"]) == ("public", "edge")
    assert route["hostnames"] == ["brand.example.com"]
    (rule,) = route["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    (backend,) = rule["backendRefs"]
    assert (backend["name"], backend["port"]) == ("brand-team", 8000)
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}} in let_in(objects, "http")
    bounded = rendered(tmp_path / "b", gateway={**given, "timeout": "20m", "section": "https"})["HTTPRoute"]["spec"]
    assert bounded["rules"][0]["timeouts"]["request"] == "1200s"
    assert bounded["parentRefs"][0]["sectionName"] == "https"


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_a_monitor_finds_the_port_that_the_policy_opens_for_prometheus(kind: str, tmp_path: Path) -> None:
    monitoring = {"enabled": True, "kind": kind, "interval": "15s", "labels": {"release": "prometheus"}}
    objects = rendered(tmp_path, monitoring=monitoring)
    monitor = objects[kind]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"]
    assert endpoint == {"port": "metrics", "path": "/metrics", "interval": "15s"}
    selected = objects["Service" if kind == "ServiceMonitor" else "Deployment"]
    labels = selected["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert let_in(objects, "metrics") == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]


def test_metrics_are_nobodys_to_read_without_a_monitor(tmp_path: Path) -> None:
    assert let_in(rendered(tmp_path), "metrics") == []


def test_a_store_fills_secrets_that_are_the_teams_alone(tmp_path: Path) -> None:
    store = {"name": "vault", "path": "kv/{organisation}/{environment}/{team}/{secret}"}
    organisation = Organisation.model_validate({"name": "lumen", "secret_store": store})
    team = spec(
        llm={"provider": "openai", "model": "m", "fallbacks": [{"provider": "anthropic", "model": "m"}]},
        database={"migrate": {"secret": "owner", "key": "url"}},
    )
    objects = render(tmp_path, team, team_values(team, organisation, environment("prod"), Edges("brand-team")))
    filled = {each["metadata"]["name"]: each["spec"] for kind, each in objects.items() if kind.startswith("External")}
    assert set(filled) == {"brand-team-llm-api-keys", "brand-team-supabase-credentials", "brand-team-owner"}
    keys = filled["brand-team-llm-api-keys"]
    assert keys["target"]["name"] == "brand-team-llm-api-keys"
    assert keys["secretStoreRef"] == {"kind": "ClusterSecretStore", "name": "vault"}
    found = {each["secretKey"]: (each["remoteRef"]["key"], each["remoteRef"]["property"]) for each in keys["data"]}
    path = "kv/lumen/prod/brand-team/llm-api-keys"
    assert found == {name: (path, name) for name in ("anthropic-api-key", "openai-api-key")}
    volumes = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    named = {
        s["secret"]["name"] for each in volumes for s in each.get("projected", {}).get("sources", ()) if "secret" in s
    }
    assert named == set(filled)


def test_what_may_be_absent_is_not_asked_of_the_store() -> None:
    organisation = Organisation.model_validate({"secret_store": {"name": "vault"}})
    values = team_values(spec(), organisation, environment("dev"), Edges("brand-team"))
    assert values["externalSecrets"]["secrets"] == []
    assert [each["secret"] for each in values["secrets"]] == ["elf-jwt"]


def test_the_test_reaches_the_team_by_its_service_and_the_policies(tmp_path: Path) -> None:
    objects = rendered(tmp_path)
    test, policy = objects["Pod/brand-team-test"], objects["NetworkPolicy/brand-team-test"]
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = test["spec"]["containers"]
    service = objects["Service"]
    assert f"http://{service['metadata']['name']}.{service['metadata']['namespace']}.svc:8000" in container["command"]
    labels = test["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert not service["spec"]["selector"].items() <= labels.items()
    near = [each for each in let_in(objects, "http") if "namespaceSelector" not in each]
    assert [each["podSelector"]["matchLabels"].items() <= labels.items() for each in near] == [True]
    team = objects["Deployment"]["spec"]["template"]
    assert container["image"] == team["spec"]["containers"][0]["image"]
    assert container["securityContext"] == team["spec"]["containers"][0]["securityContext"]
    assert test["spec"]["securityContext"] == team["spec"]["securityContext"]


def test_the_test_shows_who_it_is_with_what_the_environment_has(tmp_path: Path) -> None:
    def shown(directory: str, name: str, **over: Any) -> tuple[set[str], Any]:
        values = values_of(spec(), name)
        values["test"] = {**values["test"], **over}
        pod = render(tmp_path / directory, spec(), values, name=name)["Pod/brand-team-test"]["spec"]
        (token,) = [each["projected"]["sources"] for each in pod["volumes"] if each["name"] == "token"]
        return {each["name"] for each in pod["containers"][0]["env"]}, token

    variables, ((own),) = shown("a", "prod")
    assert "ELF_TOKEN_FILE" in variables
    assert own["serviceAccountToken"]["audience"] == "elf:elf:prod:brand-team"
    variables, _ = shown("b", "dev")
    assert "JWT_SECRET_KEY_FILE" in variables
    assert "ELF_TOKEN_FILE" not in variables
    variables, ((given),) = shown("c", "dev", secret="test-user", key="token")
    assert "JWT_SECRET_KEY_FILE" not in variables
    assert given["secret"]["name"] == "test-user"


def test_a_team_that_asks_for_all_of_it_is_packaged_and_proven(tmp_path: Path) -> None:
    everything = {
        "autoscaling": {"kind": "keda", "enabled": True, "prometheus": "http://prometheus:9090"},
        "ingress": {"enabled": True, "host": "a.example.com"},
        "gateway": {"enabled": True, "host": "a.example.com"},
        "monitoring": {"enabled": True},
        "serving": {"grpc_port": 50051},
    }
    root = write_project(tmp_path, {"a-team": everything}, {"secret_store": {"name": "vault"}})
    done = elf("package", "--output", "out", cwd=root)
    assert done.returncode == 0, done.stderr
    assert "proven for dev, staging and prod" in done.stdout

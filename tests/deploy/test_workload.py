"""What a pod is given, how many there are, and how they come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from elf_sdk.deploy.values import shortcomings, team_values
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Organisation
from elf_sdk.team.spec import TeamSpec
from tests.deploy.organisations import Object, environment, render, spec, values_of


def pod(objects: dict[str, Object]) -> Object:
    found: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return found


def source(values: dict[str, Any], name: str) -> tuple[str, str]:
    (found,) = [each for each in values["secrets"] if each["name"] == name]
    return found["secret"], found["key"]


def test_a_team_finds_its_database_in_the_secret_that_the_organisation_names() -> None:
    assert source(values_of(spec()), "ELF_DATABASE_URL") == ("supabase-credentials", "db-url")
    elsewhere = Organisation.model_validate({"database": {"secret": "pg", "key": "url"}})
    values = team_values(spec(), elsewhere, environment("prod"), Edges("brand-team"))
    assert source(values, "ELF_DATABASE_URL") == ("pg", "url")
    assert values["migration"] == {"enabled": True, "secret": "pg", "key": "url"}


def test_a_team_may_have_a_database_of_its_own() -> None:
    team = spec(database={"secret": "brand-db"}, environments={"staging": {"database": {"key": "staging"}}})
    assert source(values_of(team), "ELF_DATABASE_URL") == ("brand-db", "db-url")
    assert source(values_of(team, "staging"), "ELF_DATABASE_URL") == ("brand-db", "staging")
    by_secret = spec(secrets=[{"name": "ELF_DATABASE_URL", "from": {"secret": "mine", "key": "k"}}])
    assert source(values_of(by_secret), "ELF_DATABASE_URL") == ("mine", "k")
    assert values_of(by_secret)["migration"]["secret"] == "mine"


def test_the_schema_is_migrated_by_an_address_that_the_team_does_not_see(tmp_path: Path) -> None:
    given = {"database": {"migrate": {"secret": "owner", "key": "direct-url"}}}
    values = team_values(spec(), Organisation.model_validate(given), environment("prod"), Edges("brand-team"))
    objects = render(tmp_path, spec(), values)
    volumes = {each["name"]: each.get("projected") for each in pod(objects)["volumes"]}
    (origin,) = volumes["migration"]["sources"]
    assert origin["secret"]["name"] == "owner"
    (migrate,), (team,) = pod(objects)["initContainers"], pod(objects)["containers"]
    assert migrate["image"] == team["image"]
    assert migrate["command"] == ["elf", "db", "migrate"]
    assert "migration" in {mount["name"] for mount in migrate["volumeMounts"]}
    assert "migration" not in {mount["name"] for mount in team["volumeMounts"]}
    assert "owner" not in str(volumes["secrets"])


def test_an_ephemeral_team_has_no_database_and_nothing_to_migrate(tmp_path: Path) -> None:
    values = values_of(spec(), "dev")
    assert "ELF_DATABASE_URL" not in {each["name"] for each in values["secrets"]}
    assert "initContainers" not in pod(render(tmp_path, spec(), values, name="dev"))


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "ephemeral"),
        ({"replicas": 2}, "postgres"),
        ({"runs": {"store": "database"}}, "postgres"),
        ({"autoscaling": {"enabled": True}}, "postgres"),
        ({"autoscaling": {"max_replicas": 3}}, "postgres"),
    ],
)
def test_dev_has_a_database_as_soon_as_replicas_have_to_share_one(fields: dict[str, Any], kind: str) -> None:
    assert values_of(spec(**fields), "dev")["store"] == {"kind": kind}


@pytest.mark.parametrize(
    ("runs", "name", "seconds"),
    [
        ({}, "prod", 300),
        ({}, "dev", 30),
        ({"deadline": "20s"}, "prod", 20),
        ({"drain": "20m"}, "prod", 1200),
    ],
)
def test_a_pod_may_take_as_long_to_end_as_its_runs(
    runs: dict[str, Any], name: str, seconds: int, tmp_path: Path
) -> None:
    objects = render(tmp_path, spec(runs=runs), values_of(spec(runs=runs), name), name=name)
    assert objects["ConfigMap"]["data"]["ELF_DRAIN_SECONDS"] == str(seconds)
    before = pod(objects)["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    # Connections are closed within 30 s after the drain.
    assert pod(objects)["terminationGracePeriodSeconds"] >= before + seconds + 30


def test_ports_are_those_of_the_process_the_service_and_the_policy(tmp_path: Path) -> None:
    team = spec(serving={"grpc_port": 50051, "metrics_port": 9100})
    objects = render(tmp_path, team, values_of(team))
    settings = objects["ConfigMap"]["data"]
    assert (settings["ELF_GRPC_PORT"], settings["ELF_METRICS_PORT"]) == ("50051", "9100")
    named = {"http": 8000, "metrics": 9100, "grpc": 50051}
    assert {each["name"]: each["containerPort"] for each in pod(objects)["containers"][0]["ports"]} == named
    ports = objects["Service"]["spec"]["ports"]
    assert {each["name"]: each["port"] for each in ports} == named
    assert {each["name"]: each.get("appProtocol") for each in ports}["grpc"] == "kubernetes.io/h2c"
    plain = render(tmp_path / "plain", spec(), values_of(spec()))
    assert "ELF_GRPC_PORT" not in plain["ConfigMap"]["data"]
    assert "grpc" not in str(plain["Service"]["spec"]["ports"])


def test_a_process_is_told_of_its_surroundings(tmp_path: Path) -> None:
    serving = {
        "public_url": "https://brand.example.com",
        "trusted_proxies": ["10.0.0.0/8", "192.168.0.0/16"],
        "push_allow": ["http://hooks.internal", "10.20.0.0/16"],
    }
    team = spec(serving=serving)
    settings = render(tmp_path, team, values_of(team))["ConfigMap"]["data"]
    assert settings["ELF_PUBLIC_URL"] == "https://brand.example.com"
    assert settings["ELF_TRUSTED_PROXIES"] == "10.0.0.0/8,192.168.0.0/16"
    assert settings["ELF_PUSH_ALLOW"] == "http://hooks.internal,10.20.0.0/16"


def test_an_environment_overrides_what_it_is_by_default(tmp_path: Path) -> None:
    over = {
        "serving": {"log_level": "warning", "app_protocol": "kubernetes.io/ws"},
        "pod": {"disruption_budget": False, "data_size": "5Gi"},
    }
    team = spec(environments={"prod": over})
    objects = render(tmp_path / "prod", team, values_of(team))
    assert objects["ConfigMap"]["data"]["ELF_LOG_LEVEL"] == "warning"
    assert objects["Service"]["spec"]["ports"][0]["appProtocol"] == "kubernetes.io/ws"
    assert "PodDisruptionBudget" not in objects
    sizes = {each["name"]: each["emptyDir"]["sizeLimit"] for each in pod(objects)["volumes"] if "emptyDir" in each}
    assert sizes == {"data": "5Gi", "tmp": "256Mi"}
    staging = render(tmp_path / "staging", team, values_of(team, "staging"), name="staging")
    assert staging["ConfigMap"]["data"]["ELF_LOG_LEVEL"] == "info"


def test_memory_has_room_for_a_process_a_run() -> None:
    few = values_of(spec(framework="crewai", runs={"concurrency": 4}))["resources"]
    many = values_of(spec(framework="crewai", runs={"concurrency": 64}))["resources"]
    inline = values_of(spec(framework="crewai", runs={"concurrency": 64, "isolation": "inline"}))["resources"]
    assert few["requests"] == many["requests"]
    assert few["limits"]["memory"] == inline["limits"]["memory"] == "1Gi"
    assert many["limits"]["memory"] == "3456Mi"


@pytest.mark.parametrize(
    ("resources", "cpu", "memory"),
    [
        ({"memory_limit": "256Mi"}, ("250m", "1"), ("256Mi", "256Mi")),
        ({"memory_request": "4Gi"}, ("250m", "1"), ("4Gi", "4Gi")),
        ({"cpu_request": "2"}, ("2", "2"), ("512Mi", "1Gi")),
    ],
)
def test_a_request_is_never_above_its_limit(
    resources: dict[str, Any], cpu: tuple[str, str], memory: tuple[str, str]
) -> None:
    found = values_of(spec(resources=resources))["resources"]
    assert (found["requests"]["cpu"], found["limits"]["cpu"]) == cpu
    assert (found["requests"]["memory"], found["limits"]["memory"]) == memory


def test_what_kubernetes_knows_more_of_is_passed_on_as_it_is_written(tmp_path: Path) -> None:
    toleration = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    name = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": "{{ .Release.Name }}", "readOnly": True}}
    mount = {"name": "models", "mountPath": "/models", "readOnly": True}
    beside = {
        "name": "proxy",
        "image": "example.com/proxy:1",
        "args": ["--port", "9000"],
        "ports": [{"containerPort": 1}],
    }
    first = {"name": "wait", "image": "example.com/wait:1", "command": ["sh", "-c", 'echo "$(A)" # no'], "env": []}
    team = spec(
        pod={
            "priority_class": "business",
            "anti_affinity": "required",
            "node_selector": {"disk": "ssd"},
            "tolerations": [toleration],
            "annotations": {"example.com/note": "yes"},
            "env": [name],
            "volumes": [volume],
            "volume_mounts": [mount],
            "containers": [beside],
            "init_containers": [first],
        }
    )
    objects = render(tmp_path, team, values_of(team))
    found = pod(objects)
    assert found["priorityClassName"] == "business"
    assert "requiredDuringSchedulingIgnoredDuringExecution" in found["affinity"]["podAntiAffinity"]
    assert found["nodeSelector"] == {"disk": "ssd"}
    assert toleration in found["tolerations"]
    assert objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]["example.com/note"] == "yes"
    assert name in found["containers"][0]["env"]
    assert volume in found["volumes"]
    assert mount in found["containers"][0]["volumeMounts"]
    assert found["containers"][1:] == [beside]
    assert found["initContainers"][1:] == [first]


def test_a_token_for_an_mcp_server_that_nobody_sets_is_named() -> None:
    servers = [
        {"name": "crm", "url": "https://crm.example.com/mcp", "token_env": "CRM_TOKEN"},
        {"name": "files", "command": ["files"], "env": ["FILES_ROOT", "FILES_KEY"]},
    ]
    given = {"mcp": servers, "env": [{"name": "FILES_ROOT", "value": "/data"}]}

    def said(team: TeamSpec) -> list[str]:
        return list(shortcomings(team, Organisation(), environment("dev"), Edges(team.name)))

    assert said(spec(**given)) == [
        "brand-team in dev: the MCP server 'crm' is given CRM_TOKEN, which has no value; add it to secrets or to env",
        "brand-team in dev: the MCP server 'files' is given FILES_KEY, which has no value; add it to secrets or to env",
    ]
    secrets = [{"name": name, "from": {"secret": "mcp", "key": name}} for name in ("CRM_TOKEN", "FILES_KEY")]
    assert said(spec(**given, secrets=secrets)) == []

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deploy.organisations import Object, neighbours, render, spec, values_of

EVERYTHING = {
    "display_name": "Brand",
    "purpose": "Keeps the voice.",
    "llm": {
        "provider": "openai",
        "model": "gpt-4o",
        "fallbacks": [{"provider": "compatible", "base_url": "http://llm"}],
    },
    "env": [{"name": "TONE", "value": "$(PATH)"}],
    "secrets": [
        {"name": "CRM_KEY", "from": {"secret": "crm", "key": "api-key"}},
        {"name": "CMS_KEY", "from": {"secret": "cms", "key": "token"}, "as": "variable"},
    ],
    "image": {"registry": "registry.example.com/agents", "pull_secrets": ["pull"]},
}


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Object]:
    team = spec(**EVERYTHING)
    edges = neighbours(team, callers=["chief-team"], callees=["data-team"], data_team="other")
    return render(tmp_path_factory.mktemp("prod"), team, values_of(team, edges=edges, digest=f"sha256:{'a' * 64}"))


def pod(objects: dict[str, Object]) -> Object:
    found: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return found


def container(objects: dict[str, Object]) -> Object:
    found: Object = pod(objects)["containers"][0]
    return found


def test_every_kind_is_there_once_in_its_namespace_with_its_labels(prod: dict[str, Object]) -> None:
    own = {
        "ConfigMap",
        "ConfigMap/brand-team-edges",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }
    assert set(prod) == own | {"Pod/brand-team-test", "NetworkPolicy/brand-team-test"}
    for kind, each in prod.items():
        assert each["metadata"]["namespace"] == "elf-teams"
        labels = each["metadata"]["labels"]
        # A test that looked like the team's pods would be led to by its Service.
        assert labels["app"] == labels["app.kubernetes.io/name"] == ("brand-team" if kind in own else "brand-team-test")
        assert labels["app.kubernetes.io/instance"] == "brand-team"
        assert labels["app.kubernetes.io/part-of"] == "elf"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/version"] == "0.1.0"


def test_the_pod_keeps_to_the_restricted_pod_security_standard(prod: dict[str, Object]) -> None:
    security = pod(prod)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 10_000
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(prod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (migrate,) = pod(prod)["initContainers"]
    assert migrate["securityContext"] == container(prod)["securityContext"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(prod))
    assert {next(iter(set(volume) - {"name"})) for volume in pod(prod)["volumes"]} == {"emptyDir", "projected"}


def test_no_token_is_mounted_but_those_that_are_projected(prod: dict[str, Object]) -> None:
    assert prod["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod(prod)["automountServiceAccountToken"] is False
    assert pod(prod)["serviceAccountName"] == "brand-team"
    assert pod(prod)["enableServiceLinks"] is False


def test_data_and_tmp_can_be_written_and_are_bounded(prod: dict[str, Object]) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in container(prod)["volumeMounts"]}
    sizes = {each["name"]: each["emptyDir"]["sizeLimit"] for each in pod(prod)["volumes"] if "emptyDir" in each}
    assert sizes[mounts["/data"]]
    assert sizes[mounts["/tmp"]]  # noqa: S108 - a path in the pod
    assert {"name": "HOME", "value": "/data"} in container(prod)["env"]


def test_crewai_keeps_its_files_where_it_may_write(prod: dict[str, Object], tmp_path: Path) -> None:
    team = spec(framework="crewai")
    place = {"name": "CREWAI_STORAGE_DIR", "value": "/data/crewai"}
    assert place in container(render(tmp_path, team, values_of(team)))["env"]
    assert place not in container(prod)["env"]


def test_the_three_probes_differ(prod: dict[str, Object]) -> None:
    probes = [container(prod)[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    assert [probe["httpGet"] for probe in probes] == [
        {"path": path, "port": "http"} for path in ("/startupz", "/livez", "/readyz")
    ]
    assert container(prod)["ports"][0] == {"name": "http", "containerPort": 8000, "protocol": "TCP"}
    assert len({str(probe) for probe in probes}) == 3
    assert probes[0]["periodSeconds"] * probes[0]["failureThreshold"] >= 60


def test_resources_name_ephemeral_storage_on_both_sides(prod: dict[str, Object]) -> None:
    for side in ("requests", "limits"):
        assert set(container(prod)["resources"][side]) == {"cpu", "memory", "ephemeral-storage"}


def test_a_pod_ends_only_after_endpoints_forgot_it_and_runs_are_done(prod: dict[str, Object]) -> None:
    seconds = container(prod)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < seconds < pod(prod)["terminationGracePeriodSeconds"]
    assert prod["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_replicas_are_spread(prod: dict[str, Object]) -> None:
    constraints = pod(prod)["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    (preferred,) = pod(prod)["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    labels = prod["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    for each in (*constraints, preferred["podAffinityTerm"]):
        assert each["labelSelector"]["matchLabels"].items() <= labels


def test_the_image_goes_by_digest_where_there_is_one(prod: dict[str, Object], tmp_path: Path) -> None:
    assert container(prod)["image"] == f"registry.example.com/agents/brand-team@sha256:{'a' * 64}"
    assert pod(prod)["imagePullSecrets"] == [{"name": "pull"}]
    team = spec(version="1.2.3")
    assert container(render(tmp_path, team, values_of(team)))["image"] == "brand-team:1.2.3"


def test_a_pod_knows_the_digest_of_its_image_where_there_is_one(prod: dict[str, Object], tmp_path: Path) -> None:
    assert {"name": "ELF_IMAGE_DIGEST", "value": f"sha256:{'a' * 64}"} in container(prod)["env"]
    by_tag = container(render(tmp_path, spec(), values_of(spec())))
    assert "ELF_IMAGE_DIGEST" not in {each["name"] for each in by_tag["env"]}


def test_secrets_are_references_as_files_or_variables(prod: dict[str, Object]) -> None:
    env = {each["name"]: each for each in container(prod)["env"]}
    assert env["CRM_KEY_FILE"]["value"] == "/run/secrets/elf/CRM_KEY"
    assert env["OPENAI_API_KEY_FILE"]["value"] == "/run/secrets/elf/OPENAI_API_KEY"
    assert env["CMS_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "cms", "key": "token", "optional": False}
    assert env["COMPATIBLE_API_KEY"]["valueFrom"]["secretKeyRef"]["optional"] is True
    (projected,) = [each["projected"] for each in pod(prod)["volumes"] if each["name"] == "secrets"]
    assert projected["defaultMode"] == 0o440
    files = {item["path"]: each["secret"]["name"] for each in projected["sources"] for item in each["secret"]["items"]}
    assert files == {"CRM_KEY": "crm", "OPENAI_API_KEY": "llm-api-keys", "ELF_DATABASE_URL": "supabase-credentials"}


def test_settings_come_from_the_config_map_where_nothing_expands_them(prod: dict[str, Object]) -> None:
    assert container(prod)["envFrom"] == [{"configMapRef": {"name": "brand-team-config"}}]
    assert prod["ConfigMap"]["data"] == {
        "ELF_DRAIN_SECONDS": "300",
        "ELF_EDGES_FILE": "/run/elf/edges.json",
        "ELF_ENVIRONMENT": "prod",
        "ELF_HOST": "0.0.0.0",  # noqa: S104 - in the pod
        "ELF_LOG_LEVEL": "info",
        "ELF_METRICS_PORT": "9464",
        "ELF_NAMESPACE": "elf-teams",
        "ELF_ORGANISATION": "elf",
        "ELF_PORT": "8000",
        "ELF_STORE": "/data/elf.db",
        "ELF_TEAM_TOKENS": "/run/elf/tokens",
        "ELF_TEAM_URL": "http://{team}.elf-teams.svc:8000",
        "ELF_WORKLOAD_ISSUER": "https://kubernetes.default.svc.cluster.local",
        "ELF_WORKLOAD_JWKS_ALGORITHM": "RS256",
        "ELF_WORKLOAD_JWKS_CA_FILE": "/run/elf/jwks/ca.crt",
        "ELF_WORKLOAD_JWKS_TOKEN_FILE": "/run/elf/jwks/token",
        "ELF_WORKLOAD_JWKS_URL": "https://kubernetes.default.svc/openid/v1/jwks",
        "TONE": "$(PATH)",
    }


def test_pods_restart_when_a_setting_changes_and_only_then(tmp_path: Path) -> None:
    def checksum(directory: str, **fields: Any) -> str:
        team = spec(**fields)
        deployment = render(tmp_path / directory, team, values_of(team))["Deployment"]
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    plain = checksum("a")
    assert checksum("b", env=[{"name": "TONE", "value": "dry"}]) != plain
    assert checksum("c", purpose="another") == plain


def test_selectors_find_the_pods_and_name_nothing_that_changes(prod: dict[str, Object]) -> None:
    labels = prod["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        prod["Deployment"]["spec"]["selector"]["matchLabels"],
        prod["Service"]["spec"]["selector"],
        prod["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        prod["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector == {"app": "brand-team", "app.kubernetes.io/name": "brand-team"}
        assert selector.items() <= labels.items()


def test_the_service_is_where_elf_team_url_says(prod: dict[str, Object]) -> None:
    assert prod["Service"]["metadata"]["name"] == "brand-team"
    main = prod["Service"]["spec"]["ports"][0]
    assert main == {"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}


def test_the_disruption_budget_needs_two_replicas_and_lets_sick_pods_go(
    prod: dict[str, Object], tmp_path: Path
) -> None:
    assert prod["PodDisruptionBudget"]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    team = spec(replicas=1)
    assert "PodDisruptionBudget" not in render(tmp_path, team, values_of(team))


def test_dev_is_one_replica_on_its_own_disk_that_is_never_two(tmp_path: Path) -> None:
    team = spec()
    deployment = render(tmp_path, team, values_of(team, "dev"), name="dev")["Deployment"]["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}


def test_names_at_their_longest_still_make_valid_objects(tmp_path: Path) -> None:
    team = spec(name="a" * 45, version="1.0.0-" + "x" * 58)
    objects = render(tmp_path, team, values_of(team))
    for value in objects["Deployment"]["metadata"]["labels"].values():
        assert len(value) <= 63
        assert value[-1].isalnum()

"""The company on the cluster: founded once, brought up once, and taken away at the end."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from tests.e2e.argo import ArgoCD
from tests.e2e.client import Client
from tests.e2e.cluster import Cluster
from tests.e2e.database import Database, build_image
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import (
    CLIENT,
    DEPLOY,
    ENVIRONMENTS,
    ISSUER,
    KEYS,
    NAME,
    SANDBOX,
    SUPPORT,
    TEAMS,
    Company,
    host_of,
    namespace_of,
)
from tests.e2e.signing import Signer
from tests.e2e.ways import Ways

_ORDER = (
    "images",
    "sync",
    "objects",
    "conversation",
    "operate",
    "edges",
    "rollout",
    "autoscaler",
    "promotion",
    "ingress",
    "nodes",
    "removal",
)
_FIGURES = pytest.StashKey[Figures]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="write the table of figures here, as .txt and .json")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = Figures()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # In the order in which a company would do it; what takes something away comes last.
    items.sort(key=lambda item: _ORDER.index(item.path.stem.removeprefix("test_")))
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash[_FIGURES]
    if figures.rows or figures.left_out:
        terminalreporter.section("figures")
        terminalreporter.write(figures.table())
        if path := config.getoption("--figures"):
            figures.write(path)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Where tests put what they measured."""
    return pytestconfig.stash[_FIGURES]


@pytest.fixture(scope="session")
def registry() -> str:
    """Where images are pushed to, and pulled from."""
    return os.environ.get("ELF_E2E_REGISTRY", "127.0.0.1:5000")


@pytest.fixture(scope="session")
def cluster(figures: Figures) -> Generator[Cluster, None, None]:
    """The cluster, without what an earlier run left behind, and with nothing left behind."""
    cluster = Cluster()
    cluster.run("get", "--raw", "/readyz")
    argo = cluster.has("applications.argoproj.io")
    if not argo:
        figures.left_out["Argo CD"] = "the cluster has none; `elf deploy` was used instead"
        figures.left_out["what Argo CD makes of a commit"] = "a new version, promotion, revert, and teams that leave"
    _clear(cluster, argo=argo)
    yield cluster
    if not os.environ.get("ELF_E2E_KEEP"):
        _clear(cluster, argo=argo)


def _clear(cluster: Cluster, *, argo: bool) -> None:
    if argo:
        ArgoCD(cluster).clear(NAME)
    # A team that ends writes down where it stands: the database goes last.
    cluster.delete("namespace", *map(namespace_of, (*ENVIRONMENTS, SANDBOX)), timeout=400)
    cluster.delete("namespace", SUPPORT)


@pytest.fixture(scope="session")
def ways(cluster: Cluster) -> Ways:
    """The ways into the cluster."""
    return Ways.found(cluster, {team: host_of(team) for team in TEAMS})


@pytest.fixture(scope="session")
def company(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, registry: str) -> Company:
    """The example organisation in files."""
    return Company.founded(tmp_path_factory.mktemp("e2e"), registry, cluster)


@pytest.fixture(scope="session")
def images(company: Company, registry: str, figures: Figures) -> Mapping[str, str]:
    """The digest of each team's image, built and pushed."""
    began = time.monotonic()
    company.elf("image", "build", "--all", "--base", f"{registry}/python:3.11", timeout=900)
    built = time.monotonic()
    company.elf("image", "push", "--all", timeout=600)
    pushed = time.monotonic()
    figures.add(f"{len(TEAMS)} images built", f"{built - began:.0f} s")
    figures.add(f"{len(TEAMS)} images pushed", f"{pushed - built:.0f} s")
    company.committed("Pin the images")
    return company.digests(ENVIRONMENTS[0])


@pytest.fixture(scope="session")
def database(cluster: Cluster, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A PostgreSQL in the cluster."""
    image = build_image(registry, tmp_path_factory.mktemp("postgres"))
    cluster.namespace(SUPPORT)
    return Database(cluster, SUPPORT, image)


@pytest.fixture(scope="session")
def signer(cluster: Cluster, database: Database) -> Signer:
    """Who signs people's tokens, with what a company has before its first team: namespaces, keys and databases."""
    signer = Signer(ISSUER, NAME)
    for environment in (*ENVIRONMENTS, SANDBOX):
        namespace = namespace_of(environment)
        cluster.namespace(namespace)
        keys = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": KEYS, "namespace": namespace}}
        cluster.apply({**keys, "data": {"jwks.json": signer.jwks()}})
        urls = database.create([f"{environment}-{team}" for team in TEAMS])
        for team, url in zip(TEAMS, urls.values(), strict=True):
            cluster.secret(namespace, f"{team}-database", {"db-url": url})
    return signer


@pytest.fixture(scope="session")
def deployed(
    cluster: Cluster,
    company: Company,
    images: Mapping[str, str],
    signer: Signer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Deployed:
    """All teams in all environments, running."""
    if not cluster.has("applications.argoproj.io"):
        company.pin(images, ENVIRONMENTS[1:])
        began = time.monotonic()
        for environment in ENVIRONMENTS:
            company.elf("deploy", environment, timeout=600)
        return Deployed(company, None, images, time.monotonic() - began, signer)
    company.elf("gitops", "write", "--all-environments")
    company.elf("gitops", "commit")
    company.elf("gitops", "push")
    began = time.monotonic()
    clone = company.clone(tmp_path_factory.mktemp("clone") / "deployments")
    cluster.run("apply", "-f", str(clone / DEPLOY / "bootstrap/root.yaml"))
    argo = ArgoCD(cluster)
    argo.settled([f"{team}-{environment}" for team in TEAMS for environment in ENVIRONMENTS], 400)
    return Deployed(company, argo, images, time.monotonic() - began, signer)


@pytest.fixture(scope="session")
def sandbox(deployed: Deployed, ways: Ways, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same teams in a project whose one environment is installed without Argo CD, with the ways in.

    Where a cluster gives an Ingress no address, Argo CD never calls its Application Healthy.
    """
    project = tmp_path_factory.mktemp("sandbox") / "company"
    shutil.copytree(deployed.company.project, project, ignore=shutil.ignore_patterns(".git", "gitops"))
    file = project / "elf.yaml"
    only = f"environments:\n  - {{name: {SANDBOX}, namespace: {namespace_of(SANDBOX)}}}\ngitops:"
    file.write_text(re.sub(r"(?s)environments:.*?\ngitops:", only, file.read_text(encoding="utf-8")), encoding="utf-8")
    for team in TEAMS:
        directory = project / "teams" / team
        (directory / "images.lock.yaml").write_text(f"{SANDBOX}: {deployed.digests[team]}\n", encoding="utf-8")
        text = re.sub(r"(?ms)^environments:.*", "", (directory / "team.yaml").read_text(encoding="utf-8"))
        (directory / "team.yaml").write_text(f"{text}{ways.settings.get(team, '')}\n", encoding="utf-8")
    return project


@pytest.fixture(scope="session")
def client(cluster: Cluster, images: Mapping[str, str], company: Company) -> Client:
    """A pod that the policies let in, from which conversations are had."""
    cluster.namespace(SUPPORT)
    return Client(cluster, SUPPORT, CLIENT, company.image("marketing-brand-team", images["marketing-brand-team"]))

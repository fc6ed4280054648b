"""The example organisation as a company would have it: an elf.yaml, images, and a git remote that Argo CD reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from elf_sdk.deploy.images import read_digests, write_digest
from elf_sdk.team.org import Org
from elf_sdk.team.project import find_project
from tests.e2e.cluster import Cluster

__all__ = [
    "CLIENT",
    "DELEGATE",
    "DEPLOY",
    "ENVIRONMENTS",
    "ISSUER",
    "KEYS",
    "NAME",
    "SANDBOX",
    "SLOW_ANSWER",
    "SUPPORT",
    "TEAMS",
    "Company",
    "host_of",
    "namespace_of",
]

ROOT = Path(__file__).parents[2]
TEAMS = ("engineering-team", "executive-team", "marketing-brand-team", "marketing-team")
ENVIRONMENTS = ("dev", "staging", "prod")
SUPPORT = "elf-e2e"
"""The namespace of what the tests themselves bring: the database and the client."""
CLIENT = "client"
"""The pod that stands for whoever calls from within the cluster; the policies know it as the agent gateway."""
KEYS = "company-keys"
"""The ConfigMap with the keys by which teams know people."""
ISSUER = "https://people.lumen.example"
"""Who signs people's tokens; nobody asks there."""
NAME = "lumen-works"
DEPLOY = "deploy"
"""The directory of the remote that ELF writes."""
SANDBOX = "sandbox"
"""An environment beside the three, for what Helm installs without Argo CD."""

_ELF_YAML = """\
format: elf/v1
name: lumen-works
display_name: Lumen Works
registry: {registry}
environments:
  - {{name: dev, namespace: elf-e2e-dev, sync: auto}}
  - {{name: staging, namespace: elf-e2e-staging, sync: auto}}
  - {{name: prod, namespace: elf-e2e-prod, sync: auto}}
gitops: {{url: '{remote}', branch: main, path: {deploy}}}
agent_gateway: {{namespace: {support}, labels: {{app: {client}}}}}
database: {{namespace: {support}}}
issuer: {{url: '{people}', config_map: {{name: {keys}, key: jwks.json}}}}
clusters:
  - name: in-cluster
    server: https://kubernetes.default.svc
    api_server: {{cidrs: {api_server}, port: {api_port}}}
    dns: {{cidrs: {dns}}}
    workload_issuer: {{issuer: '{issuer}'}}
"""

_MORE = """
# A small test cluster: less is reserved than a company would.
resources: {{cpu_request: 25m, memory_request: 192Mi}}
database: {{secret: {team}-database}}
environments:
  prod:
    # Of 25m an autoscaler would always find too much in use.
    autoscaling: {{enabled: false}}
    # Nothing outside the cluster is called.
    egress: {{mode: cidr, cidrs: [192.0.2.0/24]}}
"""
"""What each team says beside what it says in the examples."""


SLOW_ANSWER = " ".join(f"word-{number}" for number in range(1, 41))
_RULES = """
rules:
  - when: {{system: '{last}', user: '(?i)^answer slowly'}}
    say: {slow}
    delay: 250ms
  - when: {{user: '(?i)^answer (slowly|at once)'}}
    say: Here it is.
    delay: 0ms
"""
DELEGATE = "Have the brand team answer slowly"
_DELEGATING = """
rules:
  - when: {{system: Copywriter, after_tool: delegate_to_marketing_brand_team}}
    say: It is written down.
  - when: {{system: Copywriter, user: '(?i)^{ask}'}}
    call:
      tool: delegate_to_marketing_brand_team
      arguments: {{title: Answer slowly, description: Word by word.}}
"""
"""What the marketing team does when it is told so, beside what it does in the examples."""
_LAST = {"engineering-team": "You are the Engineering Lead", "marketing-brand-team": "Revise your draft"}
"""By team that answers at once or slowly when it is told so, how its last step is told who it is."""


def host_of(team: str) -> str:
    """The name by which a team of the sandbox is known outside the cluster."""
    return f"{team}.{SANDBOX}.example"


def namespace_of(environment: str) -> str:
    """Where the teams of an environment are."""
    return f"elf-e2e-{environment}"


_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Platform Engineer"), ("EMAIL", "platform@lumen.example"))
}
"""Who commits, in the project and in its GitOps repository, whatever this machine's own settings say."""


@dataclass(frozen=True)
class Company:
    """A project directory and the remote that its deployments are pushed to.

    Attributes:
        project: with elf.yaml and teams/.
        remote: a bare git repository.
        registry: prefix of all images.
    """

    project: Path
    remote: Path
    registry: str

    @classmethod
    def founded(cls, place: Path, registry: str, cluster: Cluster) -> Company:
        """A copy of the example teams, in git, with an elf.yaml for this cluster.

        Args:
            place: a new directory, which Argo CD can read.
            registry: for the images.
            cluster: what elf.yaml has to know of it is asked there.
        """
        # A registry keeps what earlier runs pushed, and a version is pushed once.
        prefix = f"{registry}/elf-e2e-{int(time.time())}"
        project, remote = place / "company", place / "deployments.git"
        shutil.copytree(ROOT / "teams", project / "teams", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", remote], check=True)
        addresses, port = cluster.api_server()
        text = _ELF_YAML.format(
            registry=prefix,
            remote=f"file://{remote}",
            support=SUPPORT,
            client=CLIENT,
            deploy=DEPLOY,
            people=ISSUER,
            keys=KEYS,
            api_server=_networks(addresses),
            api_port=port,
            dns=_networks(cluster.dns() or ["169.254.20.10"]),
            issuer=cluster.issuer(),
        )
        (project / "elf.yaml").write_text(text, encoding="utf-8")
        for team in TEAMS:
            with (project / "teams" / team / "team.yaml").open("a", encoding="utf-8") as file:
                file.write(_MORE.format(team=team))
        more = {team: _RULES.format(last=last, slow=SLOW_ANSWER) for team, last in _LAST.items()}
        for team, rules in {**more, "marketing-team": _DELEGATING.format(ask=DELEGATE)}.items():
            script = project / "teams" / team / "offline.yaml"
            script.write_text(script.read_text(encoding="utf-8").replace("\nrules:\n", rules, 1), encoding="utf-8")
        (project / ".gitignore").write_text("/gitops/\n", encoding="utf-8")
        company = cls(project, remote, prefix)
        company.git("init", "-q", "-b", "main")
        company.committed("Found the company")
        return company

    def elf(self, *arguments: str, timeout: float = 300, fine: Iterable[int] = (0,)) -> str:
        """What a command of ELF prints in the project."""
        return self.elf_in(self.project, *arguments, timeout=timeout, fine=fine)

    def elf_in(self, place: Path, *arguments: str, timeout: float = 300, fine: Iterable[int] = (0,)) -> str:
        """The same in another directory."""
        environment = {"BUILDAH_ISOLATION": "chroot", **os.environ, **_IDENTITY}
        done = subprocess.run(
            [sys.executable, "-m", "elf_sdk", *arguments],
            cwd=place,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode in fine, f"elf {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def git(self, *arguments: str) -> str:
        """What git prints in the project."""
        return self.git_in(self.project, *arguments)

    def git_in(self, place: Path, *arguments: str) -> str:
        """The same in another directory."""
        return _git(place, *arguments)

    def head(self) -> str:
        """The last commit of the deployments."""
        return _git(self.remote, "rev-parse", "main")

    def committed(self, message: str) -> None:
        """Commit all that changed in the project."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def org(self) -> Org:
        """Who may call whom."""
        return Org(team.spec for team in find_project(self.project).teams)

    def digests(self, environment: str) -> dict[str, str]:
        """The digest of each team's image in an environment, as the lock files have it."""
        project = find_project(self.project)
        return {
            team.spec.name: digest
            for team in project.teams
            if (digest := read_digests(team.directory, project.organisation).get(environment))
        }

    def pin(self, digests: Mapping[str, str], environments: Iterable[str]) -> None:
        """Have further environments run these images, as a person does who has no promotion."""
        project = find_project(self.project)
        for team, digest in digests.items():
            for environment in environments:
                write_digest(self.project / "teams" / team, project.organisation, environment, digest)
        self.committed("Pin the images everywhere")

    def image(self, team: str, digest: str) -> str:
        """A team's image by its digest."""
        return f"{self.registry}/{team}@{digest}"

    def clone(self, place: Path) -> Path:
        """A clone of the deployments, for what a person does there by hand."""
        _git(place.parent, "clone", "-q", str(self.remote), str(place))
        _git(place, "config", "user.name", "Platform Engineer")
        _git(place, "config", "user.email", "platform@lumen.example")
        return place


def _networks(addresses: list[str]) -> str:
    return json.dumps([f"{address}/{128 if ':' in address else 32}" for address in addresses])


def _git(where: Path, *arguments: str) -> str:
    environment = {**os.environ, **_IDENTITY}
    done = subprocess.run(["git", *arguments], cwd=where, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()

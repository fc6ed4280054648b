"""The company's teams as they run in the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.e2e.argo import ArgoCD
from tests.e2e.organisation import ENVIRONMENTS, Company, namespace_of
from tests.e2e.signing import Signer

__all__ = ["Deployed"]


@dataclass(frozen=True)
class Deployed:
    """What `bootstrap/root.yaml` brought.

    Attributes:
        company: whose teams they are.
        argo: Argo CD, where the cluster has one.
        digests: of the image of each team.
        seconds: from the commit until all were there.
        signer: of people's tokens.
    """

    company: Company
    argo: ArgoCD | None
    digests: Mapping[str, str]
    seconds: float
    signer: Signer

    def url(self, environment: str, team: str, scheme: str = "http") -> str:
        """Where a team answers inside the cluster."""
        return f"{scheme}://{team}.{namespace_of(environment)}.svc:8000"

    def token(self, environment: str, team: str, user: str = "ada") -> str:
        """With which a person may call a team."""
        return self.signer.token(environment, team, user)

    def bring(self, team: str) -> None:
        """Have dev run a team as its files are now; it does when this returns."""
        environment = ENVIRONMENTS[0]
        if self.argo is None:
            self.company.elf("deploy", environment, team, timeout=400)
            return
        self.company.elf("gitops", "write", team)
        self.company.elf("gitops", "commit")
        self.company.elf("gitops", "push")
        self.argo.refresh()
        self.argo.settled([f"{team}-{environment}"], 300, revision=self.company.head())

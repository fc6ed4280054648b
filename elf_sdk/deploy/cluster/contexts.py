"""Which context of a kubeconfig leads to which cluster of elf.yaml. Pure: nothing is asked of any network."""

from __future__ import annotations

from typing import Final

from elf_sdk.deploy.cluster.kubeconfig import Context, Kubeconfig
from elf_sdk.errors import BadInput
from elf_sdk.team.organisation import Cluster, Environment, Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["ARGO_CD", "argo_cd_cluster", "cluster_of", "context_of"]

ARGO_CD: Final = "https://kubernetes.default.svc"
"""The address by which Argo CD names the cluster that it runs in itself."""


def cluster_of(team: TeamSpec, environment: Environment, organisation: Organisation) -> Cluster:
    """The cluster in which a team runs in an environment."""
    return organisation.cluster(team.cluster_in(environment))


def argo_cd_cluster(organisation: Organisation) -> Cluster | None:
    """The cluster that Argo CD runs in; None where elf.yaml names none."""
    return next((cluster for cluster in organisation.clusters if _is_argo_cd(cluster)), None)


def context_of(cluster: Cluster, organisation: Organisation, kubeconfig: Kubeconfig) -> Context:
    """The context that leads to `cluster`.

    Raises:
        BadInput: none does, or several do.
    """
    if cluster.context is not None:
        return kubeconfig.context(cluster.context)
    found = _leading_to(cluster, kubeconfig)
    if found is not None:
        return found
    if _is_argo_cd(cluster):
        # Its address means something only inside; from outside it is the one that the person works with.
        current = kubeconfig.context()
        for other in organisation.clusters:
            if other is not cluster and _names(other, current):
                raise BadInput(
                    f"the current context {current.name!r} leads to the cluster {other.name!r}, and not to "
                    f"{cluster.name!r}; switch to the right one, or write context: below {cluster.name!r} in elf.yaml"
                )
        return current
    if not kubeconfig.contexts:
        return kubeconfig.context()
    raise BadInput(
        f"no context of your kubeconfig leads to the cluster {cluster.name!r} ({cluster.server}); fetch its "
        "kubeconfig, or write context: below it in elf.yaml"
    )


def _leading_to(cluster: Cluster, kubeconfig: Kubeconfig) -> Context | None:
    """By its address, then by its name."""
    found = [each for each in kubeconfig.contexts.values() if each.server == cluster.server.rstrip("/")]
    if not found and not _is_argo_cd(cluster):
        return kubeconfig.contexts.get(cluster.name)
    for name in (kubeconfig.current, cluster.name):
        for context in found:
            if context.name == name:
                return context
    if len(found) > 1:
        names = ", ".join(sorted(context.name for context in found))
        raise BadInput(
            f"several contexts lead to the cluster {cluster.name!r}: {names}; write context: below it in elf.yaml"
        )
    return found[0] if found else None


def _names(cluster: Cluster, context: Context) -> bool:
    return context.name in (cluster.context, cluster.name) or context.server == cluster.server.rstrip("/")


def _is_argo_cd(cluster: Cluster) -> bool:
    return cluster.server.rstrip("/") == ARGO_CD

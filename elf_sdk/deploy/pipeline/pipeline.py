"""What a pipeline has to know of an organisation. Pure: it follows from elf.yaml and the teams."""

from __future__ import annotations

from dataclasses import dataclass

from elf_sdk import __version__
from elf_sdk.models.llm import KEYLESS
from elf_sdk.settings import key_variable
from elf_sdk.team.project import Project

__all__ = ["Pipeline", "pipeline_of"]

_EXTRAS = ("crewai", "langgraph")
"""Frameworks that are an extra of elf-sdk; another comes with the project's own requirements.txt."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What is different between the pipelines of two organisations.

    Attributes:
        requirement: what pip installs, of this very version.
        directory: of the project, relative to the repository; `.` for the repository itself.
        branch: from which images are delivered.
        environments: those that teams are promoted to, in their order.
        registry: prefix of images; empty where only a variable of the pipeline says it.
        keys: variables with keys of models that the conversations need, sorted.
    """

    requirement: str
    directory: str
    branch: str
    environments: tuple[str, ...]
    registry: str
    keys: tuple[str, ...]


def pipeline_of(project: Project, directory: str, branch: str = "main") -> Pipeline:
    """The pipeline of a project.

    Args:
        project: the organisation and its teams.
        directory: where it is in its repository.
        branch: from which images are delivered.
    """
    specs = [team.spec for team in project.teams]
    frameworks = {spec.framework for spec in specs}
    extras = sorted({"tools"} | (frameworks & set(_EXTRAS)) | ({"mcp"} if any(spec.mcp for spec in specs) else set()))
    providers = {llm.provider for spec in specs for llm in spec.llm.chain()}
    first, *others = (environment.name for environment in project.organisation.environments)
    return Pipeline(
        f"elf-sdk[{','.join(extras)}]=={__version__}",
        directory,
        branch,
        tuple(others or [first]),
        project.organisation.registry,
        tuple(sorted(key_variable(provider) for provider in providers if provider not in KEYLESS)),
    )

"""A pipeline for GitLab: https://docs.gitlab.com/ci/yaml/.

The image is pinned by digest. Secrets are variables of the project, masked and protected there; none is an argument.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from elf_sdk.deploy.encode import yaml_text
from elf_sdk.deploy.pipeline import steps
from elf_sdk.deploy.pipeline.pipeline import Pipeline

__all__ = ["INCLUDE", "NEEDS", "gitlab"]

_IMAGE: Final = "python:3.12.12-slim-bookworm@sha256:593bd06efe90efa80dc4eee3948be7c0fde4134606dd40d8dd8dbcade98e669c"

INCLUDE: Final = ".gitlab/elf.yml"
"""The file with the jobs, which `.gitlab-ci.yml` includes."""

NEEDS: Final = (
    ("variable", "REGISTRY_USER, REGISTRY_PASSWORD", "may push images; masked"),
    ("variable", "GITOPS_TOKEN", "may push to this repository and to the GitOps repository; masked"),
    ("variable", "ELF_TOKEN", "a token for the teams whose conversations a promotion has; masked"),
    ("variable", "DOCKER_REGISTRY", "prefix of images, where elf.yaml names none"),
    ("variable", "GITOPS_REPO_URL", "the GitOps repository, where elf.yaml names none"),
    ("variable", "ELF_EVAL_URL", "where the teams are that a promotion asks, with {team} in it"),
)
"""What people have to set in the project: its kind, name and use."""

_TOOLS: Final = """\
apt-get update -qq && apt-get install -y -qq --no-install-recommends git ca-certificates >/dev/null
"""
_BUILDER: Final = """\
apt-get install -y -qq --no-install-recommends buildah >/dev/null
printf '%s' "$REGISTRY_PASSWORD" | buildah login --username "$REGISTRY_USER" --password-stdin "${DOCKER_REGISTRY%%/*}"
"""
_PUSH: Final = """\
git remote set-url origin "$CI_PROJECT_URL.git"
git checkout --quiet -B "$DELIVERED"
git config --global push.pushOption ci.skip
"""
_REVIEW: Final = """\
git config --global --add push.pushOption merge_request.create
"""
_NO_REVIEW: Final = """\
git config --global --replace-all push.pushOption ci.skip
"""


def gitlab(pipeline: Pipeline) -> dict[str, str]:
    """The file with the jobs, and the one that includes it, by path in the repository."""
    return {
        INCLUDE: "".join(_jobs(pipeline)),
        ".gitlab-ci.yml": f"include:\n  - local: {INCLUDE}\n",
    }


def _jobs(pipeline: Pipeline) -> Iterator[str]:
    yield "stages: [check, deliver, promote]\n\n"
    yield f".elf:\n  image: {_IMAGE}\n  variables:\n"
    yield from _variables({"ELF_SDK": pipeline.requirement, "DELIVERED": pipeline.branch, "GIT_DEPTH": "0"}, 4)
    yield from _variables(steps.IDENTITY, 4)
    yield "  before_script:\n"
    yield from _scripts([_TOOLS, f"cd {_word(pipeline.directory)}\n", steps.INSTALL])
    yield "\nelf check:\n  extends: .elf\n  stage: check\n  timeout: 30 minutes\n  rules:\n"
    yield '    - if: $CI_PIPELINE_SOURCE == "merge_request_event"\n    - if: $CI_COMMIT_BRANCH == $DELIVERED\n'
    yield "  script:\n"
    yield from _scripts([steps.CHECK, steps.PROVE, steps.CONVERSE])
    yield "\nelf deliver:\n  extends: .elf\n  stage: deliver\n  timeout: 1 hour\n  resource_group: elf\n  rules:\n"
    yield '    - if: $CI_COMMIT_BRANCH == $DELIVERED && $CI_PIPELINE_SOURCE == "push"\n  variables:\n'
    yield from _variables({"BRANCH": "elf/$CI_COMMIT_SHA", "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}, 4)
    if pipeline.registry:
        yield from _variables({"DOCKER_REGISTRY": pipeline.registry}, 4)
    yield "  script:\n"
    yield from _scripts([_BUILDER, steps.IMAGES, steps.SIGN_IN_TO_GIT, _PUSH, steps.RECORD, _REVIEW, steps.CHANGE])
    for environment in pipeline.environments:
        yield f"\n{yaml_text(f'elf promote to {environment}')}:\n"
        yield "  extends: .elf\n  stage: promote\n  timeout: 1 hour\n"
        yield f"  resource_group: elf\n  environment:\n    name: {yaml_text(environment)}\n    action: prepare\n"
        yield "  rules:\n"
        # A web pipeline that names a team: the variable is typed by a person, and reaches bash as a variable.
        yield '    - if: $CI_PIPELINE_SOURCE == "web" && $TEAM\n      when: manual\n  variables:\n'
        yield from _variables({"TO": environment, "BRANCH": "elf/promote-$CI_PIPELINE_ID"}, 4)
        yield "  script:\n"
        yield from _scripts([steps.SIGN_IN_TO_GIT, _PUSH, _REVIEW, steps.PROMOTE, _NO_REVIEW, steps.RECORD])


def _scripts(scripts: Sequence[str]) -> Iterator[str]:
    for script in scripts:
        yield "    - |\n" + textwrap.indent(script, " " * 6)


def _variables(variables: Mapping[str, str], indent: int) -> Iterator[str]:
    for name, value in variables.items():
        yield f"{' ' * indent}{name}: {yaml_text(value)}\n"


def _word(text: str) -> str:
    """A path as one word of bash."""
    return "'" + text.replace("'", "'\\''") + "'"

"""A pipeline as GitHub's workflows: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax.

Actions are pinned by commit, because a tag can be moved; a job may do no more than its steps need; a secret is named,
and reaches only the step that needs it; what people type reaches a script by a variable, never by its text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Final

from elf_sdk.deploy.encode import yaml_text
from elf_sdk.deploy.pipeline import steps
from elf_sdk.deploy.pipeline.pipeline import Pipeline

__all__ = ["NEEDS", "github"]

_CHECKOUT: Final = "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2"
_PYTHON: Final = "actions/setup-python@a309ff8b426b58ec0e2a45f0f869d46889d02405 # v6.2.0"

NEEDS: Final = (
    ("secret", "REGISTRY_USER, REGISTRY_PASSWORD", "may push images"),
    ("secret", "GITOPS_TOKEN", "may push branches to the GitOps repository and open pull requests there"),
    ("secret", "ELF_TOKEN", "a token for the teams whose conversations a promotion has, where they want one"),
    ("variable", "DOCKER_REGISTRY", "prefix of images, where elf.yaml names none"),
    ("variable", "GITOPS_REPO_URL", "the GitOps repository, where elf.yaml names none"),
    ("variable", "ELF_EVAL_URL", "where the teams are that a promotion asks, with {team} in it"),
)
"""What people have to set in the repository: its kind, name and use."""

_REVIEW: Final = """\
if [ -d gitops ]; then cd gitops; fi
if git ls-remote --exit-code --heads origin "$BRANCH" >/dev/null; then gh pr create --head "$BRANCH" --fill; fi
"""

_SIGN_IN_TO_REGISTRY: Final = """\
printf '%s' "$REGISTRY_PASSWORD" | docker login "${DOCKER_REGISTRY%%/*}" --username "$REGISTRY_USER" --password-stdin
"""


def github(pipeline: Pipeline) -> dict[str, str]:
    """The workflows, by path in the repository."""
    return {
        ".github/workflows/elf.yaml": "".join(_deliver(pipeline)),
        ".github/workflows/elf-promote.yaml": "".join(_promote(pipeline)),
    }


def _deliver(pipeline: Pipeline) -> Iterator[str]:
    yield "name: elf\n\n"
    yield f"on:\n  pull_request:\n  push:\n    branches: [{yaml_text(pipeline.branch)}]\n\n"
    yield from _common(pipeline)
    yield "concurrency:\n  group: elf-${{ github.ref }}\n"
    yield "  cancel-in-progress: ${{ github.event_name == 'pull_request' }}\n\n"
    yield "jobs:\n  check:\n    runs-on: ubuntu-24.04\n    timeout-minutes: 30\n    steps:\n"
    yield from _prepare(persist=False)
    yield from _step("Check teams and organisation", steps.CHECK)
    yield from _step("Prove the charts", steps.PROVE)
    yield from _step(
        "Have the recorded conversations",
        steps.CONVERSE,
        {key: _secret(key) for key in pipeline.keys},
        # A pull request from elsewhere gets no secret, and would fail for that alone.
        "github.event_name == 'push' || github.event.pull_request.head.repo.full_name == github.repository",
    )
    yield "\n  deliver:\n    needs: check\n    if: github.event_name == 'push'\n    runs-on: ubuntu-24.04\n"
    yield "    timeout-minutes: 60\n    permissions:\n      contents: write # records digests in images.lock.yaml\n"
    yield "      packages: write # only where the registry is GitHub's own\n"
    yield "      pull-requests: write # only where the GitOps repository is this one\n"
    fallback = f" || '{pipeline.registry}'" if pipeline.registry else ""
    registry = f"${{{{ vars.DOCKER_REGISTRY{fallback} }}}}"
    yield from _env({"DOCKER_REGISTRY": registry, **_gitops(pipeline, "elf/${{ github.sha }}")}, 4)
    yield "    steps:\n"
    yield from _prepare(persist=True)
    yield from _step(
        "Sign in to the registry",
        _SIGN_IN_TO_REGISTRY,
        {"REGISTRY_USER": _secret("REGISTRY_USER"), "REGISTRY_PASSWORD": _secret("REGISTRY_PASSWORD")},
    )
    yield from _step("Build and push the images", steps.IMAGES)
    yield from _step("Record their digests", steps.RECORD)
    yield from _change("Change the GitOps repository", steps.CHANGE)


def _promote(pipeline: Pipeline) -> Iterator[str]:
    choices = ", ".join(yaml_text(name) for name in pipeline.environments)
    yield "name: elf promote\nrun-name: Promote ${{ inputs.team }} to ${{ inputs.to }}\n\n"
    yield "on:\n  workflow_dispatch:\n    inputs:\n"
    yield "      team:\n        description: The team\n        required: true\n        type: string\n"
    yield "      to:\n        description: Where to\n        required: true\n        type: choice\n"
    yield f"        options: [{choices}]\n\n"
    yield from _common(pipeline)
    yield "concurrency:\n  group: elf-promote\n\n"
    yield "jobs:\n  promote:\n    runs-on: ubuntu-24.04\n    timeout-minutes: 60\n"
    yield "    environment: ${{ inputs.to }} # whose rules say who has to approve\n"
    yield "    permissions:\n      contents: write # records digests in images.lock.yaml\n"
    yield "      pull-requests: write # only where the GitOps repository is this one\n"
    yield from _env(_gitops(pipeline, "elf/promote-${{ github.run_id }}"), 4)
    yield "    steps:\n"
    yield from _prepare(persist=True)
    more = {
        "TEAM": "${{ inputs.team }}",
        "TO": "${{ inputs.to }}",
        "ELF_EVAL_URL": "${{ vars.ELF_EVAL_URL }}",
        "ELF_TOKEN": _secret("ELF_TOKEN"),
    }
    yield from _change("Promote", steps.PROMOTE, more)
    yield from _step("Record the digests", steps.RECORD)


def _common(pipeline: Pipeline) -> Iterator[str]:
    yield "permissions:\n  contents: read\n\n"
    yield from _env({"ELF_SDK": pipeline.requirement}, 0)
    yield f"\ndefaults:\n  run:\n    shell: bash\n    working-directory: {yaml_text(pipeline.directory)}\n\n"


def _gitops(pipeline: Pipeline, branch: str) -> dict[str, str]:
    return {
        "BRANCH": branch,
        "DELIVERED": pipeline.branch,
        "GITOPS_REPO_URL": "${{ vars.GITOPS_REPO_URL }}",
        **steps.IDENTITY,
    }


def _prepare(*, persist: bool) -> Iterator[str]:
    yield f"      - uses: {_CHECKOUT}\n        with:\n          persist-credentials: {'true' if persist else 'false'}\n"
    if persist:
        # What is committed here is pushed to a branch that others may have gone on with.
        yield "          fetch-depth: 0\n"
    yield f'      - uses: {_PYTHON}\n        with:\n          python-version: "3.12"\n'
    yield from _step("Install ELF", steps.INSTALL)


def _change(name: str, script: str, more: Mapping[str, str] | None = None) -> Iterator[str]:
    token = {"GITOPS_TOKEN": "${{ secrets.GITOPS_TOKEN || github.token }}"}
    yield from _step(name, steps.SIGN_IN_TO_GIT + script, {**token, **(more or {})})
    yield from _step("Propose it for review", _REVIEW, {"GH_TOKEN": token["GITOPS_TOKEN"], **token})


def _step(name: str, script: str, env: Mapping[str, str] | None = None, when: str = "") -> Iterator[str]:
    yield f"      - name: {name}\n"
    if when:
        yield f"        if: {when}\n"
    yield from _env(env or {}, 8)
    yield "        run: |\n" + textwrap.indent(script, " " * 10)


def _env(env: Mapping[str, str], indent: int) -> Iterator[str]:
    if env:
        pad = " " * indent
        yield f"{pad}env:\n"
        for name, value in env.items():
            yield f"{pad}  {name}: {yaml_text(value)}\n"


def _secret(name: str) -> str:
    return f"${{{{ secrets.{name} }}}}"

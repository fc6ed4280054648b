"""What the steps of a pipeline run: the same lines of bash on every forge, told apart by variables alone.

BRANCH            the branch on which a change of the GitOps repository is proposed
DELIVERED         the branch that images are delivered from
DOCKER_REGISTRY   prefix of images
GITOPS_TOKEN      may write to the GitOps repository; read from the environment by git's helper, never an argument
TEAM, TO          what is promoted, and where to
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CHANGE",
    "CHECK",
    "CONVERSE",
    "IDENTITY",
    "IMAGES",
    "INSTALL",
    "PROMOTE",
    "PROVE",
    "RECORD",
    "SIGN_IN_TO_GIT",
]

IDENTITY: Final = {
    "GIT_AUTHOR_NAME": "elf",
    "GIT_AUTHOR_EMAIL": "elf@noreply.invalid",
    "GIT_COMMITTER_NAME": "elf",
    "GIT_COMMITTER_EMAIL": "elf@noreply.invalid",
}
"""Variables: who commits."""

INSTALL: Final = """\
python -m pip install --quiet --disable-pip-version-check "$ELF_SDK"
if [ -f requirements.txt ]; then python -m pip install --quiet --disable-pip-version-check -r requirements.txt; fi
"""

CHECK: Final = """\
elf check
"""

PROVE: Final = """\
if [ -f charts/.elf-package.json ]; then
  elf package --check
else
  elf package --output "$(mktemp -d)/charts"
fi
"""

CONVERSE: Final = """\
for evals in teams/*/evals; do
  if [ -d "$evals" ]; then elf eval "$(basename "$(dirname "$evals")")"; fi
done
"""

IMAGES: Final = """\
elf image build --all
elf image push --all
"""

RECORD: Final = """\
git ls-files --others --modified -- 'teams/*/images.lock.yaml' | xargs --no-run-if-empty git add --
if ! git diff --cached --quiet; then
  git commit --quiet --message "Record the images that run"
  git push origin "HEAD:$DELIVERED"
fi
"""

SIGN_IN_TO_GIT: Final = """\
# shellcheck disable=SC2016 # git asks for the token when it needs it
git config --global credential.helper \\
  '!f() { test "$1" = get && printf "username=x-access-token\\npassword=%s\\n" "$GITOPS_TOKEN"; }; f'
"""

CHANGE: Final = """\
if ! elf gitops write --check; then
  elf gitops write
  elf gitops commit --branch "$BRANCH"
  elf gitops push --branch "$BRANCH"
fi
"""

PROMOTE: Final = """\
elf promote "$TEAM" --to "$TO" ${ELF_EVAL_URL:+--url "$ELF_EVAL_URL"} --branch "$BRANCH" --push
"""

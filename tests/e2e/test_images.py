"""Images: built without a daemon, pushed, pinned, and fit for a cluster that trusts nobody."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping

import pytest

from tests.e2e.organisation import ENVIRONMENTS, TEAMS, Company

pytestmark = pytest.mark.timeout(1200)


def test_every_image_is_in_the_registry_under_the_digest_that_the_lock_file_names(
    company: Company, images: Mapping[str, str]
) -> None:
    assert sorted(images) == sorted(TEAMS)
    for team, digest in images.items():
        reference = f"docker://{company.image(team, digest)}"
        done = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", "--config", reference],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        config = json.loads(done.stdout)["config"]
        assert config["User"].partition(":")[0].isdecimal(), "runs as a user that Kubernetes cannot tell from root"
        assert config["Labels"]["org.opencontainers.image.title"]


def test_only_the_first_environment_gets_the_new_digest(company: Company, images: Mapping[str, str]) -> None:
    assert images
    assert [company.digests(environment) for environment in ENVIRONMENTS[1:]] == [{}, {}]

"""`elf promote` and `elf upgrade`, as a platform engineer and a pipeline meet them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from elf_sdk.runs.events import TextDelta
from elf_sdk.settings import Settings
from elf_sdk.testing import ScriptedAdapter, Served, serve
from tests.deploy.organisations import elf
from tests.images.machines import registry
from tests.server.conftest import team

from .conftest import Site, digest, promote

EVAL = "name: It greets\nturns:\n  - say: hello\n    expect:\n      - contains: Good morning\n"


@pytest.fixture
def alone(tmp_path: Path) -> Site:
    """One team, with an eval, in dev."""
    site = Site(tmp_path, teams={"boss": {}})
    evals = site.root / "teams" / "boss" / "evals"
    evals.mkdir()
    (evals / "greets.yaml").write_text(EVAL, encoding="utf-8")
    site.release("1.0.0", 1)
    return site


@asynccontextmanager
async def running(site: Site, says: str, number: int) -> AsyncGenerator[Served, None]:
    """The team as it runs in dev, by the image of that number."""
    settings = Settings(store=str(site.directory / "elf.db"), image_digest=digest(number))
    server = team("boss", ScriptedAdapter({"hello": (TextDelta(says),)}))
    async with serve(server, settings=settings) as served:
        yield served


async def run(site: Site, served: Served, *options: str) -> subprocess.CompletedProcess[str]:
    url, token = served.url("boss"), served.issuer.user_token("ci", "boss")
    command = ("promote", "boss", "--to", "staging", "--url", url, *options)
    return await asyncio.to_thread(lambda: elf(*command, cwd=site.root, ELF_TOKEN=token))


async def test_a_team_is_asked_where_it_runs_and_then_promoted(alone: Site) -> None:
    async with running(alone, "Good morning!", 1) as served:
        done = await run(alone, served, "--push")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ boss: It greets" in done.stdout
    assert f"staging: boss 1.0.0, image {digest(1)}" in done.stdout
    message = alone.log()
    assert f"boss: 1 of 1 evals right, answered by {digest(1)}." in message
    assert "Elf-Evals: 1 right" in message
    assert alone.lock("boss") == {"dev": digest(1), "staging": digest(1)}
    repository = alone.clone("another")
    assert repository.git("log", "-1", "--format=%s") == "Promote boss 1.0.0 from dev to staging\n"


async def test_each_of_several_teams_is_asked_with_its_own_token(alone: Site, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    async with running(alone, "Good morning!", 1) as served:
        (tokens / "boss").write_text(served.issuer.user_token("ci", "boss") + "\n")
        command = ("promote", "--all", "--to", "staging", "--url", served.url("boss").replace("boss", "{team}"))
        done = await asyncio.to_thread(lambda: elf(*command, cwd=alone.root, ELF_TEAM_TOKENS=str(tokens)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Elf-Evals: 1 right" in alone.log()


@pytest.mark.parametrize(
    ("says", "number", "why"),
    [
        ("Good night!", 1, "contains: Good morning: the answer does not hold it"),
        ("Good morning!", 2, f"image: {digest(1)}: {digest(2)} answered"),
    ],
)
async def test_nothing_is_promoted_when_an_eval_or_the_image_is_wrong(
    alone: Site, says: str, number: int, why: str
) -> None:
    before = alone.log()
    async with running(alone, says, number) as served:
        done = await run(alone, served)
    assert done.returncode == 1
    assert why in done.stdout
    assert "boss did not get all evals right in dev; nothing was promoted" in done.stderr
    assert alone.log() == before
    assert alone.lock("boss") == {"dev": digest(1)}


def test_evals_are_skipped_only_with_a_word_about_it(alone: Site) -> None:
    unknown = elf("promote", "boss", "--to", "staging", cwd=alone.root)
    assert (unknown.returncode, "it is not known where boss is in dev: give --url" in unknown.stderr) == (2, True)
    done = elf("promote", "boss", "--to", "staging", "--skip-evals", "--json", cwd=alone.root)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["teams"] == [
        {
            "team": "boss",
            "environment": "staging",
            "before": None,
            "after": {"version": "1.0.0", "digest": digest(1), "library": alone.data("dev", "boss")["library"]},
        }
    ]
    assert "Evals were skipped, by --skip-evals." in alone.log()
    assert "Elf-Evals: skipped" in alone.log()


def test_a_rollback_and_an_upgrade_from_the_command_line(alone: Site) -> None:
    for number, version in ((1, "1.0.0"), (2, "1.1.0")):
        alone.release(version, number)
        promote(alone, "staging")
    done = elf("promote", "boss", "--rollback", "--env", "staging", cwd=alone.root)
    assert done.returncode == 0, done.stderr
    assert "staging: boss 1.1.0 → 1.0.0" in done.stdout
    assert alone.data("staging", "boss")["digest"] == digest(1)
    done = elf("upgrade", "--env", "dev", cwd=alone.root)
    assert (done.returncode, "every chart in dev has the library" in done.stdout) == (0, True)


def test_what_is_typed_wrongly_is_said(alone: Site) -> None:
    for words, why in (
        (["boss"], "say where to: elf promote TEAM --to staging"),
        (["--to", "staging"], "name the teams to promote, or give --all"),
        (["boss", "--rollback"], "a rollback names its teams and its environment"),
        (["boss", "--to", "prod"], "boss is not in staging, and no environment is skipped"),
    ):
        done = elf("promote", *words, cwd=alone.root)
        assert (done.returncode, why in done.stderr) == (2, True), done.stderr


@pytest.mark.skipif(shutil.which("docker-registry") is None, reason="docker-registry is not here; install it")
def test_an_image_that_the_registry_does_not_have_is_not_promoted(tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host:
        site = Site(tmp_path, {"registry": f"{host}/agents"}, {"boss": {}})
        there = pushed(host, "agents/boss")
        site.release("1.0.0", 1)
        command = ("promote", "boss", "--to", "staging", "--skip-evals")
        done = elf(*command, cwd=site.root)
        assert done.returncode == 1
        assert f"the registry does not have {host}/agents/boss@{digest(1)}; push it with elf image push" in done.stderr
        site.release("1.0.0", there)
        assert elf(*command, cwd=site.root).returncode == 0
        assert site.data("staging", "boss")["digest"] == digest(there)
    site.release("1.0.1", 1)
    done = elf(*command, cwd=site.root)
    assert (done.returncode, f"the registry {host} is not reached" in done.stderr) == (1, True)
    assert elf(*command, "--offline", cwd=site.root).returncode == 0


def pushed(host: str, repository: str) -> int:
    """Push an image of nothing; its digest as a number."""
    content = b"{}"
    name = f"sha256:{hashlib.sha256(content).hexdigest()}"
    base = f"http://{host}/v2/{repository}"
    place = httpx.post(f"{base}/blobs/uploads/").headers["Location"]
    httpx.put(place, params={**httpx.URL(place).params, "digest": name}, content=content).raise_for_status()
    kind = "application/vnd.oci.image.manifest.v1+json"
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(content), "digest": name}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []})
    done = httpx.put(f"{base}/manifests/1.0.0", content=manifest, headers={"Content-Type": kind})
    return int(done.raise_for_status().headers["Docker-Content-Digest"].removeprefix("sha256:"), 16)

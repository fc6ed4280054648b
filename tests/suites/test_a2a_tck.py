"""The A2A TCK (1.0) against our server, over JSON-RPC and HTTP+JSON; docs/topics/conformance.md says what it shows."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.postgres import INSTALL, binaries, running
from tests.suites.support import suite
from tests.suites.tck import Outcome, run

SUITE = "a2a-tck"
SOURCE = "-b 1.0-dev https://github.com/a2aproject/a2a-tck"

PLACE = suite(SUITE, SOURCE)
if not (PLACE / ".venv" / "bin" / "python").exists():
    pytest.skip(
        f"{SUITE} is not run: it needs an environment; python3 -m venv {PLACE}/.venv, and "
        f"{PLACE}/.venv/bin/pip install -e {PLACE}",
        allow_module_level=True,
    )

pytestmark = pytest.mark.timeout(600)

WRONG = {
    # It wants a file of an unknown type to be taken, where its own text and section 3.1.1 want it to be refused.
    "test_requirements::test_must_requirement[CORE-SEND-003-jsonrpc]",
    "test_requirements::test_must_requirement[CORE-SEND-003-http_json]",
}
"""Tests of the suite that contradict the specification."""

WRONG_OVER_GRPC = {
    "test_requirements::test_must_requirement[CORE-SEND-003-grpc]",
    # UNIMPLEMENTED is what 1.0.0 had; since 1.0.1 section 5.4 has FAILED_PRECONDITION.
    "TestGrpcStatusCodes::test_version_not_supported_returns_unimplemented",
}

OLD_FIELDS = "TestAgentCardStructure::test_agent_card_validates_against_schema"
"""Its schema, which calls itself non-normative, allows no other fields; section 5.7 wants them ignored."""


def told(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> Outcome:
    """Show what the suite counted."""
    with capsys.disabled():
        print(f"\n{outcome}")  # noqa: T201 - for the file of results
        for name, why in outcome.failed.items():
            print(f"  failed: {name}: {why[:160]}")  # noqa: T201
        for why, number in Counter(outcome.skipped.values()).items():
            print(f"  {number} skipped: {why}")  # noqa: T201
    return outcome


def test_sqlite(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = told(run(PLACE), capsys)
    assert outcome.failed.keys() == WRONG
    assert outcome.counts["passed"] > 150


@pytest.mark.parametrize("replicas", [1, 2])
def test_postgresql(replicas: int, capsys: pytest.CaptureFixture[str]) -> None:
    programs = binaries()
    if programs is None:
        pytest.skip(INSTALL)
    with running(programs) as server:
        outcome = told(run(PLACE, server.url(server.database()), replicas), capsys)
    assert outcome.failed.keys() == WRONG
    assert outcome.counts["passed"] > 150


def test_grpc(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("grpc", reason="gRPC is not installed; pip install 'elf-sdk[grpc]'")
    outcome = told(run(PLACE, bindings="grpc"), capsys)
    assert outcome.failed.keys() == WRONG_OVER_GRPC
    assert outcome.counts["passed"] >= 70


def test_clients_of_03_are_answered_too(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = told(run(PLACE, compatible=True, arguments=("-k", "agent_card or Format")), capsys)
    assert outcome.failed.keys() == {OLD_FIELDS}


def test_a_team_that_does_not_stream(capsys: pytest.CaptureFixture[str]) -> None:
    which = "unsupported_operation or streaming_not_supported or StreamingNot"
    outcome = told(run(PLACE, stream=False, arguments=("-k", which)), capsys)
    assert outcome.failed == {}
    assert outcome.counts["passed"] >= 3

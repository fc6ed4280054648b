"""What travels from team to team: which shapes are taken, and what makes a repeat the same message."""

from __future__ import annotations

from typing import Any

import pytest

from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import Owner
from elf_sdk.server.a2a.codec import run_request
from elf_sdk.server.a2a.propagation import DEADLINE, DELEGATION, deadline_of, delegation_of, propagated
from elf_sdk.server.a2a.values import Message, Part

CALLER = Owner("elf:acme:dev", "team:executive")
WAY = {"chain": ["ceo", "executive"], "delegation_id": "d1", "user": "ada"}


def request(metadata: dict[str, Any]) -> Any:
    return run_request(Message("m1", "ROLE_USER", (Part("text", "go"),), metadata=metadata), "painting", CALLER, 3)


def test_what_is_sent_is_what_is_taken() -> None:
    metadata = propagated(WAY, 12.5)
    assert metadata == {DELEGATION: WAY, DEADLINE: 12.5}
    assert delegation_of(metadata, "painting", CALLER, 2) == WAY
    assert deadline_of(metadata) == 12.5
    assert propagated(None, None) == {}
    assert (delegation_of({}, "painting", CALLER, 2), deadline_of({})) == ({}, None)


def test_a_repeat_has_less_time_and_is_the_same_request() -> None:
    first, again = request(propagated(WAY, 60)), request(propagated(WAY, 59.2))
    assert (first.deadline, again.deadline) == (60, 59.2)
    assert first.digest == again.digest == request(propagated(WAY, None)).digest
    assert request(propagated({**WAY, "user": "eve"}, 60)).digest != first.digest


def test_what_a_later_release_adds_is_left_out() -> None:
    later = {DELEGATION: {**WAY, "colour": "blue"}, "urn:elf:a2a:colour:v9": "blue"}
    assert request(later).metadata == {"message_id": "m1", **WAY}


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf"), True, "60", [60], 10**9])
def test_a_deadline_that_is_none_is_refused_on_both_sides(deadline: Any) -> None:
    with pytest.raises(BadInput, match="seconds that are left, above 0 and at most"):
        propagated(None, deadline)
    with pytest.raises(BadInput, match="seconds that are left"):
        request({DEADLINE: deadline})


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ({"chain": "executive"}, "chain must be a list of team names"),
        ({"chain": ["executive", 1]}, "chain must be a list of team names"),
        ({"chain": ["", "executive"]}, "chain must be a list of team names"),
        ({"chain": ["x" * 257]}, "chain must be a list of team names"),
        ({"chain": ["t"] * 65}, "chain must be a list of team names, at most 64"),
        ({"delegation_id": 7}, "must be text of 1 to 256 characters"),
        ({"user": "u" * 257}, "must be text of 1 to 256 characters"),
    ],
)
def test_a_way_that_is_malformed_is_refused_on_both_sides(way: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        propagated(way, None)
    with pytest.raises(BadInput, match=said):
        request({DELEGATION: way})


def test_a_way_that_cannot_be_is_refused_where_it_arrives() -> None:
    with pytest.raises(BadInput, match="must be an object"):
        request({DELEGATION: ["executive"]})
    with pytest.raises(BadInput, match="'marketing', as its chain says, but 'executive' sent it"):
        request({DELEGATION: {"chain": ["marketing"]}})
    workload = Owner("https://kubernetes.default.svc", "system:serviceaccount:elf-teams:executive")
    with pytest.raises(BadInput, match="'marketing', as its chain says, but 'executive' sent it"):
        delegation_of({DELEGATION: {"chain": ["marketing"]}}, "painting", workload, 3)
    assert delegation_of({DELEGATION: WAY}, "painting", workload, 3) == WAY
    # A person's name says nothing of teams, whatever it is.
    person = Owner("elf:acme:dev", "user:team:executive")
    assert delegation_of({DELEGATION: {"chain": ["marketing"]}}, "painting", person, 3) == {"chain": ["marketing"]}
    with pytest.raises(BadInput, match="cannot go in a circle"):
        request({DELEGATION: {"chain": ["painting", "executive"]}})
    with pytest.raises(BadInput, match="at a depth of 3 at most"):
        request({DELEGATION: {"chain": ["a", "b", "c", "executive"]}})

from __future__ import annotations

from pathlib import Path

from elf_sdk.team.org import Edge, Half, Org
from elf_sdk.team.project import survey
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Member

from .conftest import Write


def team(name: str, reports_to: str | None = None, manages: str = "", peers: str = "") -> TeamSpec:
    return TeamSpec(
        name=name,
        reports_to=reports_to,
        manages=tuple(manages.split()),
        peers=tuple(peers.split()),
        members=(Member(role="Lead", is_manager=True),),
    )


def org() -> Org:
    return Org(
        [
            team("brand", "marketing", peers="engineering"),
            team("top", manages="marketing engineering"),
            team("marketing", "top", manages="brand lonely"),
            team("engineering", "top", peers="brand marketing"),
            team("lonely"),
        ]
    )


def test_the_tree() -> None:
    tree = org()
    assert list(tree.teams) == ["brand", "engineering", "lonely", "marketing", "top"]
    assert tree.roots == ("lonely", "top")
    assert tree.parent("brand") == "marketing"
    assert tree.parent("top") is None
    assert tree.children("top") == ("engineering", "marketing")
    assert tree.children("marketing") == ("brand",)
    assert tree.chain("brand") == ("brand", "marketing", "top")
    assert [tree.depth(name) for name in ("top", "marketing", "brand")] == [0, 1, 2]
    assert tree.peers("brand") == ("engineering",)
    assert tree.cycles() == ()


def test_only_what_both_sides_name_is_an_edge() -> None:
    assert org().edges() == (
        Edge("manages", "marketing", "brand"),
        Edge("manages", "top", "engineering"),
        Edge("manages", "top", "marketing"),
        Edge("peers", "brand", "engineering"),
    )
    assert org().halves() == (
        Half("engineering", ("peers", 1), "marketing", "add 'engineering' under peers"),
        Half("marketing", ("manages", 1), "lonely", "write reports_to: marketing"),
    )


def test_work_goes_down_and_sideways_and_never_up_or_across() -> None:
    tree = org()
    assert tree.may_call("top", "marketing")
    assert tree.may_call("brand", "engineering")
    assert tree.may_call("engineering", "brand")
    assert not tree.may_call("marketing", "top")
    assert not tree.may_call("top", "brand")
    assert not tree.may_call("marketing", "lonely")
    assert not tree.may_call("engineering", "marketing")
    assert not tree.may_call("stranger", "marketing")
    assert not tree.may_call("marketing", "marketing")
    assert tree.callees("top") == ("engineering", "marketing")
    assert tree.callers("brand") == ("engineering", "marketing")
    for caller in tree.teams:
        for callee in tree.teams:
            allowed = tree.may_call(caller, callee)
            assert allowed == (callee in tree.callees(caller)) == (caller in tree.callers(callee))


def test_circles_are_found_and_do_not_hang_the_tree() -> None:
    tree = Org(
        [
            team("a", "c", "b"),
            team("b", "a", "c"),
            team("c", "b", "a d"),
            team("d", "c"),
            team("x", "y"),
            team("y", "x"),
        ]
    )
    assert tree.cycles() == (("a", "c", "b", "a"), ("x", "y", "x"))
    assert tree.chain("d") == ("d", "c", "b", "a")
    assert tree.roots == ("x", "y")


def test_a_deep_chain_needs_no_recursion() -> None:
    names = [f"t{number}" for number in range(3000)]
    above = [None, *names]
    below = [*names[1:], ""]
    tree = Org(team(name, above[i], below[i]) for i, name in enumerate(names))
    assert tree.depth("t2999") == 2999
    assert tree.cycles() == ()


def said(write: Write, **texts: str) -> list[str]:
    for name, text in texts.items():
        write(name, text)
    return [f"{problem.severity}: {problem}" for problem in survey(Path()).problems]


def test_a_circle_is_named(write: Write) -> None:
    assert said(
        write, a="reports_to: c\nmanages: [b]\n", b="reports_to: a\nmanages: [c]\n", c="reports_to: b\nmanages: [a]\n"
    ) == [
        "error: teams/a/team.yaml:3: reports_to: a → c → b → a report to each other in a circle; cut it at one of them"
    ]


def test_unknown_teams_are_told_with_those_that_there_are(write: Write) -> None:
    assert said(write, a="reports_to: x\nmanages:\n  - b\n  - y\npeers: [z]\n", b="reports_to: a\n") == [
        "error: teams/a/team.yaml:3: reports_to: there is no team 'x'; there are: a, b",
        "error: teams/a/team.yaml:6: manages[1]: there is no team 'y'; there are: a, b",
        "error: teams/a/team.yaml:7: peers[0]: there is no team 'z'; there are: a, b",
    ]


def test_an_executive_answers_for_teams_that_exist(write: Write) -> None:
    write("a", "name: a\nmembers:\n  - {role: CMO, is_manager: true}\n  - role: CTO\n    manages: [q]\n", manager=False)
    assert said(write, b="delegation: {approvals: [{role: cfo, target: r}]}\n") == [
        "error: teams/a/team.yaml:5: members[1].manages[0]: there is no team 'q'; there are: a, b",
        "error: teams/b/team.yaml:3: delegation.approvals[0].target: there is no team 'r'; there are: a, b",
    ]


def test_two_teams_of_one_name_are_both_named(write: Write) -> None:
    write("b", "name: a\nmembers: [{role: Lead, is_manager: true}]\n", manager=False)
    assert said(write, a="") == [
        "error: teams/b/team.yaml:1: name: 'a' stands in the directory 'b'; give both the same name",
        (
            "error: teams/b/team.yaml:1: name: 'a' is also the name of the team in teams/a/team.yaml; "
            "write another name in one of them"
        ),
    ]


def test_a_team_has_one_manager(write: Write) -> None:
    assert said(write, a="manages: [c]\n", b="manages: [c]\n", c="reports_to: b\n") == [
        (
            "error: teams/a/team.yaml:3: manages[0]: 'c' is already managed by 'b' in teams/b/team.yaml; "
            "remove it in one of them"
        )
    ]


def test_half_edges_are_warnings_that_say_what_is_missing(write: Write) -> None:
    assert said(write, a="manages: [b]\n", b="peers: [c]\n", c="reports_to: a\n") == [
        (
            "warning: teams/a/team.yaml:3: manages[0]: 'b' does not say so, and the edge does not count; "
            "write reports_to: a in teams/b/team.yaml"
        ),
        (
            "warning: teams/b/team.yaml:3: peers[0]: 'c' does not say so, and the edge does not count; "
            "add 'b' under peers in teams/c/team.yaml"
        ),
        (
            "warning: teams/c/team.yaml:3: reports_to: 'a' does not say so, and the edge does not count; "
            "add 'c' under manages in teams/a/team.yaml"
        ),
    ]

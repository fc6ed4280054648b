# ruff: noqa: E501 - sentences are quoted whole, as they are read

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from elf_sdk.errors import BadInput, BadSpec
from elf_sdk.team.load import load_team, read_organisation
from elf_sdk.team.organisation import Organisation
from elf_sdk.team.project import find_project, survey

from .conftest import Write


def problems(path: Path = Path()) -> list[str]:
    return [str(problem) for problem in survey(path).problems]


def only(write: Write, text: str | bytes, *, manager: bool = True) -> list[str]:
    """What is said about one team file, without the file's name."""
    write("a-team", text, manager=manager)
    prefix = "teams/a-team/team.yaml"
    found = problems()
    assert all(problem.startswith(prefix) for problem in found)
    return [problem.removeprefix(prefix + ":").strip() for problem in found]


def test_a_right_team_is_read(write: Write) -> None:
    path = write("a-team", "version: 1.2.3\nchat: {top_level: true}\n")
    assert load_team(path).version == "1.2.3"
    assert load_team(path.parent) == load_team(path)
    assert load_team(path).chat.top_level
    assert load_team(path).manager.role == "Lead"


# Lines count from the two that every team has: name and members.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("verson: 1.0.0\n", "3: verson: there is no such field; did you mean 'version'?"),
        ("chat:\n  topp: 1\n", "4: chat.topp: there is no such field; the fields here are: enabled, top_level, "),
        ("<<: 1\n", "3: <<: merge keys are no part of YAML 1.2; write the fields out, or use an alias for a whole value"),
        ("chat:\n  enabled: no\n", "4: chat.enabled: 'no' is neither true nor false; write one of them, without quotes"),
        ("version: 1.10\n", '3: version: 1.10 is no text; write it in quotes, "1.10"'),
        ("version: 1.0.0.0\n", "3: version: '1.0.0.0' is no semantic version; write three numbers such as 1.4.0, or 1.4.0-rc.1"),
        ("purpose: [a]\n", "3: purpose: a list is no text; write one text"),
        ('replicas: "3"\n', "3: replicas: '3' is no whole number; write one, without quotes"),
        ("replicas: 2.5\n", "3: replicas: 2.5 is no whole number; write one, without quotes"),
        ("replicas: 2000\n", "3: replicas: 2000 is too large; write at most 1000"),
        ("chat:\n  messages_per_minute: 0\n", "4: chat.messages_per_minute: 0 is too small; write at least 1"),
        ("manages: b-team\n", "3: manages: 'b-team' is no list; write one item a line, each after a dash"),
        ("chat: on\n", "3: chat: 'on' has no fields; write fields below it, such as `key: value`"),
        ("chat:\n", "3: chat: it is empty; write a value, or remove the field"),
        ("llm: {temperature: .inf}\n", "3: llm.temperature: inf is not finite; write a number"),
        ("llm: {temperature: hot}\n", "3: llm.temperature: 'hot' is no number; write one, without quotes"),
        (
            "llm: {provider: opnai}\n",
            ("3: llm.provider: 'opnai' is not known; write one of: offline, openai, anthropic, openrouter, ollama, "
            "compatible; did you mean 'openai'?"),
        ),
        ("format: elf/v2\n", "3: format: 'elf/v2' is not known; write elf/v1"),
        (
            "llm: {provider: compatible}\n",
            "3: llm.base_url: the provider 'compatible' needs it; write the address of the endpoint",
        ),
        (
            "framework: langgraph\nllm:\n  provider: anthropic\n  fallbacks:\n    - {provider: openai}\n",
            ("7: llm.fallbacks[0].provider: langgraph speaks to anthropic by its own API, which 'openai' does not have; "
            "write an anthropic model, or put this one first and anthropic behind it"),
        ),
        (
            "llm: {base_url: 'https://me:pass@x.example'}\n",
            ("3: llm.base_url: 'https://me:pass@x.example' is no address; write an address that starts with http:// or "
            "https:// and holds no user name or password"),
        ),
        (
            "runs: {deadline: 30}\n",
            '3: runs.deadline: 30 is no text; write it in quotes, "30"',
        ),
        (
            "runs: {deadline: 30 min}\n",
            ("3: runs.deadline: '30 min' is no duration; write a whole number and a unit (ms, s, m, h or d), "
            "such as 30s, 5m or 2h"),
        ),
        (
            "budget: {per_day: lots}\n",
            ("3: budget.per_day: 'lots' is no amount; write a number from 0 in the organisation's currency, such as 2.5, "
            "or tokens, such as '200000 tokens'"),
        ),
        ("egress: {cidrs: [10.0.0.1/8]}\n", "3: egress.cidrs[0]: '10.0.0.1/8' is no network as Kubernetes writes it; write 10.0.0.0/8"),
        ("mcp:\n  - name: x\n", "4: mcp[0]: write either url (streamable HTTP) or command (stdio)"),
        (
            "mcp:\n  - name: x\n    command: [x]\n    token_env: KEY\n",
            "4: mcp[0]: token_env is sent to a url; name what a command needs in env",
        ),
        (
            "mcp:\n  - name: x\n    url: https://x.example\n    env: [KEY]\n",
            "4: mcp[0]: env is for a command; name the variable with a url's token in token_env",
        ),
        ("evals: ../../etc\n", "3: evals: '../../etc' is no relative path; write one that stays inside its directory, without .., such as evals/"),
        ('display_name: "a\\u0007b"\n', "3: display_name: 'a\\x07b' is no line of text; write one line of text without control characters"),
        ('purpose: "a\\u0000b"\n', "3: purpose: 'a\\x00b' is no plain text; write text without tabs and control characters; line breaks are fine"),
        ("skills:\n  - {id: a, name: A}\n  - {id: a, name: B}\n", "5: skills[1].id: 'a' is there twice; remove one"),
        ("reports_to: a-team\n", "3: reports_to: a team cannot report to itself; write the team above it, or remove the field"),
        ("secrets: [{name: KEY, from: {secret: s, key: k}, mount: file}]\n", "3: secrets[0].mount: there is no such field; the fields here are: name, from, as"),
        ("secrets:\n  - {name: KEY, from: {secret: s}}\n", "4: secrets[0].from.key: it is missing; add `key: …`"),
        (
            "runs: {store: ephemeral}\nreplicas: 2\n",
            ("3: runs.store: an ephemeral store serves one replica only; write replicas: 1 and no autoscaling, "
            "or store: default"),
        ),
        (
            "environments:\n  qa: {replicas: 1}\n",
            "4: environments.qa: elf.yaml knows no environment 'qa'; write one of: dev, staging, prod, or add it there",
        ),
        (
            "environments:\n  prod:\n    llm: {provider: compatible}\n",
            "5: environments.prod.llm.base_url: the provider 'compatible' needs it; write the address of the endpoint",
        ),
        (
            "autoscaling: {max_replicas: 2}\nenvironments:\n  prod:\n    autoscaling: {min_replicas: 5}\n",
            "6: environments.prod.autoscaling.min_replicas: 5 is more than max_replicas, 2; write at most that",
        ),
        (
            "environments:\n  prod: {namespace: elf-teams-dev}\n",
            ("4: environments.prod.namespace: 'prod' and 'dev' would share the namespace 'elf-teams-dev' "
            "of the cluster 'in-cluster'; give one of them another"),
        ),
        ("environments: {prod: {cluster: moon}}\n", "3: environments.prod.cluster: there is no cluster 'moon' in elf.yaml; write one of: in-cluster"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_told_with_line_and_remedy(write: Write, text: str, expected: str) -> None:
    (said,) = only(write, text)
    assert said == expected or (expected.endswith(", ") and said.startswith(expected))


@pytest.mark.parametrize(
    "llm",
    [
        "framework: crewai\nllm: {provider: openai, fallbacks: [{provider: anthropic}]}\n",
        "framework: crewai\nllm: {provider: anthropic, fallbacks: [{provider: anthropic, model: other}]}\n",
        "framework: function\nllm: {provider: anthropic, fallbacks: [{provider: openai}]}\n",
    ],
)
def test_models_that_understand_the_same_requests_stand_in_for_each_other(write: Write, llm: str) -> None:
    assert only(write, llm) == []


def test_a_name_that_is_no_dns_label_gets_a_suggestion(write: Write) -> None:
    said = only(write, "name: My Brand_Team\nmembers: [{role: Lead, is_manager: true}]\n", manager=False)
    assert said == [
        (
            "1: name: 'My Brand_Team' is no team name; write lower-case letters, digits and dashes, starting with a letter, "
            "at most 45 characters, such as 'my-brand-team'"
        )
    ]
    assert only(write, f"name: {'a' * 46}\nmembers: [{{role: Lead, is_manager: true}}]\n", manager=False) == [
        "1: name: it has 46 characters; write at most 45"
    ]


def test_a_name_that_differs_from_the_directory(write: Write) -> None:
    text = "name: b-team\nmembers: [{role: Lead, is_manager: true}]\n"
    assert only(write, text, manager=False) == [
        "1: name: 'b-team' stands in the directory 'a-team'; give both the same name"
    ]
    # A container's directory is called what it likes.
    assert load_team(Path("teams/a-team")).name == "b-team"


def test_every_problem_is_told_at_once_in_the_order_of_the_file(write: Write) -> None:
    text = """\
        name: a-team
        verson: "2"
        peers: [b-team, b-team]
        members:
          - role: one
            is_manger: true
          - title: two
        chat: {enabled: 1}
        environments:
          prod: {llm: {provider: compatible}}
          Prod 2: {}
        chat: {}
    """
    lines = [line[8:] for line in text.splitlines()]
    assert only(write, "\n".join(lines), manager=False) == [
        "2: verson: there is no such field; did you mean 'version'?",
        "3: peers[1]: 'b-team' is there twice; remove one",
        "6: members[0].is_manger: there is no such field; did you mean 'is_manager'?",
        "7: members[1].role: it is missing; add `role: …`",
        "8: chat.enabled: 1 is neither true nor false; write one of them, without quotes",
        "10: environments.prod.llm.base_url: the provider 'compatible' needs it; write the address of the endpoint",
        (
            "11: environments.Prod 2: 'Prod 2' is no label; write lower-case letters, digits and dashes, "
            "starting with a letter, such as 'prod-2'"
        ),
        "12: chat: it is there twice, first in line 8; remove one",
    ]


def test_what_has_to_be_there(write: Write) -> None:
    assert only(write, "purpose: x\n", manager=False) == [
        "1: name: it is missing; add `name: …`",
        "1: members: it is missing; add `members: …`",
    ]
    assert only(write, "name: a-team\nmembers: []\n", manager=False) == ["2: members: it is empty; write at least one"]
    assert only(write, "name: a-team\nmembers: [{role: x}]\n", manager=False) == [
        "2: members: no member leads the team; write is_manager: true at one of them"
    ]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it is empty; start with `name:`"),
        ("# only a comment\n---\n", "it is empty; start with `name:`"),
        ("- a\n", "1: it holds a list; write fields such as `name: …`"),
        ("hello\n", "1: it holds 'hello'; write fields such as `name: …`"),
        ("name: [a\npurpose: b\n", "2: this is not YAML (column 8): check the indentation, the quotes and the brackets of this line and the one above"),
        ("name:\n\tx: 1\n", "2: this is not YAML (column 1): indent with spaces, not with tabs"),
        ("name: @x\n", "1: this is not YAML (column 7): put text that starts with @ in quotes"),
        ('name: "x\n', "1: this is not YAML (column 7): close the quote or bracket that was opened"),
        ("name: a: b\n", "1: this is not YAML (column 8): put text with a colon in quotes, and check the indentation"),
        ("a: 1\n---\nb: 2\n", "2: a second document starts here; write one document a file"),
        ("name: x\x00y\n", "1: it holds the control character U+0000; remove it"),
        ("a: 1\nb: \x1b[31m\n", "2: it holds the control character U+001B; remove it"),
        (b"a: 1\nb: \xff\n", "2: this is not UTF-8; save the file in that encoding"),
        ("x: 1\n" * 300_000, "it is larger than 1 MiB; move long texts into files of their own"),
        ("a: " + "[" * 5000, "1: it nests deeper than 40 levels; write it flatter"),
        ("".join(" " * n + "a:\n" for n in range(60)), "41: it nests deeper than 40 levels; write it flatter"),
        (BOMB, "it holds more than 50000 values once its aliases are expanded; write less"),
        ("a: &a [*a]\n", "1: a[0]: the anchor &a contains itself; write the value out"),
        ("a: *nowhere\n", "1: a: there is no anchor &nowhere above; define it, or write the value out"),
        ("? [a]\n: b\n", "1: a key is a list or a group of fields here; write a name and a colon"),
        ("a: {? {b: c} : d}\n", "1: a: a key is a list or a group of fields here; write a name and a colon"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_in_one_sentence(write: Write, text: str | bytes, expected: str) -> None:
    began = time.monotonic()
    (said,) = only(write, text, manager=False)
    assert expected in said
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"field{number}: 1" for number in range(20_000)),
        "name: a-team\nmembers: [" + "{}," * 40_000 + "]",
        "name: a-team\n" * 20_000,
        "name: a-team\nmembers: [{role: x, is_manager: true}]\npeers: ["
        + ",".join(f"t{n}" for n in range(45_000))
        + "]\nx: 1",
        "[" * 1_000_000,
        "- " * 500_000,
        "? " * 500_000,
        "{a: " * 250_000,
        '"' + "\\" * 500_000,
        "&a " * 300_000,
        "#" * 1_000_000,
        "a: >\n" + " \n" * 400_000,
    ],
    ids=range(12),
)
def test_a_hostile_file_costs_little_and_is_answered_briefly(write: Write, text: str) -> None:
    began = time.monotonic()
    said = only(write, text, manager=False)
    assert 0 < len(said) <= 202
    assert max(map(len, said)) < 1000
    assert time.monotonic() - began < 5


def test_a_tag_is_refused_and_nothing_is_executed(write: Write, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    said = only(write, f"purpose: !!python/object/apply:os.mkdir ['{trap}']\n")
    assert said == ["3: purpose: the tag !!python/object/apply:os.mkdir is not allowed; write the plain value"]
    assert not trap.exists()


def test_scalars_are_those_of_yaml_1_2(write: Write) -> None:
    env = "".join(
        f"  - {{name: V{i}, value: {v}}}\n" for i, v in enumerate(("no", "on", "1:30", "2026-11-21", "!!str 7"))
    )
    spec = load_team(write("a-team", f"env:\n{env}"))
    assert [variable.value for variable in spec.env] == ["no", "on", "1:30", "2026-11-21", "7"]
    assert only(write, "env: [{name: A, value: 0o17}]\n") == [
        '3: env[0].value: 0o17 is no text; write it in quotes, "0o17"'
    ]


def test_aliases_are_allowed(write: Write) -> None:
    text = "environments:\n  staging: &small\n    replicas: 1\n  prod: *small\n"
    assert load_team(write("a-team", text)).for_environment("prod").replicas == 1


def test_secrets_are_written_as_from_and_as(write: Write) -> None:
    (secret,) = load_team(write("a-team", "secrets: [{name: KEY, from: {secret: s, key: k}, as: variable}]\n")).secrets
    assert (secret.secret, secret.key, secret.mount) == ("s", "k", "variable")


def test_a_byte_order_mark_and_windows_lines_are_fine(write: Write) -> None:
    path = write("a-team", b"\xef\xbb\xbfname: a-team\r\nmembers:\r\n- {role: x, is_manager: true}\r\n", manager=False)
    assert load_team(path).name == "a-team"


def test_what_is_no_file_is_refused_and_not_waited_for(write: Write) -> None:
    path = write("a-team")
    path.unlink()
    os.mkfifo(path)
    assert problems() == ["teams/a-team/team.yaml: this is no file; write a text file there"]
    path.unlink()
    path.symlink_to("team.yaml")
    assert problems() == ["teams/a-team/team.yaml: it cannot be read: Too many levels of symbolic links"]
    path.unlink()
    path.symlink_to("nowhere")
    assert problems() == ["teams/a-team/team.yaml: it cannot be read: No such file or directory"]


@pytest.mark.parametrize("directory", [False, True])
def test_a_link_to_outside_of_the_project_is_refused(
    write: Write, tmp_path_factory: pytest.TempPathFactory, directory: bool
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "a-team"
    outside.mkdir()
    path = write("a-team")
    path.rename(outside / "team.yaml")
    if directory:
        path.parent.rmdir()
        path.parent.symlink_to(outside)
    else:
        path.symlink_to(outside / "team.yaml")
    assert problems() == ["teams/a-team/team.yaml: it is a link to outside of the project; put the file itself there"]


@pytest.mark.parametrize(
    ("start", "chosen"),
    [
        ("", ["a-team", "b-team"]),
        ("teams", ["a-team", "b-team"]),
        ("elf.yaml", ["a-team", "b-team"]),
        ("teams/b-team", ["b-team"]),
        ("teams/b-team/team.yaml", ["b-team"]),
    ],
)
def test_a_project_is_found_from_each_of_its_places(write: Write, start: str, chosen: list[str]) -> None:
    write("elf.yaml", "name: acme\n")
    root = write("b-team", "reports_to: a-team\n").parents[2]
    write("a-team", "manages: [b-team]\n")
    for path in (Path(start), root / start):
        project = find_project(path)
        assert project.root == root
        assert project.teams_dir == root / "teams"
        assert project.organisation.name == "acme"
        assert [team.spec.name for team in project.teams] == ["a-team", "b-team"]
        assert [team.spec.name for team in project.select()] == chosen
        assert [team.spec.name for team in project.select(["b-team"])] == ["b-team"]
        assert project.org.parent("b-team") == "a-team"
    assert [team.directory.name for team in find_project(Path(start)).select()] == chosen


def test_a_project_is_found_from_inside_a_team(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a-team", "verson: 1\n")
    write("b-team")
    monkeypatch.chdir(path.parent)
    assert problems() == ["team.yaml:3: verson: there is no such field; did you mean 'version'?"]


def test_files_are_called_what_the_user_would_type(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a-team", "verson: 1\n")
    assert problems(Path.cwd())[0].startswith("teams/a-team/team.yaml:3: verson")
    (path.parents[2] / "beside").mkdir()
    monkeypatch.chdir(path.parents[2] / "beside")
    assert problems(path.parents[2])[0].startswith(f"{path}:3: verson")
    monkeypatch.chdir(path.parent)
    assert problems(Path("../.."))[0].startswith("team.yaml:3: verson")


def test_a_team_alone_is_a_project_and_its_neighbours_are_only_missed(write: Write) -> None:
    path = write("elsewhere/a-team/team.yaml", "reports_to: b-team\n")
    project = find_project(path.parent)
    assert [team.spec.name for team in project.select()] == ["a-team"]
    assert [str(problem) for problem in find_project(Path("elsewhere/a-team")).warnings] == [
        "elsewhere/a-team/team.yaml:3: reports_to: the team 'b-team' is not here, so the relationship does not count"
    ]


def test_a_directory_of_teams_may_have_any_name(write: Write) -> None:
    root = write("crews/a-team/team.yaml").parents[1]
    assert find_project(root).root == root
    write("elf.yaml", "name: acme\n")
    assert find_project(root).root == root.parent
    assert find_project(root).organisation.name == "acme"


def test_paths_that_mean_no_project(write: Write) -> None:
    write("empty/readme.txt", "x")
    with pytest.raises(
        BadInput, match=r"^there is no team in empty: no team.yaml, and no teams/\*/team.yaml; go to a "
    ):
        find_project(Path("empty"))
    with pytest.raises(BadInput, match=r"^nowhere does not exist; name a project, a directory of teams"):
        find_project(Path("nowhere"))
    with pytest.raises(BadInput, match=r"^empty/readme.txt is no directory and no team.yaml; name a project"):
        find_project(Path("empty/readme.txt"))


def test_a_team_that_is_not_there_is_answered_with_those_that_are(write: Write) -> None:
    write("a-team")
    write("b-team")
    with pytest.raises(BadInput, match=r"^there is no team 'x'; there are: a-team, b-team$"):
        find_project(Path()).select(["a-team", "x"])


def test_a_team_that_cannot_be_read_hides_no_other_problem(write: Write) -> None:
    write("a-team", "manages: [b-team, c-team]\n")
    write("b-team", "{", manager=True)
    with pytest.raises(BadSpec) as caught:
        find_project(Path())
    said = [(problem.file, problem.field) for problem in caught.value.problems]
    assert said == [("teams/a-team/team.yaml", "manages[1]"), ("teams/b-team/team.yaml", "")]


def test_the_organisation_has_defaults(tmp_path: Path) -> None:
    assert read_organisation(tmp_path / "elf.yaml", "elf.yaml") == (Organisation(), [])
    assert [environment.namespace_name for environment in Organisation().environments] == [
        "elf-teams-dev",
        "elf-teams-staging",
        "elf-teams",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nam: x\n", "elf.yaml:1: nam: there is no such field; did you mean 'name'?"),
        ("currency: euro\n", "elf.yaml:1: currency: it has 4 characters; write at most 3"),
        ("currency: eur\n", "elf.yaml:1: currency: 'eur' is no currency; write three capital letters, such as 'EUR'"),
        (
            "environments:\n  - {name: dev, namespace: x}\n  - {name: prod, namespace: x}\n",
            ("elf.yaml:3: environments[1].namespace: 'prod' and 'dev' would share the namespace 'x' of the cluster "
            "'in-cluster'; give one of them another"),
        ),
        (
            "environments:\n  - name: dev\n    cluster: west\n",
            ("elf.yaml:3: environments[0].cluster: there is no cluster 'west'; add it under clusters, "
            "or write one of: in-cluster"),
        ),
        ("environments: [{name: dev}, {name: dev}]\n", "elf.yaml:1: environments[1].name: 'dev' is there twice; remove one"),
    ],
)  # fmt: skip
def test_a_wrong_elf_yaml(write: Write, text: str, expected: str) -> None:
    write("a-team")
    write("elf.yaml", text)
    assert problems() == [expected]


def test_environments_of_elf_yaml_are_known(write: Write) -> None:
    write("elf.yaml", "environments: [{name: dev}, {name: qa}]\n")
    write("a-team", "environments:\n  qa: {replicas: 2}\n  prod: {replicas: 3}\n")
    assert problems() == [
        (
            "teams/a-team/team.yaml:5: environments.prod: elf.yaml knows no environment 'prod'; "
            "write one of: dev, qa, or add it there"
        )
    ]


def test_a_thousand_teams_are_read_quickly(write: Write) -> None:
    skills = "".join(
        f"  - id: skill-{i}\n    name: Skill {i}\n    tags: [one, two]\n    description: >\n      What it\n      does.\n"
        for i in range(8)
    )
    for number in range(1000):
        write(f"team-{number}", f"purpose: |\n  One.\n  Two.\nskills:\n{skills}runs:\n  deadline: 10m\n")
    began = time.monotonic()
    assert len(find_project(Path()).teams) == 1000
    # Two seconds on an idle machine; the bound only catches what grows faster than the number of teams.
    assert time.monotonic() - began < 15

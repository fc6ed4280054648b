"""Public programs, unchanged, as teams: each gets a team.yaml and a team.py of two lines, and is asked one thing.

Called by scripts/programs. The words are the offline model's, so what is shown is that a program's own crew or
graph has run to its end, and how many tokens of its calls were counted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

ELF: Final = [sys.executable, "-P", "-m", "elf_sdk"]
LONGEST: Final = 150.0
"""Seconds for one answer."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program.

    Attributes:
        team: name of the team that it becomes, and its name here.
        source: the command that fetches it into `ELF_PROGRAMS_DIR`, in which it is `place`.
        place: its directory below `ELF_PROGRAMS_DIR`.
        what: the graph, class or crew in it, as the adapter is given it.
        says: what it is asked.
        framework: as in team.yaml.
        environment: what it wants to find there for services that are not asked; it goes into `.env`.
        script: of the offline model, where the program's tools are to be called, or its code reads JSON.
        arguments: further ones for the adapter.
        unfit: why it does not run with the versions that are locked, without ELF either; empty where it does.
    """

    team: str
    source: str
    place: str
    what: str
    says: str
    framework: str = "crewai"
    environment: Mapping[str, str] = field(default_factory=dict)
    script: str = ""
    unfit: str = ""
    arguments: str = ""

    @property
    def lines(self) -> tuple[str, str]:
        """What team.py holds."""
        adapter = {"crewai": "CrewAIAdapter", "langgraph": "LangGraphAdapter"}[self.framework]
        return (
            f"from elf_sdk import {adapter}, TeamServer",
            f"class Team(TeamServer): adapter = {adapter}({self.what!r}{self.arguments})",
        )


def cloned(repository: str) -> str:
    """How a repository is fetched."""
    return f"git clone https://github.com/{repository}"


EXAMPLES: Final = cloned("crewAIInc/crewAI-examples")
TAVILY: Final = {"TAVILY_API_KEY": "unused"}

PREFERENCES: Final = """\
rules:
  - when: {user: 'does (?P<who>\\w+) like'}
    call: {tool: get_user_preferences, arguments: {user_id: '${who}'}}
  - when: {after_tool: get_user_preferences}
    say: 'The tool says: ${result}'
"""
MARKETING: Final = """\
rules:
  - when: {user: comprehensive marketing strategy}
    say: '{"name": "Light", "tatics": ["A letter"], "channels": ["Post"], "KPIs": ["Replies"]}'
  - when: {user: creative marketing campaign}
    say: '{"name": "Evening", "description": "Lamps", "audience": "Readers", "channel": "Post"}'
  - when: {user: marketing copies}
    say: '{"title": "Your evening", "body": "In better light."}'
"""
BOOK: Final = """\
rules:
  - when: {system: Outlin}
    say: '{"chapters": [{"title": "One", "description": "First"}, {"title": "Two", "description": "Second"}]}'
  - when: {system: Writer}
    say: '{"title": "A chapter", "content": "Its text."}'
"""

PROGRAMS: Final = (
    Program(
        team="react-agent",
        source=cloned("langchain-ai/react-agent"),
        place="react-agent",
        framework="langgraph",
        what="react_agent.graph:graph",
        says="What is a desk lamp?",
    ),
    Program(
        team="langgraph-example",
        source=cloned("langchain-ai/langgraph-example"),
        place="langgraph-example",
        framework="langgraph",
        what="my_agent.agent:graph",
        says="What is a desk lamp?",
        environment=TAVILY,
    ),
    Program(
        team="cli-example",
        source=cloned("langchain-ai/langgraph"),
        place="langgraph/libs/cli/examples/graphs",
        framework="langgraph",
        what="agent:graph",
        says="What is a desk lamp?",
        arguments=", context=lambda ctx: {'model': 'openai'}",
        environment=TAVILY,
    ),
    Program(
        team="weather-agent",
        source=cloned("langchain-ai/langgraph-101"),
        place="langgraph-101",
        framework="langgraph",
        what="agents.101.agent:agent",
        says="What does alice like?",
        script=PREFERENCES,
    ),
    Program(
        team="new-langgraph-project",
        source=cloned("langchain-ai/new-langgraph-project"),
        place="new-langgraph-project",
        framework="langgraph",
        what="agent.graph:graph",
        says="Hello",
    ),
    Program(
        team="memory-agent",
        source=cloned("langchain-ai/memory-agent"),
        place="memory-agent",
        framework="langgraph",
        what="memory_agent.graph:graph",
        says="My name is Ada.",
        unfit="it is compiled without the store that it uses",
    ),
    Program(
        team="game-builder-crew",
        source=EXAMPLES,
        place="crewAI-examples/crews/game-builder-crew",
        what="game_builder_crew.crew:GameBuilderCrew",
        says="Snake, on a board of ten by ten",
    ),
    Program(
        team="marketing-posts",
        source=EXAMPLES,
        place="crewAI-examples/crews/marketing_strategy",
        what="marketing_posts.crew:MarketingPostsCrew",
        says='{"customer_domain": "lamps.example", "project_description": "The launch of a desk lamp"}',
        script=MARKETING,
    ),
    Program(
        team="latest-ai",
        source="crewai create crew latest_ai --classic",
        place="crewai-created/latest_ai",
        what="latest_ai.crew:LatestAi",
        says="Desk lamps",
    ),
    Program(
        team="guide-flow",
        source="crewai create flow guide_flow",
        place="crewai-created/guide_flow",
        what="guide_flow.main:ContentFlow",
        says="Write",
    ),
    Program(
        team="write-a-book",
        source=EXAMPLES,
        place="crewAI-examples/flows/write_a_book_with_flows",
        what="write_a_book_with_flows.main:BookFlow",
        says="Write the book",
        script=BOOK,
        unfit="it calls kickoff() in a coroutine, which CrewAI refuses",
    ),
    Program(
        team="self-evaluation-loop",
        source=EXAMPLES,
        place="crewAI-examples/flows/self_evaluation_loop_flow",
        what="self_evaluation_loop_flow.main:ShakespeareXPostFlow",
        says="Write the post",
        unfit="it imports BaseTool from crewai_tools, which has it no more",
    ),
    Program(
        team="markdown-validator",
        source=EXAMPLES,
        place="crewAI-examples/crews/markdown_validator",
        what="markdown_validator.crew:MarkDownValidatorCrew",
        says="README.md",
        unfit="it gives CrewAI a tool of LangChain's, which CrewAI takes no more",
    ),
)


def main(names: Sequence[str]) -> int:
    """Run the programs that are there, and print a table; 1 where one of them did not answer by its own code."""
    place = os.environ.get("ELF_PROGRAMS_DIR", "")
    if not place:
        print("error: set ELF_PROGRAMS_DIR to the directory that the programs are fetched into", file=sys.stderr)
        return 2
    known = [program.team for program in PROGRAMS]
    if unknown := [name for name in names if name not in known]:
        print(f"error: there is no program {unknown[0]}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    failed = False
    print(f"{'program':<24}{'commit':<10}{'framework':<11}{'answered':<10}what was seen", flush=True)
    for program in PROGRAMS:
        if names and program.team not in names:
            continue
        directory = Path(place) / program.place
        if not directory.is_dir():
            print(f"{program.team:<24}is not there: {program.source}, into {directory}", flush=True)
            continue
        answered, seen = tried(program, directory)
        failed |= not answered and not program.unfit
        verdict = "yes" if answered else "unfit" if program.unfit else "NO"
        version = commit(Path(place) / program.place.partition("/")[0])
        print(f"{program.team:<24}{version:<10}{program.framework:<11}{verdict:<10}{seen}", flush=True)
    return int(failed)


def commit(checkout: Path) -> str:
    """The beginning of the commit that is checked out, or of what a file `.commit` says."""
    if (said := checkout / ".commit").is_file():
        return said.read_text(encoding="ascii").strip()[:8]
    git = ["git", "-C", str(checkout), "rev-parse", "--short=8", "HEAD"]
    return subprocess.run(git, check=False, capture_output=True, text=True).stdout.strip() or "?"


def tried(program: Program, source: Path) -> tuple[bool, str]:
    """Whether it has answered by its own code, and what was seen of that, or what went wrong."""
    with tempfile.TemporaryDirectory(prefix="elf-programs-") as temporary:
        directory = Path(temporary) / program.team
        shutil.copytree(source, directory, ignore=shutil.ignore_patterns(".git", ".venv"))
        (directory / "team.py").write_text("\n".join(program.lines) + "\n", encoding="utf-8")
        (directory / "team.yaml").write_text(
            f"format: elf/v1\nname: {program.team}\nframework: {program.framework}\n"
            "members:\n  - role: Lead\n    is_manager: true\n",
            encoding="utf-8",
        )
        with (directory / ".env").open("a", encoding="utf-8") as variables:
            variables.writelines(f"{name}={value}\n" for name, value in program.environment.items())
        if program.script:
            (directory / "offline.yaml").write_text(program.script, encoding="utf-8")
        log = Path(temporary) / "log"
        try:
            with served(directory, log) as address:
                task = asked(address, token_for(directory, program.team), program.says)
        except (OSError, subprocess.SubprocessError, SystemExit, httpx.HTTPError) as error:
            return False, f"{error} {last_line(log)}"
        if os.environ.get("ELF_PROGRAMS_LOGS"):
            shutil.copy(log, Path(os.environ["ELF_PROGRAMS_LOGS"]) / f"{program.team}.log")
    return judged(task)


def last_line(log: Path) -> str:
    """What the server said at last."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else ""


@contextmanager
def served(directory: Path, log: Path) -> Iterator[str]:
    """`elf dev` in `directory`, on a free port; its address."""
    private = re.compile(r"(OPENAI|ANTHROPIC|ELF|CREWAI|LANGSMITH|LANGCHAIN)_|MODEL")
    environment = {name: value for name, value in os.environ.items() if not private.match(name)}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*ELF, "dev", "--port", "0", "--no-reload"],
            cwd=directory,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if found := re.search(r"http://[\d.]+:\d+/teams/[\w-]+", line):
                    break
            else:
                raise SystemExit("it was not served:")
            yield found[0]
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.communicate()


def token_for(directory: Path, team: str) -> str:
    """A token, as `elf token` gives it."""
    return subprocess.check_output([*ELF, "token", team], cwd=directory, text=True, timeout=60).strip()


def asked(address: str, token: str, text: str) -> Any:
    """The task that A2A answers with."""
    message = {"messageId": "1", "role": "ROLE_USER", "parts": [{"text": text}]}
    headers = {"Authorization": f"Bearer {token}", "A2A-Version": "1.0"}
    return httpx.post(
        f"{address}/a2a/v1/message:send", json={"message": message}, headers=headers, timeout=LONGEST
    ).json()


def judged(answer: Any) -> tuple[bool, str]:
    """Whether the task was done, and what was counted and answered."""
    task = answer.get("task", {})
    state = str(task.get("status", {}).get("state", "")).removeprefix("TASK_STATE_").lower()
    if state != "completed":
        parts = task.get("status", {}).get("message", {}).get("parts", [{"text": json.dumps(answer)}])
        return False, f"{state}: {text_of(parts)}"
    tokens = task.get("metadata", {}).get("usage", {"input_tokens": 0, "output_tokens": 0})
    said = text_of(part for artifact in task.get("artifacts", []) for part in artifact["parts"])
    return bool(said), f"{tokens['input_tokens']} + {tokens['output_tokens']} tokens: {said[:60]}"


def text_of(parts: Iterable[Any]) -> str:
    """The text of A2A's parts, on one line."""
    return " ".join(" ".join(part.get("text", "") for part in parts).split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

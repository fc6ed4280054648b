"""Every way to start a team, as a process of its own, and what it says when it cannot."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import IO

import pytest
from websockets.sync.client import connect

from elf_sdk.server.auth import Issuer, Verifier
from elf_sdk.server.reload import snapshot

TEAM_YAML = """\
name: {name}
purpose: To echo.
framework: function
members:
  - role: Head
    is_manager: true
"""

TEAM_PY = """\
from elf_sdk import FunctionAdapter, TeamServer
from words import WORD


async def answer(ctx):
    yield f"{WORD}: {ctx.text}"


class Echo(TeamServer):
    adapter = FunctionAdapter(answer)


app = Echo()

if __name__ == "__main__":
    app.serve()
"""


WITHOUT_LANGGRAPH = """\
import sys
from importlib.machinery import PathFinder


class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "langgraph" else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two teams whose modules have the same names and different contents."""
    for name in ("alpha", "beta"):
        directory = tmp_path / "teams" / name
        directory.mkdir(parents=True)
        (directory / "team.yaml").write_text(TEAM_YAML.format(name=name))
        (directory / "team.py").write_text(TEAM_PY)
        (directory / "words.py").write_text(f"WORD = {name!r}\n")
    (tmp_path / "elf.yaml").write_text("name: acme\n")
    return tmp_path


def environment(project: Path, **variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ELF_", "JWT_"))}
    here = Path(__file__).resolve().parents[2]
    return {**inherited, "PYTHONPATH": str(here), "PYTHONUNBUFFERED": "1", "HOME": str(project), **variables}


class Process:
    """A server in a process of its own, and all that it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output = ""
        self._news = threading.Condition()
        assert process.stdout is not None
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._news:
                self.output += line
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """The last match, once the pattern has matched so many times."""
        with self._news:
            found = self._news.wait_for(lambda: len(re.findall(pattern, self.output)) >= times, timeout=60)
            assert found, self.output
            return list(re.finditer(pattern, self.output))[-1]


@contextmanager
def running(arguments: list[str], directory: Path, env: dict[str, str]) -> Iterator[Process]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=directory,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Process(process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def elf(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "elf_sdk", *arguments],
        cwd=project,
        env=environment(project, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def get(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - the address is ours
        body: dict[str, object] = json.load(answer)
        return body


def ask(url: str, token: str, text: str) -> str:
    """The answer to one message over a plain WebSocket, with the token in the address."""
    with connect(f"{url.replace('http', 'ws', 1)}/chat?token={token}") as socket_:
        assert json.loads(socket_.recv())["type"] == "greeting"
        socket_.send(text)
        answer = ""
        while not (frame := json.loads(socket_.recv())).get("done"):
            answer += frame.get("delta", "")
        return answer


def test_elf_dev_serves_all_teams_and_tells_how_to_try_them(project: Path) -> None:
    with running(["-m", "elf_sdk", "dev", "--port", "0"], project, environment(project)) as server:
        server.wait_for("Ctrl-C stops")
        address = server.wait_for(r"serves acme on (http://127\.0\.0\.1:\d+)")[1]
        token = server.wait_for(r"\n  (eyJ\S+)\n")[1]
        assert ask(f"{address}/teams/alpha", token, "hi") == "alpha: hi"
        beta = elf(project, "token", "beta", "--user", "bob").stdout.strip()
        assert ask(f"{address}/teams/beta", beta, "hi") == "beta: hi"
        assert get(f"{address}/") == {"teams": {name: f"{address}/teams/{name}" for name in ("alpha", "beta")}}
        talked = elf(project, "talk", "beta", "--url", f"{address}/teams/beta", "--say", "good day")
        assert talked.returncode == 0, talked.stderr
        assert "you > good day\n\nbeta: good day\n" in talked.stdout
        # A change of a file is seen, and nobody is refused meanwhile.
        (project / "teams" / "beta" / "words.py").write_text("WORD = 'changed'\n")
        server.wait_for("words.py changed; serving again")
        server.wait_for("Ctrl-C stops", times=2)
        assert ask(f"{address}/teams/beta", beta, "hi") == "changed: hi"
        # A team that is broken in the meantime does not end the command.
        (project / "teams" / "beta" / "words.py").write_text("WORD = 'mended'[\n")
        server.wait_for(r"words\.py:1: importing the team raised SyntaxError")
        server.wait_for("waiting for a change of a file")
        (project / "teams" / "beta" / "words.py").write_text("WORD = 'mended'\n")
        server.wait_for("Ctrl-C stops", times=3)
        assert ask(f"{address}/teams/beta", beta, "hi") == "mended: hi"
    assert server.process.returncode == 0
    assert "Traceback" not in server.output


@pytest.mark.parametrize("name", ["charts", "gitops"])
def test_elf_dev_looks_at_a_team_that_is_called_like_a_directory_that_commands_write(project: Path, name: str) -> None:
    assert project / "teams" / "alpha" / "words.py" in snapshot(project)
    (project / name / "alpha").mkdir(parents=True)
    (project / name / "alpha" / "values.yaml").touch()
    assert project / name / "alpha" / "values.yaml" not in snapshot(project)
    (project / name / "team.yaml").write_text(TEAM_YAML.format(name=name))
    assert project / name / "team.yaml" in snapshot(project)


def test_elf_dev_writes_the_charts_after_each_change(project: Path) -> None:
    file, values = project / "teams/beta/team.yaml", project / "charts/beta/values.yaml"
    with running(["-m", "elf_sdk", "dev", "--port", "0", "--watch"], project, environment(project)) as server:
        server.wait_for("2 charts in charts, proven for dev, staging and prod")
        server.wait_for("Ctrl-C stops")
        file.write_text(file.read_text().replace("To echo.", "To repeat."))
        server.wait_for("beta +0.1.0 +changed")
        assert "To repeat." in values.read_text()
        # A team that cannot be a chart is told of and served, and the charts stay as they are.
        (file.parent / "images.lock.yaml").write_text("images: {dev: latest}\n")
        server.wait_for("error: .*images.lock.yaml")
        server.wait_for("Ctrl-C stops", times=3)
        assert "To repeat." in values.read_text()
    assert server.process.returncode == 0
    refused = elf(project, "dev", "--watch", "--no-reload")
    assert refused.returncode == 2
    assert "leave one out" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["team.py"],
        ["-m", "elf_sdk", "serve", "--port", "0"],
        ["-m", "uvicorn", "team:app", "--port", "0", "--log-level", "trace"],
    ],
    ids=["python team.py", "elf serve", "uvicorn team:app"],
)
def test_a_team_alone(project: Path, arguments: list[str]) -> None:
    directory = project / "teams" / "alpha"
    secret = "only for this test, and long enough for HS256"
    env = environment(project, ELF_PORT="0", JWT_SECRET_KEY=secret)
    with running(arguments, directory, env) as server:
        address = server.wait_for(r"(http://127\.0\.0\.1:\d+)")[1]
        assert get(f"{address}/health")["team_name"] == "alpha"
        token = elf(project, "token", "alpha", JWT_SECRET_KEY=secret, ELF_ORGANISATION="elf").stdout.strip()
        # Alone, a team knows no elf.yaml: its organisation is what the environment says.
        env_token = elf(directory, "token", "alpha", JWT_SECRET_KEY=secret).stdout.strip()
        assert token.count(".") == env_token.count(".") == 2
        alone = Issuer(secret, "elf", "dev").user_token("ada", "alpha")
        assert ask(address, alone, "hi") == "alpha: hi"
    assert alone not in server.output
    assert alone.split(".")[2] not in server.output
    assert secret not in server.output


def test_every_command_reads_the_projects_env_file(project: Path) -> None:
    secret = "from the file, and long enough for an HS256 key"
    (project / ".env").write_text(f"JWT_SECRET_KEY='{secret}'\n")
    token = elf(project, "token", "alpha").stdout.strip()
    assert Verifier(secret, "acme", "dev", "alpha").verify(token).name == "you"


def test_a_volatile_store_takes_the_tokens_of_the_commands(project: Path) -> None:
    variables = {"ELF_STORE": ":memory:"}
    with running(
        ["-m", "elf_sdk", "dev", "--port", "0", "--no-reload"], project, environment(project, **variables)
    ) as server:
        server.wait_for("Ctrl-C stops")
        address = server.wait_for(r"serves acme on (http://127\.0\.0\.1:\d+)")[1]
        token = elf(project, "token", "alpha", **variables).stdout.strip()
        assert ask(f"{address}/teams/alpha", token, "hi") == "alpha: hi"
    assert not (project / "jwt-secret").exists()


def test_a_port_that_is_taken(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = elf(project, "dev", "--port", str(port))
    assert done.returncode == 2
    expected = f"error: port {port} of 127.0.0.1 is taken; stop what listens there, or use --port {port + 1}\n"
    assert done.stderr == expected


def test_two_servers_of_one_store(project: Path) -> None:
    with running(["-m", "elf_sdk", "dev", "--port", "0"], project, environment(project)) as server:
        server.wait_for("Ctrl-C stops")
        second = elf(project, "dev", "--port", "0", "--no-reload")
    assert second.returncode == 1
    assert "elf.db" in second.stderr
    assert "Traceback" not in second.stderr + second.stdout


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("team.py", None, "there is no such file; a team needs a team.py with a subclass of TeamServer"),
        ("team.py", "x = 1\n", "it defines 0 subclasses of TeamServer; define one, or an instance of it"),
        ("team.py", "import nowhere_to_be_found\n", "there is no module 'nowhere_to_be_found'"),
        ("team.py", "def f(:\n", "team.py:1: importing the team raised SyntaxError"),
        ("team.py", "a = 1\nb = a / 0\n", "team.py:2: importing the team raised ZeroDivisionError: division by zero"),
        ("team.yaml", "name: alpha\n", "team.yaml"),
    ],
)
def test_a_team_that_cannot_be_loaded(project: Path, file: str, content: str | None, sentence: str) -> None:
    path = project / "teams" / "alpha" / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    done = elf(project, "dev", "--port", "0", "--no-reload")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_framework_that_is_not_installed(project: Path) -> None:
    directory = project / "teams" / "alpha"
    (directory / "team.yaml").write_text(TEAM_YAML.format(name="alpha").replace("function", "langgraph"))
    (directory / "team.py").write_text(
        "from elf_sdk import LangGraphAdapter, TeamServer\n"
        "class Graph(TeamServer):\n    adapter = LangGraphAdapter(lambda: None)\n"
    )
    # Python runs this first; it hides the package that is there.
    hidden = project / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(WITHOUT_LANGGRAPH)
    path = f"{hidden}{os.pathsep}{environment(project)['PYTHONPATH']}"
    done = elf(project, "dev", "--port", "0", "--no-reload", PYTHONPATH=path)
    assert done.returncode == 1
    expected = "this team uses langgraph, which is not installed; run: pip install 'elf-sdk[langgraph]'"
    assert done.stderr == f"error: {expected}\n"


def test_a_container_that_is_told_to_go_while_it_still_loads_its_team_goes(project: Path) -> None:
    apart = ["unshare", "--pid", "--fork"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system gives nobody's first process to tests: unshare --pid")
    team = project / "teams" / "alpha"
    (team / "team.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen(
        [*apart, sys.executable, "-m", "elf_sdk", "serve", team],
        env=environment(project),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
            os.kill(int(first), signal.SIGTERM)
            assert process.wait(20) == 128 + signal.SIGTERM
        finally:
            process.kill()


def test_a_client_that_keeps_its_connection_is_told_before_the_server_stops(project: Path) -> None:
    directory = project / "teams" / "alpha"
    env = environment(project, ELF_PORT="0", JWT_SECRET_KEY="only for this test, and long enough for HS256")
    with running(["team.py"], directory, env) as server:
        address = server.wait_for(r"http://(127\.0\.0\.1):(\d+)")
        connection = HTTPConnection(address[1], int(address[2]), timeout=20)
        connection.connect()
        # A second connection would be a request that the first one lost.
        connection.auto_open = False
        told: list[str | None] = []
        while "close" not in told:
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')
            told.append(answer.getheader("Connection"))
            if len(told) == 1:
                server.process.send_signal(signal.SIGTERM)
        assert told[0] is None
        assert server.process.wait(20) == 0


def test_an_unknown_team(project: Path) -> None:
    for command in (["dev", "gamma"], ["token", "gamma"], ["talk", "gamma", "--say", "hi"]):
        done = elf(project, *command)
        assert done.returncode == 2
        assert done.stderr == "error: there is no team 'gamma'; there are: alpha, beta\n"


def test_talking_where_nobody_serves(project: Path) -> None:
    done = elf(project, "talk", "alpha", "--say", "hi", "--url", "http://127.0.0.1:9/teams/alpha")
    assert done.returncode == 1
    assert "nobody serves a chat at ws://127.0.0.1:9/teams/alpha/chat" in done.stderr
    assert "elf dev" in done.stderr


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"ELF_PORT": "eighty"}, "ELF_PORT is 'eighty'; set it to a port number from 0 to 65535"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY has 5 bytes; HS256 needs at least 32"),
        ({"JWT_SECRET_KEY_FILE": "/nowhere/key"}, "JWT_SECRET_KEY_FILE names '/nowhere/key', which cannot be read"),
    ],
)
def test_settings_that_cannot_be_used(project: Path, variables: dict[str, str], sentence: str) -> None:
    done = elf(project, "dev", "--port", "0", **variables)
    assert done.returncode == 2
    assert sentence in done.stderr

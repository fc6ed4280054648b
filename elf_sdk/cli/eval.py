"""`elf eval`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import click

from elf_sdk.cli import options
from elf_sdk.cli.output import counted, print_done, print_json
from elf_sdk.errors import BadInput, Failure
from elf_sdk.evals.judge import Judges
from elf_sdk.evals.load import Conversation, conversations_of
from elf_sdk.evals.report import as_data, as_junit, as_markdown, failures, summary
from elf_sdk.evals.result import ConversationResult, Report
from elf_sdk.evals.run import PARALLEL, Target, evaluate
from elf_sdk.server.auth.team_tokens import read_team_token
from elf_sdk.server.local import dev_issuer, local_settings
from elf_sdk.settings import Settings
from elf_sdk.team.project import LoadedTeam, Project, find_project

__all__ = ["check_address", "eval", "target_at", "tell"]


@click.command()
@click.argument("teams", nargs=-1, required=True, metavar="TEAM…")
@click.option(
    "--url", help="Address of the team, with {team} in it where there are several.  [default: served for this]"
)
@click.option(
    "--token", envvar="ELF_TOKEN", help="A token for the team at --url.  [default: a new one, as `elf token` gives]"
)
@click.option("--digest", metavar="sha256:…", help="The image that has to answer; needs --url.")
@click.option(
    "--environment", default="", help="Where the team is: whose overrides count, and for what a token is made."
)
@click.option("--parallel", type=click.IntRange(1, 64), default=PARALLEL, show_default=True, help="Sessions at once.")
@click.option("--report", "page", type=click.Path(path_type=Path), help="Write what was said to this Markdown file.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write the results to this file in JUnit's XML.")
@options.as_json
def eval(  # noqa: A001 - the command's name
    teams: tuple[str, ...],
    url: str | None,
    token: str | None,
    digest: str | None,
    environment: str,
    parallel: int,
    page: Path | None,
    junit: Path | None,
    as_json: bool,
) -> None:
    """Have the recorded conversations of TEAM, and check what it answers. Exit code 1 if something is wrong.

    Without --url the team is served for as long as that takes, with those that it may delegate to, on a store of
    their own. The conversations are in the team's evals/.

    Example: elf eval marketing-team --report evals.md
    """
    project = find_project(Path.cwd())
    chosen = project.select(teams)
    settings = local_settings(project)
    if environment:
        settings = replace(settings, environment=environment)
    _check_options(url, digest, chosen)
    recorded = {team.spec.name: conversations_of(team, environment) for team in chosen}

    def told(result: ConversationResult) -> None:
        if not as_json:
            tell(result)

    async def have() -> list[Report]:
        reports = []
        async with _targets(project, chosen, settings, url, token, digest or "") as target_of:
            for team in chosen:
                if not as_json:
                    click.echo(f"{click.style(team.spec.name, bold=True)}  {target_of(team).url}")
                conversations: Sequence[Conversation] = recorded[team.spec.name]
                with Judges(team, settings) as judges:
                    reports.append(
                        await evaluate(conversations, target_of(team), judges.judge, parallel=parallel, progress=told)
                    )
        return reports

    reports = asyncio.run(have())
    _write(page, lambda: as_markdown(reports))
    _write(junit, lambda: as_junit(reports))
    if as_json:
        print_json(as_data(reports))
    results = [result for report in reports for result in report.conversations]
    wrong = sum(not result.holds for result in results)
    if wrong:
        raise Failure(f"{wrong} of {counted(len(results), 'conversation')} went wrong")
    if not as_json:
        print_done(f"{counted(len(results), 'conversation')}, all of them right")


def _check_options(url: str | None, digest: str | None, teams: Sequence[LoadedTeam]) -> None:
    if url is None:
        if digest:
            raise BadInput("--digest needs --url: what is served here runs in no image")
        return
    check_address(url, len(teams))


def check_address(url: str, teams: int) -> None:
    """Let pass an address that serves for so many teams.

    Raises:
        BadInput: they are several, and it does not say where their names go.
    """
    if teams > 1 and "{team}" not in url:
        raise BadInput(f"--url {url} is one address for {teams} teams; write {{team}} where their names differ")


@asynccontextmanager
async def _targets(
    project: Project,
    teams: Sequence[LoadedTeam],
    settings: Settings,
    url: str | None,
    token: str | None,
    digest: str,
) -> AsyncGenerator[Callable[[LoadedTeam], Target], None]:
    """Where each team is: at the address that was given, or served for this."""
    if url is not None:
        yield lambda team: target_at(url, project, settings, team.spec.name, token, digest)
        return
    # Only here: for a team that is served elsewhere nothing is loaded.
    from elf_sdk.server.dev import served_beside
    from elf_sdk.server.loading import load_server
    from elf_sdk.server.local import team_path
    from elf_sdk.server.logs import configure_logs

    configure_logs("warning" if settings.log_level == "info" else settings.log_level, settings.log_format)
    servers = [load_server(team.directory) for team in _with_callees(project, teams)]
    with tempfile.TemporaryDirectory(prefix="elf-eval-") as directory:
        async with served_beside(servers, settings, project.org, Path(directory) / "elf.db") as (address, issuer):
            yield lambda team: Target(
                team.spec.name,
                address + team_path(team.spec.name),
                lambda user: issuer.user_token(user, team.spec.name),
            )


def target_at(url: str, project: Project, settings: Settings, team: str, token: str | None, digest: str) -> Target:
    """A team that is served at an address, which may hold `{team}`.

    Args:
        url: the address.
        project: whose secret signs tokens where none is given.
        settings: of which environment the team is, and where tokens of several teams are kept.
        team: its name.
        token: of a user; None for the one in `settings.team_tokens`, if there is one for this team.
        digest: as `Target.digest`.
    """
    token = token or read_team_token(settings.team_tokens, team) or None
    if token is not None:
        return Target(team, url.replace("{team}", team), lambda _: token, digest)
    issuer = dev_issuer(project, settings)
    return Target(team, url.replace("{team}", team), lambda user: issuer.user_token(user, team), digest)


def _with_callees(project: Project, teams: Sequence[LoadedTeam]) -> Sequence[LoadedTeam]:
    """The teams, and all that their work may be handed on to."""
    names = {team.spec.name: None for team in teams}
    for name in (waiting := list(names)):
        for callee in project.org.callees(name):
            if callee not in names:
                names[callee] = None
                waiting.append(callee)
    return project.select(names)


def tell(result: ConversationResult, team: str = "") -> None:
    """Print what a conversation came to, and what went wrong in it; with the team where there are several."""
    mark = click.style("✓", fg="green") if result.holds else click.style("✗", fg="red")
    click.echo(f"  {mark} {f'{team}: ' if team else ''}{result.name}  {click.style(summary(result), dim=True)}")
    if not result.holds:
        for line in failures(result):
            click.echo(f"      {line}")


def _write(path: Path | None, text: Callable[[], str]) -> None:
    if path is None:
        return
    try:
        path.write_text(text(), encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written: {error.strerror}; name a file in a directory that is there"
        ) from None

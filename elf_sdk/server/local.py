"""What the commands on this machine know of the teams that `elf dev` serves from the same project.

Light on purpose: a token is signed without loading a server.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from elf_sdk.errors import BadInput, Failure
from elf_sdk.server.auth import Issuer
from elf_sdk.settings import Settings, load_settings

if TYPE_CHECKING:
    from elf_sdk.team.project import Project

__all__ = ["dev_issuer", "dev_secret", "dev_settings", "local_settings", "team_path"]


def team_path(team: str) -> str:
    """Where a team is mounted."""
    return f"/teams/{team}"


def dev_settings(project: Project, settings: Settings, address: str) -> Settings:
    """`settings` with what a project on this machine implies; what the environment says goes first.

    Args:
        project: whose teams are served.
        settings: as the environment says.
        address: of the server, such as `http://127.0.0.1:8000`.
    """
    defaults = Settings()
    return replace(
        settings,
        organisation=_first(settings.organisation, defaults.organisation, project.organisation.name),
        store=_first(settings.store, defaults.store, str(project.root / ".elf" / "elf.db")),
        team_url=settings.team_url or address + team_path("{team}"),
    )


def local_settings(project: Project) -> Settings:
    """What the environment says, and a file `.env` beside elf.yaml where the environment is silent.

    The file's variables also become the process's own, for the frameworks that read them there.

    Raises:
        BadInput: the file cannot be read, or a variable holds what it cannot.
    """
    from dotenv import load_dotenv  # no container has such a file

    path = project.root / ".env"
    try:
        load_dotenv(path, override=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}; write NAME=value lines in UTF-8") from None
    return load_settings()


def dev_issuer(project: Project, settings: Settings) -> Issuer:
    """Signs tokens for the teams that `elf dev` serves from this project, also from another process.

    Raises:
        Failure: the development secret cannot be kept.
    """
    complete = dev_settings(project, settings, "")
    secret = complete.jwt_secret or dev_secret(complete.store)
    return Issuer(secret, complete.organisation, complete.environment)


def dev_secret(store: str) -> str:
    """The secret of a development server, made once and kept beside its store, readable by its user alone.

    Args:
        store: as `Settings.store`; a volatile one has its secret where the default store would be.

    Raises:
        Failure: it can be neither read nor written.
    """
    path = Path(Settings().store if store == ":memory:" else store).parent / "jwt-secret"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48))
        except FileExistsError:
            pass
        secret = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise Failure(f"the development secret {path} cannot be kept: {error.strerror}; set JWT_SECRET_KEY") from None
    except UnicodeDecodeError:
        secret = ""
    if len(secret) < 32:
        raise Failure(f"{path} holds no secret of at least 32 characters; delete it, and another is made")
    return secret


def _first(given: str, default: str, implied: str) -> str:
    return given if given != default else implied

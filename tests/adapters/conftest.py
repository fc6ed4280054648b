from collections.abc import Iterator
from pathlib import Path

import pytest

from elf_sdk.models.offline import OfflineModel


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A HOME of their own for the frameworks: CrewAI writes there when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(directory))
        patch.setenv("CREWAI_STORAGE_DIR", str(directory / "crewai"))
        patch.delenv("XDG_DATA_HOME", raising=False)
        yield directory


@pytest.fixture
def model() -> Iterator[OfflineModel]:
    with OfflineModel() as running:
        yield running

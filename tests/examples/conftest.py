from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.examples.support import Organisation, copy_of_the_examples, edit, served

MARKER = r"""
rules:
  - when: {system: Chief Executive Officer, user: 'says: my marker is (?P<marker>\w+)'}
    say: Your marker is ${marker}, and it is ${marker} that I give back.
"""

SLOWLY = """
rules:
  - when: {system: Copywriter, user: '(?i)slowly'}
    say: One word after the other, and a long while until the last of them.
    delay: 150ms
"""


@pytest.fixture(scope="session")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    """The four example teams, with a rule more for two of them that only these tests ask for."""
    project = copy_of_the_examples(tmp_path_factory.mktemp("organisation"))
    edit(project / "teams/executive-team/offline.yaml", "\nrules:\n", MARKER)
    edit(project / "teams/marketing-team/offline.yaml", "\nrules:\n", SLOWLY)
    with served(project) as organisation:
        yield organisation

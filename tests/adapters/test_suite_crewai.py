import pytest

from tests.adapters.programs import crewai
from tests.adapters.suite import Suite


@pytest.mark.xdist_group("crewai")
class TestCrewAI(Suite):
    agent = crewai.Agent
    asking = crewai.Asking
    recovering = crewai.Recovering
    failing = crewai.Failing
    mistaken = crewai.Mistaken
    endless = crewai.Endless

from elf_pydantic_ai import PydanticAIAdapter
from pydantic_ai import Agent

from elf_sdk import TeamServer

agent = Agent(instructions="You are the research lead. Look things up before you answer, and ask when you must.")


@agent.tool_plain
async def population(city: str) -> str:
    """How many people live in a city, in the newest count."""
    return {"Kyoto": "1,443,486", "Osaka": "2,757,642"}.get(city, "unknown")


class ResearchTeam(TeamServer):
    adapter = PydanticAIAdapter(agent)


app = ResearchTeam()

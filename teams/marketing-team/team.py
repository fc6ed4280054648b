from elf_sdk import LangGraphAdapter, TeamServer

from graph import build_graph


class MarketingTeam(TeamServer):
    """Researches, plans and writes a campaign brief."""

    adapter = LangGraphAdapter(build_graph)


app = MarketingTeam()

if __name__ == "__main__":
    app.serve()

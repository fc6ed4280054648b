from elf_sdk import LangGraphAdapter, TeamServer

from graph import build_graph


class BrandTeam(TeamServer):
    """Drafts how the brand sounds, has it read by a sceptic, and revises."""

    adapter = LangGraphAdapter(build_graph, answer_node="revise")


app = BrandTeam()

if __name__ == "__main__":
    app.serve()

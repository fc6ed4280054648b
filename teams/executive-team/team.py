from elf_sdk import CrewAIAdapter, TeamServer

from crew import build_crew


class ExecutiveTeam(TeamServer):
    """Decides, and proposes work to marketing and engineering."""

    adapter = CrewAIAdapter(build_crew)


app = ExecutiveTeam()

if __name__ == "__main__":
    app.serve()

from collections.abc import AsyncGenerator

from elf_sdk import FunctionAdapter, FunctionContext, TeamServer

TESTER = "You are the Tester. In one or two lines: what has not been tried yet?"
LEAD = "You are the Engineering Lead. Give an estimate with its uncertainty, and use the tester's doubts: "


async def estimate(ctx: FunctionContext) -> AsyncGenerator[str, None]:
    ctx.step("tester")
    doubts = await ctx.complete(system=TESTER)
    ctx.step("tester", "end")
    async for piece in ctx.stream(system=LEAD + doubts):
        yield piece


class EngineeringTeam(TeamServer):
    """Two questions to the model, in plain Python."""

    adapter = FunctionAdapter(estimate)


app = EngineeringTeam()

if __name__ == "__main__":
    app.serve()

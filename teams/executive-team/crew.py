"""Three executives: two look at the request from their side, the third decides and answers."""

from crewai import LLM, Agent, Crew, Task
from crewai.tools import BaseTool

REQUEST = "A person says: {message}\n\nWhat was said before:\n{history}"


def build_crew(llm: LLM, tools: list[BaseTool]) -> Crew:
    """A crew for one run. `tools` holds one for each team that work may be proposed to."""
    cmo = Agent(
        role="the Chief Marketing Officer",
        goal="Say what the request means for our customers and the market",
        backstory="You know why people buy a lamp, and you say it in two sentences.",
        llm=llm,
    )
    cto = Agent(
        role="the Chief Technology Officer",
        goal="Say what the request means for the product and its risks",
        backstory="You have built three generations of lamps, and you say what could go wrong in two sentences.",
        llm=llm,
    )
    ceo = Agent(
        role="the Chief Executive Officer",
        goal="Decide what happens next, and hand work to the team whose work it is",
        backstory="You are brief, you never do another team's work yourself, and you never promise what is not agreed.",
        llm=llm,
        tools=tools,
    )
    market = Task(
        name="The market's side",
        description=REQUEST,
        expected_output="Two sentences on what this means for customers and the market.",
        agent=cmo,
    )
    product = Task(
        name="The product's side",
        description=REQUEST,
        expected_output="Two sentences on what this means for the product and its risks.",
        agent=cto,
        context=[],
    )
    decision = Task(
        name="The decision",
        description=REQUEST,
        expected_output="An answer to the person in a few sentences: what we decide, and who does what.",
        agent=ceo,
        context=[market, product],
    )
    return Crew(agents=[cmo, cto, ceo], tasks=[market, product, decision])

"""ELF teams that are agents of pydantic-ai."""

import json
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

import pydantic_ai as ai
from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import elf_sdk.adapters as elf


async def ask_person(question: str) -> str:
    """Ask the person whom you work for, and wait for the answer."""
    raise ai.CallDeferred


def offered(tool: elf.Tool) -> ai.Tool[object]:
    async def call(**arguments: Any) -> str:
        try:
            return await tool.call(arguments)
        except elf.ToolError as error:
            raise ai.ToolFailed(str(error)) from error

    return ai.Tool.from_schema(call, tool.name, tool.description, dict(tool.parameters))


def model_of(line: elf.Line) -> OpenAIChatModel:
    llm, http = line.endpoint, line.asynchronous()
    client = AsyncOpenAI(base_url=llm.base_url, api_key=llm.key(), timeout=llm.timeout, max_retries=0, http_client=http)
    # It guesses by the model's name whether it reasons, and then leaves the temperature out.
    profile: Any = None if llm.provider == "openai" else {"openai_supports_reasoning": False}
    return OpenAIChatModel(llm.model, provider=OpenAIProvider(openai_client=client), profile=profile)


class PydanticAIAdapter:
    """Runs an agent, whose output is text, as a team. Its model is the one of team.yaml."""

    name = "pydantic-ai"

    def __init__(self, agent: ai.Agent[None, str]) -> None:
        self._agent: ai.Agent[None, Any] = agent
        own = [tool for each in agent.toolsets if isinstance(each, ai.FunctionToolset) for tool in each.tools.values()]
        blocking = any(not tool.function_schema.is_async for tool in own)
        self.capabilities = elf.AdapterCapabilities(
            stream=True, human=True, cancel="cooperative" if blocking else "certain", recover=False, blocking=blocking
        )

    def run(self, ctx: elf.RunContext) -> AsyncGenerator[elf.Event, None]:
        """Do the work of one run."""
        return elf.bridged(ctx, lambda bridge: self._work(ctx, bridge))

    async def _work(self, ctx: elf.RunContext, bridge: elf.Bridge) -> None:
        kept, answers = await ctx.checkpoints.load(), ctx.answers
        asked: dict[str, str] = json.loads(kept.get("asked", b"{}"))
        if asked.keys() <= answers.keys():
            past = ai.ModelMessagesTypeAdapter.validate_json(kept["said"]) if asked else map(said, await ctx.history())
            given = ai.DeferredToolResults(calls={call: answers[call] for call in asked}) if asked else None
            async with elf.Line(ctx.endpoint, ctx.deadline) as line, elf.open_tools(ctx, bridge.push) as tools:
                done: Any = await self._agent.run(
                    None if asked else ctx.text,
                    message_history=[*past],
                    deferred_tool_results=given,
                    model=model_of(line),
                    model_settings={"temperature": ctx.endpoint.temperature},
                    output_type=[str, ai.DeferredToolRequests],
                    toolsets=[ai.FunctionToolset([ai.Tool(ask_person), *map(offered, tools)])],
                    event_stream_handler=lambda run, events: forward(bridge, line, run.messages[-1], events),
                )
            calls = done.output.calls if isinstance(done.output, ai.DeferredToolRequests) else ()
            if asked := {call.tool_call_id: call.args_as_dict()["question"] for call in calls}:
                await ctx.checkpoints.save({"said": done.all_messages_json(), "asked": json.dumps(asked).encode()})
        for call in asked.keys() - answers.keys():
            await bridge.put(elf.InputRequired(call, asked[call]))


def said(turn: elf.TurnMessage) -> ai.ModelMessage:
    asked = ai.ModelRequest.user_text_prompt(turn.text)
    return asked if turn.role == "user" else ai.ModelResponse([ai.TextPart(turn.text)])


async def forward(bridge: elf.Bridge, line: elf.Line, last: ai.ModelMessage, events: AsyncIterable[object]) -> None:
    if isinstance(last, ai.ModelResponse):
        use, (model, host) = last.usage, line.named(last.model_name or "")
        await bridge.put(elf.Usage(model, use.input_tokens, use.output_tokens, use.cache_read_tokens, provider=host))
        if last.text and last.tool_calls:
            await bridge.put(elf.TextDelta("\n\n"))
    async for event in events:
        match event:
            case ai.PartStartEvent(part=ai.TextPart(text)) | ai.PartDeltaEvent(delta=ai.TextPartDelta(text)):
                await bridge.put(elf.TextDelta(text))
            case ai.FunctionToolCallEvent(call):
                await bridge.put(elf.ToolCall(call.tool_call_id, call.tool_name, call.args_as_dict()))
            case ai.FunctionToolResultEvent(ai.ToolReturnPart() as part):
                await bridge.put(elf.ToolResult(part.tool_call_id, part.model_response_str(), part.outcome == "failed"))
            case ai.FunctionToolResultEvent(ai.RetryPromptPart() as part):
                await bridge.put(elf.ToolResult(part.tool_call_id, part.model_response(), is_error=True))

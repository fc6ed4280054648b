"""ELF teams that are agents of pydantic-ai."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pydantic_ai as ai
from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider

import elf_sdk.adapters as elf


async def ask_person(question: str) -> str:
    """Ask the person whom you work for, and wait for the answer."""
    raise ai.CallDeferred


def delegating(tool: elf.DelegateTool) -> ai.Tool[object]:
    async def propose(arguments: elf.DelegateArguments) -> str:
        return tool.propose(arguments)

    return ai.Tool(propose, name=tool.name, description=tool.description)


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
        kept, answers, llm = await ctx.checkpoints.load(), ctx.answers, ctx.endpoint
        asked: dict[str, str] = json.loads(kept.get("asked", b"{}"))
        if missing := asked.keys() - answers.keys():
            for call in missing:
                await bridge.put(elf.InputRequired(call, asked[call]))
            return
        past = ai.ModelMessagesTypeAdapter.validate_json(kept["said"]) if asked else [*map(said, await ctx.history())]
        # It guesses by the model's name whether it reasons, and then leaves the temperature out.
        profile = None if llm.provider == "openai" else OpenAIModelProfile(openai_supports_reasoning=False)
        tools = [ai.Tool(ask_person), *map(delegating, elf.delegate_tools(ctx, bridge.push))]
        client = AsyncOpenAI(base_url=llm.base_url, api_key=llm.api_key, timeout=llm.timeout, max_retries=llm.retries)
        talk: Any = self._agent.iter(
            None if asked else ctx.text,
            message_history=past,
            deferred_tool_results=ai.DeferredToolResults(calls={c: answers[c] for c in asked}) if asked else None,
            model=OpenAIChatModel(llm.model, provider=OpenAIProvider(openai_client=client), profile=profile),
            model_settings={"temperature": llm.temperature},
            output_type=[str, ai.DeferredToolRequests],
            toolsets=[ai.FunctionToolset(tools)],
        )
        async with client, talk as run:
            async for node in run:
                if ai.Agent.is_call_tools_node(node):
                    use = node.model_response.usage
                    await bridge.put(elf.Usage(llm.model, use.input_tokens, use.output_tokens, use.cache_read_tokens))
                    if node.model_response.text and node.model_response.tool_calls:
                        await bridge.put(elf.TextDelta("\n\n"))
                if ai.Agent.is_model_request_node(node) or ai.Agent.is_call_tools_node(node):
                    async with node.stream(run.ctx) as events:
                        async for event in events:
                            await forward(bridge, event)
        if run.result and isinstance(run.result.output, ai.DeferredToolRequests):
            asked = {call.tool_call_id: call.args_as_dict()["question"] for call in run.result.output.calls}
            await ctx.checkpoints.save({"said": run.result.all_messages_json(), "asked": json.dumps(asked).encode()})
            for call, question in asked.items():
                await bridge.put(elf.InputRequired(call, question))


def said(turn: elf.TurnMessage) -> ai.ModelMessage:
    if turn.role == "user":
        return ai.ModelRequest.user_text_prompt(turn.text)
    return ai.ModelResponse([ai.TextPart(turn.text)])


async def forward(bridge: elf.Bridge, event: object) -> None:
    match event:
        case ai.PartStartEvent(part=ai.TextPart(text)) | ai.PartDeltaEvent(delta=ai.TextPartDelta(text)):
            await bridge.put(elf.TextDelta(text))
        case ai.FunctionToolCallEvent(call):
            await bridge.put(elf.ToolCall(call.tool_call_id, call.tool_name, call.args_as_dict()))
        case ai.FunctionToolResultEvent(ai.ToolReturnPart() as result):
            await bridge.put(elf.ToolResult(result.tool_call_id, result.model_response_str()))
        case ai.FunctionToolResultEvent(ai.RetryPromptPart() as result):
            await bridge.put(elf.ToolResult(result.tool_call_id, result.model_response(), is_error=True))

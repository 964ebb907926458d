"""openai-agents, by Responses and by chat completions."""
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI
from check import KEY, URL, run

set_tracing_disabled(True)


def client():
    return AsyncOpenAI(base_url=f"{URL}/openai/v1", api_key=KEY)


async def converse(model, settings=ModelSettings()):
    history = []
    for turn in range(5):
        history.append({"role": "user", "content": f"turn {turn}"})
        result = await Runner.run(Agent(name="a", model=model, model_settings=settings), history)
        assert result.final_output.startswith("Hello from "), result.final_output
        history = result.to_input_list()


async def responses():
    await converse(OpenAIResponsesModel("gpt-5", client()))


async def responses_without_storing():
    await converse(OpenAIResponsesModel("gpt-5", client()), ModelSettings(store=False, response_include=["reasoning.encrypted_content"]))


async def chat():
    await converse(OpenAIChatCompletionsModel("gpt-4o", client()))


run(responses, responses_without_storing, chat)

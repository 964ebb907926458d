"""litellm: its azure and its openai providers."""
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from check import KEY, URL, VERSION, run

litellm.telemetry = False
HELLO = [{"role": "user", "content": "Hello"}]


def hello(text):
    assert text.startswith("Hello from "), text


def azure_chat():
    hello(litellm.completion(model="azure/gpt-4o", api_base=URL, api_key=KEY, api_version=VERSION, messages=HELLO).choices[0].message.content)


def azure_chat_streamed():
    chunks = litellm.completion(model="azure/gpt-4o", api_base=URL, api_key=KEY, api_version=VERSION, messages=HELLO, stream=True)
    hello("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


def azure_responses():
    answer = litellm.responses(model="azure/gpt-5", api_base=URL, api_key=KEY, api_version="preview", input="Hello")
    hello(answer.output[0].content[0].text)


def openai_chat():
    hello(litellm.completion(model="openai/gpt-4o", api_base=f"{URL}/openai/v1", api_key=KEY, messages=HELLO).choices[0].message.content)


def azure_embeddings():
    assert litellm.embedding(model="azure/text-embedding-3-small", api_base=URL, api_key=KEY, api_version=VERSION, input=["Hello"]).data


def azure_transcription():
    audio = ("a.wav", b"RIFF", "audio/wav")
    assert litellm.transcription(model="azure/whisper", api_base=URL, api_key=KEY, api_version=VERSION, file=audio).text


run(azure_chat, azure_chat_streamed, azure_responses, openai_chat, azure_embeddings, azure_transcription)

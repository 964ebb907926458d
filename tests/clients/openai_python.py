"""openai for Python, through the v1 API and through the classic one."""
import json, pathlib
from openai import AsyncOpenAI, AzureOpenAI, NotFoundError, OpenAI
from pydantic import BaseModel
from check import KEY, URL, VERSION, run

v1 = OpenAI(base_url=f"{URL}/openai/v1", api_key=KEY)
classic = AzureOpenAI(azure_endpoint=URL, api_key=KEY, api_version=VERSION)
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"file_id": {"type": "string"}}}}}


def hello(text):
    assert text.startswith("Hello from "), text


def chat():
    for client in (v1, classic):
        hello(client.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.content)


def chat_streamed():
    for client in (v1, classic):
        chunks = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True})
        hello("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))


def tools():
    for client in (v1, classic):
        hello(client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=[TOOL]).choices[0].message.content)


def structured_output():
    class Answer(BaseModel):
        text: str

    schema = {"type": "json_schema", "json_schema": {"name": "Answer", "schema": Answer.model_json_schema()}}
    hello(v1.chat.completions.create(model="gpt-4o", messages=HELLO, response_format=schema).choices[0].message.content)


def embeddings():
    for client in (v1, classic):
        assert client.embeddings.create(model="text-embedding-3-small", input="Hello").data[0].embedding


def responses():
    for client in (v1, classic):
        hello(client.responses.create(model="gpt-5", input="Hello").output_text)


def responses_streamed():
    with v1.responses.stream(model="gpt-5", input="Hello") as stream:
        hello(stream.get_final_response().output_text)


def responses_chain():
    previous = None
    for _ in range(5):
        previous = v1.responses.create(model="gpt-5", input="Hello", previous_response_id=previous and previous.id)
        assert v1.responses.retrieve(previous.id).id == previous.id


def responses_without_storing():
    """Five turns on two resources, reasoning replayed as the library gave it."""
    for stream in (False, True):
        history = []
        for turn in range(5):
            history.append({"role": "user", "content": f"turn {turn}"})
            arguments = dict(model="gpt-5", input=history, store=False, include=["reasoning.encrypted_content"])
            if stream:
                with v1.responses.stream(**arguments) as events:
                    answer = events.get_final_response()
            else:
                answer = v1.responses.create(**arguments)
            history += [item.model_dump(exclude_none=True) for item in answer.output]


def conversations():
    conversation = v1.conversations.create()
    for _ in range(3):
        hello(v1.responses.create(model="gpt-5", input="Hello", conversation=conversation.id).output_text)
    v1.conversations.delete(conversation.id)


def files_and_vector_stores():
    for client in (v1, classic):
        file = client.files.create(file=("a.txt", b"text"), purpose="assistants")
        store = client.vector_stores.create(name="s", file_ids=[file.id])
        client.vector_stores.files.create(vector_store_id=store.id, file_id=file.id)
        assert client.files.retrieve(file.id).id == file.id
        answer = client.responses.create(model="gpt-5", input="Hello", tools=[{"type": "file_search", "vector_store_ids": [store.id]}])
        hello(answer.output_text)
        client.vector_stores.delete(store.id)
        client.files.delete(file.id)


def batches():
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4o", "messages": HELLO}}
    for client in (v1, classic):
        file = client.files.create(file=("b.jsonl", json.dumps(line).encode()), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert client.batches.retrieve(batch.id).id == batch.id


def upload_in_default_parts():
    """Parts of 64 MiB, as the library makes them."""
    with open("big.jsonl", "wb") as file:
        file.write(b"\n" * (65 << 20))
    v1.uploads.upload_file_chunked(file=pathlib.Path("big.jsonl"), mime_type="text/jsonl", purpose="batch")


def images():
    for client in (v1, classic):
        assert client.images.generate(model="gpt-image-1", prompt="a cat").data
        assert client.images.edit(model="gpt-image-1", prompt="a cat", image=("a.png", b"\x89PNG", "image/png")).data


def audio():
    for client in (v1, classic):
        assert client.audio.transcriptions.create(model="whisper", file=("a.wav", b"RIFF", "audio/wav")).text
        assert client.audio.speech.create(model="whisper", voice="alloy", input="Hello").content


async def realtime():
    async with AsyncOpenAI(base_url=f"{URL}/openai/v1", api_key=KEY).realtime.connect(model="gpt-realtime") as connection:
        await connection.send({"type": "session.update", "session": {"type": "realtime"}})
        await connection.recv_bytes()


def assistants():
    assistant = classic.beta.assistants.create(model="gpt-4o", name="a")
    thread = classic.beta.threads.create()
    classic.beta.threads.messages.create(thread.id, role="user", content="Hello")
    run_ = classic.beta.threads.runs.create(thread.id, assistant_id=assistant.id)
    assert classic.beta.threads.runs.retrieve(run_.id, thread_id=thread.id).id == run_.id


def models():
    assert "gpt-4o" in [model.id for model in v1.models.list()]


def base_url_of_the_v1_api_in_the_azure_client():
    client = AzureOpenAI(base_url=f"{URL}/openai/v1", api_key=KEY, api_version="preview")
    hello(client.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.content)
    client = AzureOpenAI(azure_endpoint=f"{URL}/openai/v1", api_key=KEY, api_version=VERSION)
    hello(client.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.content)


def unknown_model():
    try:
        v1.chat.completions.create(model="nobody", messages=HELLO)
    except NotFoundError as error:
        assert error.code == "DeploymentNotFound", error.code
    else:
        raise AssertionError("served")


run(chat, chat_streamed, tools, structured_output, embeddings, responses, responses_streamed, responses_chain, responses_without_storing,
    conversations, files_and_vector_stores, batches, upload_in_default_parts, images, audio, realtime, assistants, models,
    base_url_of_the_v1_api_in_the_azure_client, unknown_model)

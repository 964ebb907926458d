"""openai for Python: transcription sessions, whose model is named in a frame after the handshake."""
import json
from openai import AsyncAzureOpenAI, AsyncOpenAI
from check import KEY, URL, VERSION, run

WORDS = {"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper", "language": "en"}}}}


def clients():
    return [AsyncOpenAI(base_url=f"{URL}/openai/v1", api_key=KEY),
            AsyncAzureOpenAI(azure_endpoint=URL, api_key=KEY, api_version=VERSION)]


async def said(client, *frames, **options):
    """What comes back for each frame: these resources say what they hear, or what is wrong with it."""
    heard = []
    async with client.realtime.connect(extra_query={"intent": "transcription"}, **options) as connection:
        for frame in frames:
            await connection.send(frame)
            heard.append(json.loads(await connection.recv_bytes()))
    return heard


def named(event):
    assert event["type"] == "session.update", event
    return event["session"]["audio"]["input"]["transcription"]["model"]


async def a_session_names_its_model_in_its_first_frame():
    for client in clients()[:1]:
        [event] = await said(client, {"type": "session.update", "session": WORDS})
        assert named(event).startswith("whisper-of-"), event


async def every_later_frame_is_understood_too():
    update = {"type": "session.update", "session": WORDS}
    audio = {"type": "input_audio_buffer.append", "audio": "bW9kZWw="}
    first, heard, second = await said(clients()[0], update, audio, update)
    assert heard == audio and named(first) == named(second), (first, heard, second)


async def a_model_in_the_query_is_the_gateways_own_hint():
    [event] = await said(clients()[0], {"type": "session.update", "session": WORDS}, model="whisper")
    assert named(event).startswith("whisper-of-"), event


async def a_deployment_that_nobody_has_is_told_of_in_the_session():
    wrong = {"type": "transcription", "audio": {"input": {"transcription": {"model": "nobody"}}}}
    [event] = await said(clients()[0], {"type": "session.update", "session": wrong})
    assert event["type"] == "error", event


async def an_ephemeral_key_names_it_beforehand():
    client = AsyncOpenAI(base_url=f"{URL}/openai/v1", api_key=KEY)
    try:
        await client.realtime.client_secrets.create(session=WORDS)
    except Exception as error:
        # These resources issue none: it must be their answer, and no word about the alias.
        assert getattr(error, "status_code", None) == 404 and "whisper" not in str(error), error


run(a_session_names_its_model_in_its_first_frame, every_later_frame_is_understood_too, a_model_in_the_query_is_the_gateways_own_hint,
    a_deployment_that_nobody_has_is_told_of_in_the_session, an_ephemeral_key_names_it_beforehand)

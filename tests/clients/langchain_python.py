"""langchain-openai: the Azure classes and the v1 ones."""
from langchain_openai import AzureChatOpenAI, AzureOpenAIEmbeddings, ChatOpenAI
from check import KEY, URL, VERSION, run


def hello(text):
    assert str(text).startswith("Hello from "), text


def azure_chat():
    model = AzureChatOpenAI(azure_endpoint=URL, api_key=KEY, api_version=VERSION, azure_deployment="gpt-4o")
    hello(model.invoke("Hello").content)
    hello("".join(chunk.content for chunk in model.stream("Hello")))


def v1_chat():
    hello(ChatOpenAI(base_url=f"{URL}/openai/v1", api_key=KEY, model="gpt-4o").invoke("Hello").content)


def v1_responses():
    model = ChatOpenAI(base_url=f"{URL}/openai/v1", api_key=KEY, model="gpt-5", use_responses_api=True)
    hello(model.invoke("Hello").text)


def azure_embeddings():
    assert AzureOpenAIEmbeddings(azure_endpoint=URL, api_key=KEY, api_version=VERSION, model="text-embedding-3-small", check_embedding_ctx_length=False).embed_query("Hello")


run(azure_chat, v1_chat, v1_responses, azure_embeddings)

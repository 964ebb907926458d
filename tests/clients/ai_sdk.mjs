// @ai-sdk/azure with the three forms of its base URL.
import { createAzure } from "@ai-sdk/azure";
import { embed, generateText, streamText } from "ai";
import { KEY, URL, VERSION, equal, hello, run } from "./check.mjs";

const forms = {
  "base URL ending in /openai": createAzure({ baseURL: `${URL}/openai`, apiKey: KEY }),
  "base URL ending in /openai, dated version": createAzure({ baseURL: `${URL}/openai`, apiKey: KEY, apiVersion: VERSION }),
  "base URL ending in /openai/deployments": createAzure({ baseURL: `${URL}/openai`, apiKey: KEY, apiVersion: VERSION, useDeploymentBasedUrls: true }),
};
const checks = {};
for (const [form, azure] of Object.entries(forms)) {
  checks[`${form}: chat`] = async () => hello((await generateText({ model: azure.chat("gpt-4o"), prompt: "Hello" })).text);
  checks[`${form}: chat, streamed`] = async () => hello(await streamText({ model: azure.chat("gpt-4o"), prompt: "Hello" }).text);
  checks[`${form}: embeddings`] = async () => equal((await embed({ model: azure.embedding("text-embedding-3-small"), value: "x" })).embedding.length > 0, true);
  if (form.endsWith("deployments")) continue;
  checks[`${form}: responses, five turns without storing`] = async () => {
    const messages = [];
    for (let turn = 0; turn < 5; turn++) {
      messages.push({ role: "user", content: `turn ${turn}` });
      const providerOptions = { openai: { store: false, include: ["reasoning.encrypted_content"] } };
      const answer = await generateText({ model: azure.responses("gpt-5"), messages, providerOptions });
      hello(answer.text);
      messages.push(...answer.response.messages);
    }
  };
}
await run("ai_sdk", checks);

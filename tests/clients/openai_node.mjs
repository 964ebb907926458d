// openai for Node, through the v1 API and through the classic one.
import OpenAI, { AzureOpenAI, toFile } from "openai";
import { KEY, URL, VERSION, equal, hello, run } from "./check.mjs";

const v1 = new OpenAI({ baseURL: `${URL}/openai/v1`, apiKey: KEY });
const classic = new AzureOpenAI({ endpoint: URL, apiKey: KEY, apiVersion: VERSION });
const messages = [{ role: "user", content: "Hello" }];
const both = async (check) => { for (const client of [v1, classic]) await check(client); };

await run("openai_node", {
  chat: () => both(async (c) => hello((await c.chat.completions.create({ model: "gpt-4o", messages })).choices[0].message.content)),
  "chat, streamed": () => both(async (c) => {
    let text = "";
    for await (const chunk of await c.chat.completions.create({ model: "gpt-4o", messages, stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
    hello(text);
  }),
  responses: () => both(async (c) => hello((await c.responses.create({ model: "gpt-5", input: "Hello" })).output_text)),
  "responses without storing, five turns": async () => {
    const history = [];
    for (let turn = 0; turn < 5; turn++) {
      history.push({ role: "user", content: `turn ${turn}` });
      const answer = await v1.responses.create({ model: "gpt-5", input: history, store: false, include: ["reasoning.encrypted_content"] });
      history.push(...answer.output);
    }
  },
  "responses, streamed": async () => {
    const stream = v1.responses.stream({ model: "gpt-5", input: "Hello" });
    hello((await stream.finalResponse()).output_text);
  },
  embeddings: () => both(async (c) => equal((await c.embeddings.create({ model: "text-embedding-3-small", input: "x" })).data.length, 1)),
  "files and vector stores": () => both(async (c) => {
    const file = await c.files.create({ file: await toFile(Buffer.from("text"), "a.txt"), purpose: "assistants" });
    const store = await c.vectorStores.create({ name: "s" });
    await c.vectorStores.files.create(store.id, { file_id: file.id });
    equal((await c.files.retrieve(file.id)).id, file.id);
  }),
  "images, generated and edited": () => both(async (c) => {
    await c.images.generate({ model: "gpt-image-1", prompt: "a cat" });
    await c.images.edit({ model: "gpt-image-1", prompt: "a cat", image: await toFile(Buffer.from("x"), "a.png", { type: "image/png" }) });
  }),
  batches: () => both(async (c) => {
    const line = JSON.stringify({ custom_id: "1", method: "POST", url: "/v1/chat/completions", body: { model: "gpt-4o", messages } });
    const file = await c.files.create({ file: await toFile(Buffer.from(line), "b.jsonl"), purpose: "batch" });
    const batch = await c.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
    equal((await c.batches.retrieve(batch.id)).id, batch.id);
  }),
  audio: () => both(async (c) => { await c.audio.transcriptions.create({ model: "whisper", file: await toFile(Buffer.from("RIFF"), "a.wav") }); }),
});

// openai for Node: transcription sessions, whose model is named in a frame after the handshake.
import net from "node:net";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { KEY, URL, run } from "./check.mjs";

const client = new OpenAI({ baseURL: `${URL}/openai/v1`, apiKey: KEY });
const session = (model) => ({ type: "transcription", audio: { input: { transcription: { model } } } });

// The library's own connection, without the TLS that it takes for granted, and with the intent in its URL.
const connect = (keepsModel) => new OpenAIRealtimeWS({
  model: "whisper",
  options: {
    createConnection: (options) => net.connect({ ...options, path: undefined }),
    finishRequest: (request) => {
      request.path = `${request.path.split("?")[0]}?intent=transcription${keepsModel ? "&model=whisper" : ""}`;
      request.end();
    },
  },
}, client);

// The first thing that comes back: these resources say what they hear, or what is wrong with it.
const said = (socket, event) => new Promise((resolve, reject) => {
  socket.socket.on("open", () => socket.send(event));
  socket.socket.on("message", (data) => { resolve(JSON.parse(data.toString())); socket.close(); });
  socket.socket.on("error", reject);
  socket.socket.on("close", () => reject(new Error("closed without a word")));
  socket.on("error", () => {});
});

const model = (event) => {
  if (event.type !== "session.update") throw new Error(JSON.stringify(event));
  return event.session.audio.input.transcription.model;
};

await run("realtime_transcription_node", {
  "the model stands in the first frame": async () => {
    const name = model(await said(connect(false), { type: "session.update", session: session("whisper") }));
    if (!name.startsWith("whisper-of-")) throw new Error(name);
  },
  "a model in the query is a hint": async () => {
    const name = model(await said(connect(true), { type: "session.update", session: session("whisper") }));
    if (!name.startsWith("whisper-of-")) throw new Error(name);
  },
  "a deployment that nobody has is told of": async () => {
    const event = await said(connect(false), { type: "session.update", session: session("nobody") });
    if (event.type !== "error") throw new Error(JSON.stringify(event));
  },
});

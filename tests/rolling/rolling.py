#!/usr/bin/env python3
"""Three gateways behind nginx, restarted one after the other under load: no request may be lost, no stream cut.

    cargo build -p aoai-gateway && python3 tests/rolling/rolling.py       # needs nginx; --rounds 2, --clients 40, GATEWAY=…

Each gateway gets SIGTERM, ends by itself with status 0, and is started again before the next one is told. Half of the clients ask
for streams that take two seconds. nginx is as it comes: it repeats a POST only if nothing of it was sent, and knows nothing of
/readyz. Ends with status 1 when anything was cut, or more was lost than --lost-at-most, which is 0. A request that nginx sends on an idle
connection in the very moment in which that is closed is lost whatever a server does: nginx does not repeat a POST (RFC 9112 §9.3.1).
"""
import argparse
import asyncio
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
GATEWAY = os.environ.get("GATEWAY", str(TARGET / "debug" / "aoai-gateway"))
KEY = "key-of-the-rolling-client"
EVENTS, PAUSE = 20, 0.1
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
WHOLE = b'{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hi"}}]}'


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def read_head(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
    return head[0], {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}


async def resource(reader, writer):
    """One connection to the simulated resource."""
    try:
        while True:
            _, headers = await read_head(reader)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            if b'"stream":true' not in body:
                await asyncio.sleep(0.02)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(WHOLE), WHOLE))
                continue
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for part in [EVENT] * EVENTS + [LAST]:
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
                await asyncio.sleep(PAUSE)
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


class Process:
    """One gateway, started as often as it is asked for."""

    def __init__(self, directory, number, resource_port):
        self.port, self.admin = free_port(), free_port()
        self.file = directory / f"gateway-{number}.toml"
        self.file.write_text(f"""
listen = "127.0.0.1:{self.port}"
admin = "127.0.0.1:{self.admin}"
shutdown_delay = "2s"
shutdown_grace = "20s"
[[backends]]
name = "east"
endpoint = "http://127.0.0.1:{resource_port}"
credential = {{ api_key = "key-of-the-backend" }}
deployments = [{{ name = "gpt-4o" }}]
[[clients]]
id = "team"
key = "{KEY}"
[telemetry]
log = "warn"
""")
        self.process = None

    async def start(self):
        self.process = subprocess.Popen([GATEWAY, "--config", self.file], stdout=subprocess.DEVNULL)
        for _ in range(200):
            await asyncio.sleep(0.05)
            try:
                ask = lambda: urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=2).status
                if await asyncio.to_thread(ask) == 200:
                    return
            except OSError:
                pass
        raise SystemExit("a gateway did not become ready")

    async def end(self):
        self.process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(self.process.wait, 40)
        assert status == 0, f"a gateway ended with {status}"


class Load:
    def __init__(self, port):
        self.port, self.is_over = port, False
        self.done = {"whole": 0, "stream": 0}
        self.lost, self.cut, self.slow = [], [], []

    async def client(self, number):
        is_stream = number % 2 == 0
        body = b'{"messages":[{"role":"user","content":"Hi"}]%s}' % (b',"stream":true' if is_stream else b"")
        request = (
            f"POST /openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21 HTTP/1.1\r\nhost: front.example\r\napi-key: {KEY}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        reader = writer = None
        while not self.is_over:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            start = time.monotonic()
            try:
                writer.write(request)
                status, headers = await asyncio.wait_for(read_head(reader), 30)
                text = await asyncio.wait_for(self.body(reader, headers), 30)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                self.cut.append(repr(error))
                writer = None
                continue
            self.slow.append(time.monotonic() - start)
            if " 200 " not in f"{status} ":
                self.lost.append(f"{status} {text[:200]}")
            elif is_stream and (text.count(b"word ") != EVENTS or not text.endswith(LAST)):
                self.cut.append(f"a stream of {len(text)} bytes")
            else:
                self.done["stream" if is_stream else "whole"] += 1
            if headers.get("connection") == "close":
                writer.close()
                writer = None
            if not is_stream:
                await asyncio.sleep(0.01)

    @staticmethod
    async def body(reader, headers):
        if "content-length" in headers:
            return await reader.readexactly(int(headers["content-length"]))
        text = b""
        while size := int(await reader.readline(), 16):
            text += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return text


def nginx(directory, port, gateways):
    servers = "\n".join(f"    server 127.0.0.1:{gateway.port} max_fails=1 fail_timeout=1s;" for gateway in gateways)
    file = directory / "nginx.conf"
    file.write_text(f"""
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  upstream gateways {{
{servers}
    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 100000;
    location / {{
      proxy_pass http://gateways;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_buffering off;
      proxy_read_timeout 60s;
    }}
  }}
}}
""")
    return subprocess.Popen(["nginx", "-c", file, "-p", directory, "-e", f"{directory}/error.log"])


async def run(arguments, directory):
    server = await asyncio.start_server(resource, "127.0.0.1", 0, backlog=1024)
    gateways = [Process(directory, number, server.sockets[0].getsockname()[1]) for number in range(3)]
    front = None
    try:
        await asyncio.gather(*(gateway.start() for gateway in gateways))
        port = free_port()
        front = nginx(directory, port, gateways)
        await asyncio.sleep(1)
        load = Load(port)
        clients = [asyncio.create_task(load.client(number)) for number in range(arguments.clients)]
        await asyncio.sleep(3)
        ends = 0
        for _ in range(arguments.rounds):
            for gateway in gateways:
                start = time.monotonic()
                await gateway.end()
                ends += 1
                print(f"ended in {time.monotonic() - start:.1f} s; {sum(load.done.values())} done, {len(load.lost)} lost, {len(load.cut)} cut", flush=True)
                await gateway.start()
                await asyncio.sleep(2)
        load.is_over = True
        await asyncio.gather(*clients)
    finally:
        for process in [front, *(gateway.process for gateway in gateways)]:
            if process and process.poll() is None:
                process.terminate() if process is front else process.kill()
                process.wait()
    slow = sorted(load.slow)
    print(json.dumps({"restarts": ends, **load.done, "lost": len(load.lost), "cut": len(load.cut)}))
    for problem in (load.lost + load.cut)[:10]:
        print("  ", problem)
    if load.lost or load.cut:
        print((directory / "error.log").read_text()[-3000:])
    assert all(load.done.values()) and slow, "there was no load"
    return len(load.lost) <= arguments.lost_at_most and not load.cut


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--lost-at-most", type=int, default=0)
    arguments = parser.parse_args()
    if not shutil.which("nginx"):
        sys.exit("there is no nginx: apt-get install nginx-light")
    with tempfile.TemporaryDirectory(prefix="rolling-") as directory:
        sys.exit(0 if asyncio.run(run(arguments, pathlib.Path(directory))) else 1)


if __name__ == "__main__":
    main()

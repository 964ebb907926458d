"""A gateway before resources that do as they are told."""

import http.server
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
GATEWAY = os.environ.get("GATEWAY", str(TARGET / "debug" / "aoai-gateway"))
KEY = "key-of-the-page-test"


class Resources:
    """Any number of simulated resources behind one address, told apart by the first segment of the path."""

    def __init__(self):
        self.throttled = {}
        resources = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                name = self.path.split("/")[1]
                wait = resources.throttled.get(name)
                usage = {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}
                done = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [], "usage": usage}
                refused = {"error": {"code": "429", "message": "Too many requests"}}
                body = json.dumps(refused if wait else done).encode()
                self.send_response(429 if wait else 200)
                if wait:
                    self.send_header("retry-after-ms", str(wait))
                else:
                    self.send_header("x-ratelimit-remaining-tokens", "72000")
                    self.send_header("x-ratelimit-limit-tokens", "100000")
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def backend(resources, number, name, alias="gpt-4o", deployment=None, more=""):
    served = {"name": deployment or alias, "alias": alias}
    pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in served.items())
    return (
        f"[[backends]]\nname = {json.dumps(name)}\nendpoint = \"{resources.url}/b{number}\"\nregion = \"eastus\"\n"
        f"credential = {{ api_key = \"key-of-a-backend\" }}\n{more}deployments = [{{ {pairs} }}]\n"
    )


def client(name, key=KEY):
    return f"[[clients]]\nid = {json.dumps(name)}\nkey = \"{key}\"\n"


class Gateway:
    def __init__(self, config, head=""):
        self.directory = tempfile.TemporaryDirectory(prefix="page-")
        file = pathlib.Path(self.directory.name) / "gateway.toml"
        file.write_text(f'listen = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\n{head}{config}[session]\ncookie = ""\n[telemetry]\nlog = "warn"\n')
        self.process = subprocess.Popen([GATEWAY, "--config", file], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip().removeprefix("listening on ")
        self.admin = self.process.stdout.readline().strip().removeprefix("admin on ")
        assert self.admin.startswith("http"), "the gateway did not start"

    def chat(self, alias="gpt-4o", key=KEY):
        request = urllib.request.Request(
            f"{self.url}/openai/deployments/{alias}/chat/completions?api-version=2024-10-21",
            data=b'{"messages":[{"role":"user","content":"Hello"}]}',
            headers={"api-key": key, "content-type": "application/json"},
        )
        try:
            return urllib.request.urlopen(request, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code

    def status(self):
        return json.load(urllib.request.urlopen(f"{self.admin}/status", timeout=10))

    def close(self):
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()

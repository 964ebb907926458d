"""Everything refuses connections and comes back: openai for Python, with its default two retries, rides it out."""
import http.server, json, os, socket, subprocess, tempfile, threading, time
from openai import OpenAI
from check import run

CHAT = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "back"}}]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(CHAT).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Outage:
    """Two resources that refuse connections until `end`, and a gateway in front."""

    def __init__(self):
        self.ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.ports.append(free.getsockname()[1])
        config = 'listen = "127.0.0.1:0"\nadmin = "off"\n[[clients]]\nid = "team"\nkey = "key-of-the-team-0123"\n'
        for port in self.ports:
            config += (f'[[backends]]\nname = "b{port}"\nendpoint = "http://127.0.0.1:{port}"\ncredential = {{ api_key = "k" }}\n'
                       'deployments = [{ name = "gpt-4o" }]\n')
        file = tempfile.NamedTemporaryFile("w", suffix=".toml", delete=False)
        file.write(config)
        file.close()
        self.process = subprocess.Popen([os.environ["GATEWAY"], "--config", file.name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        url = self.process.stdout.readline().split()[-1]
        self.client = OpenAI(base_url=f"{url}/openai/v1", api_key="key-of-the-team-0123")
        self.servers = []

    def end(self):
        for port in self.ports:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.servers.append(server)

    def ask(self, **options):
        messages = [{"role": "user", "content": "Hello"}]
        return self.client.with_options(**options).chat.completions.create(model="gpt-4o", messages=messages).choices[0].message.content

    def close(self):
        self.process.terminate()
        self.process.wait()
        for server in self.servers:
            server.shutdown()


def rides_out(already_down):
    outage = Outage()
    try:
        until = time.monotonic() + already_down
        while time.monotonic() < until:
            try:
                outage.ask(max_retries=0)
            except Exception:
                time.sleep(0.05)
        threading.Timer(1.5, outage.end).start()
        assert outage.ask() == "back"
    finally:
        outage.close()


def an_outage_that_has_just_begun():
    for _ in range(3):
        rides_out(0)


def an_outage_of_which_the_gateway_knows():
    for _ in range(3):
        rides_out(4)


def the_first_answer_comes_within_a_second_of_the_return():
    outage = Outage()
    try:
        end = time.monotonic() + 15
        while time.monotonic() < end:
            try:
                outage.ask(max_retries=0)
            except Exception:
                time.sleep(0.02)
        outage.end()
        returned = time.monotonic()
        while True:
            try:
                outage.ask(max_retries=0)
                break
            except Exception:
                time.sleep(0.02)
        took = time.monotonic() - returned
        assert took < 1, f"{took:.2f} s"
    finally:
        outage.close()


run(an_outage_that_has_just_begun, an_outage_of_which_the_gateway_knows, the_first_answer_comes_within_a_second_of_the_return)

#!/usr/bin/env python3
"""Soak of the full gateway: everything that misbehaves, for an hour, and nothing may grow.

    cargo build --release
    python3 tests/soak/soak.py                      # an hour; --minutes 5 for a look, --pace 0.2 where others need the machine

Around the gateway run, all the time and all at once: clients that behave, clients that say nothing or half a head, readers that
take nothing, clients and WebSockets that vanish, a reload every minute, a reader of the log that stalls, and two backends of three
that flap (gone, 500, 429, streams that break off). Every ten seconds a line tells memory, descriptors, requests in flight and
connections of the gateway. It ends with status 1 when one of them grows, when something is left at rest, when the process ends or
panics, or when clients that behave are not served.
"""
import argparse, asyncio, json, os, random, signal, socket, statistics, struct, subprocess, sys, tempfile, time

KEY = "key-of-the-soak-client-0123456789"
CHAT = "/openai/v1/chat/completions"
REALTIME = "/openai/v1/realtime?model=gpt-4o"
ANSWER = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [{"index": 0,
    "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}).encode()
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
COUNTS = {}

def count(what):
    COUNTS[what] = COUNTS.get(what, 0) + 1

async def head(reader):
    """The head of a message, or nothing at the end."""
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        return ""

def length(text):
    return next((int(line.split(":")[1]) for line in text.split("\r\n") if line.lower().startswith("content-length:")), 0)

def vanish(writer):
    """Ends a connection without a word: the other side gets a reset."""
    raw = writer.get_extra_info("socket")
    if raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

class Backend:
    """One resource. `mood` is what it does: well, gone, error, throttled, breaks."""
    def __init__(self, name):
        self.name, self.mood, self.server, self.port, self.open = name, "well", None, 0, set()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def become(self, mood):
        if self.mood == "gone" and mood != "gone":
            await self.start()
        if mood == "gone" and self.mood != "gone":
            self.server.close()
            for writer in list(self.open):
                vanish(writer)
        self.mood = mood

    async def serve(self, reader, writer):
        self.open.add(writer)
        try:
            while request := await head(reader):
                body = await reader.readexactly(length(request))
                if not await self.answer(request, body, reader, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def answer(self, request, body, reader, writer):
        if "upgrade: websocket" in request.lower():
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                         b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
            while data := await reader.read(4096):
                writer.write(b"\x81\x02hi")
                await writer.drain()
            return False
        if self.mood == "error":
            return await self.send(writer, 500, b'{"error":{"code":"500","message":"x"}}')
        if self.mood == "throttled":
            return await self.send(writer, 429, b'{"error":{"code":"429","message":"x"}}', "retry-after-ms: 700\r\n")
        if b'"stream":true' not in body:
            await asyncio.sleep(random.random() * 0.02)
            return await self.send(writer, 200, ANSWER)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        endless = b"endless" in body
        for at in range(20_000 if endless else 20):
            event = EVENT % (b"x" * (1000 if endless else 20))
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            if self.mood == "breaks" and at == 5:
                vanish(writer)
                return False
            if not endless:
                await asyncio.sleep(0.01)
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()
        return True

    async def send(self, writer, status, body, more=""):
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        return True

    async def flap(self):
        while True:
            await self.become("well")
            await asyncio.sleep(random.uniform(5, 15))
            await self.become(random.choice(["gone", "error", "throttled", "breaks"]))
            await asyncio.sleep(random.uniform(3, 10))

class Gateway:
    def __init__(self, program, backends, directory):
        self.file, self.backends, self.weight = os.path.join(directory, "gateway.toml"), backends, 1
        with socket.socket() as a, socket.socket() as b:
            a.bind(("127.0.0.1", 0)); b.bind(("127.0.0.1", 0))
            self.port, self.admin = a.getsockname()[1], b.getsockname()[1]
        self.configure()
        self.log, write = os.pipe()
        os.set_blocking(self.log, False)
        self.process = subprocess.Popen([program, "--config", self.file], stdout=subprocess.DEVNULL, stderr=write)
        os.close(write)
        self.panicked = self.lines = 0

    def configure(self):
        """Weights and aliases' names alternate, so that every reload is one that changes something."""
        self.weight = 3 - self.weight
        text = (f'listen = "127.0.0.1:{self.port}"\nadmin = "127.0.0.1:{self.admin}"\nshutdown_grace = "5s"\n'
                '[timeouts]\nhead = "5s"\nwrite = "5s"\nidle = "20s"\nrequest_body = "5s"\nfirst_byte = "10s"\nanswer = "10s"\n'
                f'[[clients]]\nid = "soak"\nkey = "{KEY}"\n')
        for backend in self.backends:
            text += (f'[[backends]]\nname = "{backend.name}"\nendpoint = "http://127.0.0.1:{backend.port}"\n'
                     f'credential = {{ api_key = "key-of-{backend.name}" }}\nweight = {self.weight}\n'
                     '[[backends.deployments]]\nname = "gpt-4o"\n')
        with open(self.file, "w") as file:
            file.write(text)

    def reload(self):
        self.configure()
        self.process.send_signal(signal.SIGHUP)

    def drain_log(self):
        """Reads all that is there."""
        try:
            while data := os.read(self.log, 1 << 16):
                self.lines += data.count(b"\n")
                self.panicked += data.count(b"panicked")
        except BlockingIOError:
            pass

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    async def in_flight(self):
        status, body = await ask(self.admin, "GET", "/status")
        return sum(backend["in_flight"] for backend in json.loads(body)["backends"])

    def connections(self):
        """Established ones of its clients, from the kernel's table."""
        with open(f"/proc/{self.process.pid}/net/tcp") as table:
            rows = [line.split() for line in table.readlines()[1:]]
        return sum(row[3] == "01" and int(row[1].split(":")[1], 16) == self.port for row in rows)

async def ask(port, method, path, body=b"", key=None):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        credential = f"api-key: {key}\r\n" if key else ""
        writer.write(f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{credential}content-type: application/json\r\n"
                     f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        answer = await head(reader)
        return int(answer.split(" ")[1]), await reader.read()
    finally:
        writer.close()

def request(stream, text="hi"):
    body = json.dumps({"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": text}]}, separators=(",", ":")).encode()
    return f"POST {CHAT} HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

async def whole_stream(reader):
    try:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        return bool(await reader.readuntil(b"\r\n"))
    except (OSError, asyncio.IncompleteReadError):
        return False

async def behaves(port):
    """Several requests on one connection, plain and streamed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in range(20):
            stream = random.random() < 0.3
            writer.write(request(stream))
            answer = await head(reader)
            if not answer:
                return count("good: closed")
            count(f"good: {answer.split(' ')[1]}")
            if "chunked" in answer.lower():
                if not await whole_stream(reader):
                    return count("stream that its backend broke off")
            else:
                await reader.readexactly(length(answer))
            await asyncio.sleep(0.01)
    finally:
        writer.close()

async def is_silent(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(random.choice([b"", b"GET / HT", b"PRI * HTTP/2.0\r\n\r\n", request(False)[:-10]]))
        await reader.read()
        count("silent: closed by the gateway")
    finally:
        writer.close()

async def reads_nothing(port):
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    with raw:
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        await asyncio.get_running_loop().sock_sendall(raw, request(True, "endless"))
        await asyncio.sleep(random.uniform(5, 12))
        count("slow: left")

async def vanishes(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(random.random() < 0.5)[: None if random.random() < 0.7 else -5])
        await asyncio.sleep(random.random() * 0.1)
        count("vanished")
    finally:
        vanish(writer)

async def socket_vanishes(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {REALTIME} HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                     "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        answer = await head(reader)
        count(f"websocket: {answer.split(' ')[1] if answer else 'closed'}")
        if answer.startswith("HTTP/1.1 101"):
            for _ in range(random.randrange(5)):
                writer.write(b"\x81\x82\0\0\0\0hi")
                await reader.read(100)
            await asyncio.sleep(random.random())
    finally:
        vanish(writer)

async def forever(one, port, pause):
    while True:
        try:
            await one(port)
        except (OSError, asyncio.IncompleteReadError, ValueError, IndexError):
            count(f"{one.__name__}: broken")
        await asyncio.sleep(pause * random.random())

async def log_reader(gateway):
    """Reads, and stalls."""
    while True:
        for _ in range(40):
            gateway.drain_log()
            await asyncio.sleep(0.25)
        await asyncio.sleep(20)

async def reloads(gateway):
    while True:
        await asyncio.sleep(60)
        gateway.reload()

async def sample(gateway, started, rows, what=""):
    row = (time.monotonic() - started, gateway.memory(), gateway.descriptors(), await gateway.in_flight(), gateway.connections())
    rows.append(row)
    print(f"{row[0]:7.0f} s  {row[1]:7.1f} MiB  {row[2]:5d} descriptors  {row[3]:4d} in flight  {row[4]:4d} connections  {what}", flush=True)
    return row

def growth(rows, column):
    """The medians of the second and of the last quarter: the first is for caches and allocators to fill."""
    quarter = max(len(rows) // 4, 1)
    early, late = rows[quarter : 2 * quarter], rows[-quarter:]
    return statistics.median(r[column] for r in early or rows), statistics.median(r[column] for r in late)

def judge(rows, rest, idle, gateway):
    wrong = []
    for column, name, slack in [(1, "memory in MiB", 8), (2, "descriptors", 20), (3, "in flight", 10), (4, "connections", 20)]:
        early, late = growth(rows, column)
        print(f"{name}: {early:.1f} in the second quarter, {late:.1f} in the last; {rest[column]:.1f} at rest, {idle[column]:.1f} before")
        if late > early * 1.1 + slack:
            wrong.append(f"{name} grew")
    if rest[3] != 0:
        wrong.append("requests are in flight at rest")
    if rest[4] != 0 or rest[2] > idle[2] + 8:
        wrong.append("connections or descriptors are left at rest")
    if gateway.panicked:
        wrong.append("the gateway panicked")
    served = COUNTS.get("good: 200", 0)
    asked = sum(number for what, number in COUNTS.items() if what.startswith("good: "))
    if served < 0.99 * asked:
        wrong.append(f"of {asked} requests of clients that behave only {served} got 200")
    return wrong

async def main(program, minutes, pace):
    backends = [Backend("steady"), Backend("east"), Backend("west")]
    for backend in backends:
        await backend.start()
    with tempfile.TemporaryDirectory(prefix="soak") as directory:
        gateway = Gateway(program, backends, directory)
        try:
            return await run(gateway, backends, minutes, pace)
        finally:
            gateway.process.kill()

async def run(gateway, backends, minutes, pace):
    while True:
        try:
            if (await ask(gateway.admin, "GET", "/livez"))[0] == 200:
                break
        except OSError:
            await asyncio.sleep(0.1)
    started, rows = time.monotonic(), []
    idle = await sample(gateway, started, [], "before")
    crowd = [(behaves, 12, 0.2), (is_silent, 60, 0.5), (reads_nothing, 8, 0.5), (vanishes, 6, 0.2), (socket_vanishes, 6, 0.3)]
    tasks = [forever(one, gateway.port, pause / pace) for one, number, pause in crowd for _ in range(number)]
    tasks += [backend.flap() for backend in backends[1:]] + [log_reader(gateway), reloads(gateway)]
    tasks = [asyncio.create_task(task) for task in tasks]
    while time.monotonic() - started < minutes * 60:
        await asyncio.sleep(10)
        if gateway.process.poll() is not None:
            print(f"the gateway ended with {gateway.process.returncode}")
            return 1
        await sample(gateway, started, rows)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # Longer than every timeout. Idle connections to backends are kept for 90 s, and hyper looks for them as seldom.
    await asyncio.sleep(190)
    gateway.drain_log()
    rest = await sample(gateway, started, [], "at rest")
    for what, number in sorted(COUNTS.items()):
        print(f"{number:9d}  {what}")
    print(f"{gateway.lines:9d}  lines of the log")
    wrong = judge(rows, rest, idle, gateway)
    gateway.process.send_signal(signal.SIGTERM)
    try:
        status = gateway.process.wait(15)
    except subprocess.TimeoutExpired:
        status = None
    if status != 0:
        wrong.append(f"SIGTERM ended in {status}")
    print("\n".join(f"WRONG: {what}" for what in wrong) or "flat")
    return bool(wrong)

def newest():
    built = [path for path in ("target/release/aoai-gateway", "target/release/examples/gateway") if os.path.exists(path)]
    return max(built, key=os.path.getmtime, default="target/release/aoai-gateway")

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--minutes", type=float, default=60)
    arguments.add_argument("--pace", type=float, default=1, help="how often clients come, beside the usual")
    arguments.add_argument("--gateway", default=None, help="another program than the newest release build")
    given = arguments.parse_args()
    sys.exit(asyncio.run(main(given.gateway or newest(), given.minutes, given.pace)))

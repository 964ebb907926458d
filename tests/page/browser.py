"""A headless Chromium that is steered over a pipe (Chrome DevTools Protocol), with nothing but the standard library."""

import base64
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading

PATIENCE = 20


def find():
    """The path of a Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class Browser:
    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="page-")
        (read_orders, self.orders), (self.told, write_told) = os.pipe(), os.pipe()

        def place():
            # The protocol is spoken on the descriptors 3 and 4.
            copies = os.dup(read_orders), os.dup(write_told)
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        # The sandbox does not run for root, which continuous integration often is.
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        self.process = subprocess.Popen(
            [find(), *flags, "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "about:blank"],
            preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(read_orders)
        os.close(write_told)
        self.number, self.answers, self.events = 0, {}, {}
        self.lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        left = b""
        while part := os.read(self.told, 1 << 16):
            *messages, left = (left + part).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answer(message["id"]).put(message)
                else:
                    self.events.setdefault(message.get("sessionId"), []).append(message)

    def _answer(self, number):
        with self.lock:
            return self.answers.setdefault(number, queue.Queue())

    def call(self, method, session=None, **params):
        self.number += 1
        order = {"id": self.number, "method": method, "params": params}
        if session:
            order["sessionId"] = session
        os.write(self.orders, json.dumps(order).encode() + b"\0")
        answer = self._answer(self.number).get(timeout=PATIENCE)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, url, width=1400, height=900, dark=False):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=url)
        return page

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


class Page:
    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def run(self, expression):
        """The value of an expression; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        return result["result"].get("value")

    def until(self, what, expression, patience=10.0):
        """Waits until an expression is true, looked at with every frame; says how many milliseconds it took."""
        waiting = f"""new Promise((done) => {{
            const start = performance.now();
            const look = () => {{
                const passed = performance.now() - start;
                if ({expression}) done(passed);
                else if (passed > {patience * 1000}) done(null);
                else setTimeout(look, 20);
            }};
            look();
        }})"""
        took = self.run(waiting)
        assert took is not None, f"not within {patience} s: {what}\n{self.run('document.body.innerText')[:2000]}"
        return took

    def press(self, key, code=None, text=None, modifiers=0):
        number = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}.get(key, 0)
        text = {"Enter": "\r", " ": " "}.get(key, text)
        more = {"text": text} if text else {}
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, windowsVirtualKeyCode=number,
                      modifiers=modifiers, **(more if kind != "keyUp" else {}))

    def complaints(self):
        """Everything that a developer would see in red: errors, exceptions, violations of the policy."""
        found = []
        for event in self.browser.events.get(self.session, []):
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(" ".join(str(argument.get("value")) for argument in params["args"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return found

    def screenshot(self, path, whole=False):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

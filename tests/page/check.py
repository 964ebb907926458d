"""The status page in a browser: what an operator sees and does, and what pages of others cannot.

    python3 tests/page/check.py        GATEWAY and CHROMIUM name other programs than the debug build and what PATH has
"""

import http.server
import sys
import threading

from browser import Browser, find
from world import GATEWAY, Gateway, Resources, backend, client

EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>\"'&"


def is_without_complaint(page):
    complaints = page.complaints()
    assert complaints == [], complaints


def shows_hostile_names_as_text(browser):
    resources = Resources()
    config = backend(resources, 0, f"b{EVIL}", alias=f"a{EVIL}", deployment="d") + backend(resources, 1, "plain")
    gateway = Gateway(config + client(f"c{EVIL}"))
    try:
        page = browser.open(gateway.admin)
        page.until("the rows", "document.querySelectorAll('tr.target').length === 3")
        for place, prefix in (("tr.alias th", "a"), ("#targets tr.target th span", "b"), ("#clients tr.target th", "c")):
            texts = page.run(f"[...document.querySelectorAll({place!r})].map((element) => element.textContent)")
            assert any(text.startswith(prefix + EVIL) for text in texts), (place, texts)
        assert page.run("document.querySelectorAll('img').length") == 0
        page.run("[...document.querySelectorAll('tr.target button')].find((button) => button.textContent.includes('<img')).click()")
        assert EVIL in page.run("document.querySelector('#steer').innerText")
        assert page.run("document.title") == "Gateway"
        is_without_complaint(page)
    finally:
        gateway.close()


def keeps_to_its_policy(browser):
    resources = Resources()
    gateway = Gateway(backend(resources, 0, "east") + client("team"))
    try:
        page = browser.open(gateway.admin)
        page.until("the row", "document.querySelector('tr.target')")
        is_without_complaint(page)
        fetched = [event["params"]["request"]["url"] for event in browser.events[page.session] if event["method"] == "Network.requestWillBeSent"]
        assert all(url.startswith((gateway.admin, "data:")) for url in fetched), fetched
        # What gets in all the same does nothing.
        page.run("""new Promise((done) => {
            const script = document.createElement('script');
            try { script.text = "document.title = 'owned'"; } catch { return done(); }
            document.body.append(script);
            done();
        })""")
        refused = page.run("fetch('http://127.0.0.1:1/').then(() => false, () => true)")
        assert refused and page.run("document.title") == "Gateway"
        assert any("Content Security Policy" in text for text in page.complaints()), page.complaints()
    finally:
        gateway.close()


def shows_an_opening_circuit_within_three_seconds(browser):
    resources = Resources()
    gateway = Gateway(backend(resources, 0, "east") + backend(resources, 1, "west", more="priority = 1\n") + client("team"))
    try:
        page = browser.open(gateway.admin)
        page.until("the rows", "document.querySelectorAll('#targets tr.target').length === 2")
        assert page.run("document.querySelector('#targets td.circuit').innerText").strip() == "closed"
        resources.throttled["b0"] = 30_000
        assert gateway.chat() == 200
        took = page.until("an open circuit", "document.querySelector('#targets td.circuit').innerText.startsWith('open')", 3)
        assert "s" in page.run("document.querySelector('#targets td.circuit').innerText"), "with a countdown"
        page.until("the headline", "document.querySelector('#headline').textContent.includes('east/gpt-4o has its circuit open')", 3)
        page.until("the reason", "document.querySelector('#targets td.why').textContent.includes('asked to wait')", 3)
        page.until("the strip", "document.querySelector('#targets .strip .open')", 5)
        is_without_complaint(page)
        return f"after {took:.0f} ms"
    finally:
        gateway.close()


def drains_by_keyboard_alone(browser):
    resources = Resources()
    gateway = Gateway(backend(resources, 0, "east") + backend(resources, 1, "west") + client("team"))
    try:
        page = browser.open(gateway.admin)
        page.until("the rows", "document.querySelectorAll('#targets tr.target').length === 2")
        for _ in range(40):
            page.press("Tab")
            if page.run("document.activeElement.textContent") == "Steer west/gpt-4o":
                break
        else:
            raise AssertionError("Tab leads to no button that steers west")
        page.press("Enter")
        page.until("the dialog", "document.querySelector('#steer[open]')")
        page.press("Escape")
        page.until("the end of it", "!document.querySelector('#steer[open]')")
        assert page.run("document.activeElement.textContent") == "Steer west/gpt-4o", "the focus comes back"
        page.press("Enter")
        page.until("what is offered", "document.activeElement.textContent.startsWith('Drain')")
        page.press("Enter")
        page.until("the question", "document.querySelector('#steer-title').textContent === 'Drain west?'")
        assert not gateway.status()["backends"][1]["drained"], "it is confirmed first"
        page.press("Enter")
        page.until("what was done", "document.querySelector('#headline').textContent === 'west is drained.'")
        assert gateway.status()["backends"][1]["drained"]
        page.until("the row", "[...document.querySelectorAll('td.circuit')].some((cell) => cell.innerText.includes('drained'))")
        page.until("the event", "document.querySelector('#events').innerText.includes('drained by an operator')")
        is_without_complaint(page)
    finally:
        gateway.close()


def asks_for_the_token(browser):
    resources = Resources()
    token = "token-of-the-operator"
    gateway = Gateway(backend(resources, 0, "east") + client("team"), f'admin_token = "{token}"\n')
    try:
        page = browser.open(gateway.admin)
        page.until("the question", "document.querySelector('#token[open]')")
        assert page.run("document.querySelectorAll('tr.target').length") == 0
        for attempt, is_right in (("wrong", False), (token, True)):
            page.call("Input.insertText", text=attempt)
            page.press("Enter")
            if is_right:
                page.until("the row", "document.querySelectorAll('#targets tr.target').length === 1")
            else:
                page.until("the refusal", "document.querySelector('#token-text').textContent.includes('does not accept')")
        assert page.run("!document.querySelector('dialog[open]')")
    finally:
        gateway.close()


def says_when_it_is_stale(browser):
    resources = Resources()
    gateway = Gateway(backend(resources, 0, "east") + client("team"))
    try:
        page = browser.open(gateway.admin)
        page.until("the row", "document.querySelector('tr.target')")
        assert page.run("document.querySelector('#stale').classList.contains('hidden')")
    finally:
        gateway.close()
    page.until("the notice", "document.querySelector('#stale').innerText.includes('old')", 8)


def lets_no_page_of_others_in(browser):
    resources = Resources()
    gateway = Gateway(backend(resources, 0, "east") + client("team"))

    class Evil(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!doctype html><title>evil</title><form id=f method=post target=t action='{gateway.admin}/drain'></form><iframe name=t></iframe>".encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    try:
        # Another port of the same host is the same site, another name is another one.
        for host in ("127.0.0.1", "localhost"):
            page = browser.open(f"http://{host}:{port}/")
            page.until("the page", "document.title === 'evil'")
            for path in ("/status", "/metrics", "/"):
                assert page.run(f"fetch('{gateway.admin}{path}').then(() => false, () => true)"), f"{host} reads {path}"
            for order in ("/drain", "/backends/east/drain", "/backends/east/weight"):
                for mode in ("cors", "no-cors"):
                    page.run(f"fetch('{gateway.admin}{order}', {{method: 'POST', mode: '{mode}', body: '{{\"weight\": 0}}'}}).catch(() => 0)")
            page.run("document.querySelector('#f').submit()")
            page.run(f"new Promise((done) => {{ const frame = document.createElement('iframe'); frame.onload = done; frame.src = '{gateway.admin}/'; document.body.append(frame); }})")
            assert page.run("(() => { try { return document.querySelectorAll('iframe')[1].contentDocument === null; } catch { return true; } })()")
        status = gateway.status()
        assert status["ready"] and not status["backends"][0]["drained"] and status["backends"][0]["override"] is None, status
    finally:
        server.shutdown()
        gateway.close()


def fits_a_small_screen(browser):
    resources = Resources()
    config = "".join(backend(resources, number, f"a-backend-of-many-{number}", more=f"priority = {number}\n") for number in range(3))
    gateway = Gateway(config + client("team"))
    try:
        for width in (360, 800, 1400):
            for dark in (False, True):
                page = browser.open(gateway.admin, width, 800, dark)
                page.until("the rows", "document.querySelectorAll('#targets tr.target').length === 3")
                assert page.run("document.documentElement.scrollWidth <= innerWidth"), f"{width} px wide"
                ground = page.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
                assert (sum(ground) < 200) == dark, ground
                is_without_complaint(page)
    finally:
        gateway.close()


CHECKS = [
    shows_hostile_names_as_text, keeps_to_its_policy, shows_an_opening_circuit_within_three_seconds, drains_by_keyboard_alone,
    asks_for_the_token, says_when_it_is_stale, lets_no_page_of_others_in, fits_a_small_screen,
]


def main():
    if find() is None:
        sys.exit("there is no Chromium: apt-get install chromium, or name one by CHROMIUM")
    print(f"the page of {GATEWAY}")
    browser = Browser()
    try:
        for check in CHECKS:
            if sys.argv[1:] and check.__name__ not in sys.argv[1:]:
                continue
            more = check(browser)
            print(f"ok: {check.__name__.replace('_', ' ')}{f' ({more})' if more else ''}", flush=True)
    finally:
        browser.close()


if __name__ == "__main__":
    main()

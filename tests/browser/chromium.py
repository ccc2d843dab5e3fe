"""Chromium without a window, driven by the DevTools protocol."""

import itertools
import json
import shutil
import subprocess
from contextlib import closing, contextmanager
from urllib.request import urlopen

import websocket


class Page:
    """One page: call a method of the protocol, evaluate JavaScript, and know what went wrong on it."""

    def __init__(self, address):
        self._socket = websocket.create_connection(address, timeout=120, suppress_origin=True)
        self._numbers = itertools.count(1)
        self.wrong = []
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv())
            self._note(said)
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]

    def open(self, address):
        """Go to an address, and wait until its page is there."""
        self.call("Page.navigate", url=address)
        while not self.evaluate(
            f'location.href.startsWith("{address}") && document.readyState === "complete"'
        ):
            pass

    def evaluate(self, expression):
        """The value of an expression, awaited where it is a promise."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition):
        """Wait, in the page, until a condition holds there."""
        watch = """new Promise((done, failed) => {
            const started = performance.now();
            const look = () => (CONDITION) ? done(true)
                : performance.now() - started > 60000 ? failed(new Error("waited in vain for CONDITION"))
                : requestAnimationFrame(look);
            look();
        })"""
        self.evaluate(
            watch.replace("(CONDITION)", f"({condition})").replace("CONDITION", condition.replace('"', "'"))
        )

    def choose_file(self, selector, file):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def screenshot(self, width, height, scale=1):
        look = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **look)
        return self.call("Page.captureScreenshot")["data"]

    def close(self):
        self._socket.close()

    def _note(self, said):
        if said.get("method") == "Runtime.exceptionThrown":
            self.wrong.append(said["params"]["exceptionDetails"])
        if said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
            self.wrong.append(said["params"]["entry"])
        if said.get("method") == "Runtime.consoleAPICalled" and said["params"]["type"] == "error":
            self.wrong.append(said["params"])


@contextmanager
def chromium(binary, profile, address):
    """A page at an address."""
    arguments = [
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
        *("--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
    ]
    process = subprocess.Popen([binary, *arguments], stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "DevTools listening on" in line:
                port = line.rpartition("ws://")[2].partition("/")[0].rpartition(":")[2].strip()
                break
        else:
            raise RuntimeError("Chromium ended before it listened")
        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            [target] = [one for one in json.load(answer) if one["type"] == "page"]
        with closing(Page(target["webSocketDebuggerUrl"])) as page:
            page.open(address)
            yield page
    finally:
        process.terminate()
        process.communicate(timeout=30)
        shutil.rmtree(profile, ignore_errors=True)

"""Headless Chromium for tests of pages, driven through its own protocol (Chrome DevTools Protocol) over a websocket."""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tornado.websocket import websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
FOUND = next(filter(None, map(shutil.which, NAMES)), None)
needs_chromium = pytest.mark.skipif(FOUND is None, reason=f"none of {', '.join(NAMES)} is installed")
ROOT = Path(__file__).parents[1]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
"""The accessibility checker, from `npm install --no-save axe-core@4.14.1`."""
needs_axe = pytest.mark.skipif(
    FOUND is None or not AXE.is_file(), reason="no Chromium, or no axe-core: npm install --no-save axe-core@4.14.1"
)
SERIOUS = ("serious", "critical")
SECONDS = 180
"""How long anything may take."""


class Chromium:
    """One tab of a browser with a profile of its own.

    Args:
        profile: Folder that keeps what pages store; opened again, it is the same browser later.
        size: Of the window, pixels.
    """

    def __init__(self, profile: Path, *, size: tuple[int, int] = (1280, 900)) -> None:
        self.profile, self.size, self._number = profile, size, 0
        self.messages: list[str] = []
        """What pages wrote to the console as errors, and exceptions that nobody caught."""
        self.requests: list[str] = []
        """Addresses that pages asked for."""

    def __enter__(self) -> "Chromium":
        port_file = self.profile / "DevToolsActivePort"
        port_file.unlink(missing_ok=True)
        words = [
            *(str(FOUND), "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--disable-quic", "--remote-debugging-port=0"),
            *(f"--user-data-dir={self.profile}", f"--window-size={self.size[0]},{self.size[1]}", "about:blank"),
        ]
        if os.geteuid() == 0:
            words.insert(1, "--no-sandbox")
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._loop = asyncio.new_event_loop()
        try:
            self._loop.run_until_complete(self._connect(port_file))
        except BaseException:
            self._process.kill()
            raise
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.send("Browser.close")  # in peace, so that what pages stored is written down
            self._process.wait(timeout=SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._loop.close()

    async def _connect(self, port_file: Path) -> None:
        async with asyncio.timeout(SECONDS):
            while not port_file.is_file() or len(port_file.read_text(encoding="utf-8").splitlines()) < 2:
                await asyncio.sleep(0.05)
            port = port_file.read_text(encoding="utf-8").splitlines()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as found:
                (tab,) = [each for each in json.load(found) if each["type"] == "page"]
            self._socket = await websocket_connect(tab["webSocketDebuggerUrl"], max_message_size=2**28)

    def send(self, method: str, **told: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        return self._loop.run_until_complete(asyncio.wait_for(self._send(method, told), SECONDS))

    async def _send(self, method: str, told: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.write_message(json.dumps({"id": self._number, "method": method, "params": told}))
        while True:
            message = json.loads(await self._socket.read_message())
            self._listen(message)
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def _listen(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.messages.append(told["exceptionDetails"].get("exception", {}).get("description", "exception"))
        if message.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.messages.append(told["entry"]["text"])
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    def open(self, path: Path, *, ready: str) -> None:
        """Show a file and wait until ``ready`` is true there."""
        self.visit(path.resolve().as_uri())
        self.wait_for(ready)

    def visit(self, address: str) -> None:
        """Go to an address; what it shows is there later."""
        self.send("Page.navigate", url=address)

    def evaluate(self, script: str) -> Any:
        """The value of JavaScript in the page; promises are waited for."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until JavaScript is true in the page."""
        self._loop.run_until_complete(asyncio.wait_for(self._until(condition), SECONDS))

    async def _until(self, condition: str) -> None:
        while True:
            found = await self._send("Runtime.evaluate", {"expression": f"!!({condition})", "returnByValue": True})
            if found["result"].get("value"):
                return
            await asyncio.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click into the middle of an element, as a mouse does."""
        place = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def _middle(self, selector: str) -> dict[str, float]:
        """Where the middle of an element lies in the window, once it is scrolled into it."""
        return self.evaluate(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            "found.scrollIntoView({block: 'center'}); const box = found.getBoundingClientRect();"
            "return {x: box.x + box.width / 2, y: box.y + box.height / 2}; })()"
        )

    def press(self, key: str) -> None:
        """Press and release a key, named as in JavaScript's ``KeyboardEvent.key``."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.send("Input.insertText", text=text)

    def scroll(self, selector: str, steps: int) -> None:
        """Turn the mouse wheel over an element, down where ``steps`` is positive."""
        place, turn = self._middle(selector), 100 if steps > 0 else -100
        for _ in range(abs(steps)):
            self.send("Input.dispatchMouseEvent", type="mouseWheel", deltaX=0, deltaY=turn, **place)

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file to an input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def download_to(self, folder: Path) -> None:
        """Where files are saved that pages offer."""
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def faults(self) -> list[str]:
        """What axe-core calls serious or critical in the page: rule, and the first element that breaks it."""
        self.send("Runtime.evaluate", expression=AXE.read_text(encoding="utf-8"))
        script = "axe.run().then(found => found.violations.map(each => [each.impact, each.id, each.nodes[0].html]))"
        return [f"{rule}: {html}" for impact, rule, html in self.evaluate(script) if impact in SERIOUS]

    def resize(self, width: int, height: int) -> None:
        """The window as one of another size has it, pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def picture(self, path: Path) -> None:
        """A PNG of the window."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

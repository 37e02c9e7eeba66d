"""A real Chromium without a window, spoken to over the pipe of its DevTools protocol.

Nothing of it is on the network. A page that is opened here has the settings of one reader: width, light or
dark, on a screen.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from services import running

# Codes that a key event needs besides its name.
_KEYS = {"Tab": 9, "Enter": 13}
_OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


class BrowserFailed(Exception):
    """The browser ended, or refused a command."""


@dataclass
class Browser:
    """Commands out, answers and events in; each is JSON and ends with a NUL."""

    commands: IO[bytes]
    answers: IO[bytes]
    events: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0
    _rest: bytes = b""

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The result of a command; what else arrives until then is among the events."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserFailed(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait(self, method: str) -> dict[str, Any]:
        """The first event of this name that has not been taken, removed."""
        while True:
            for event in self.events:
                if event.get("method") == method:
                    self.events.remove(event)
                    return event
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            content = os.read(self.answers.fileno(), 1 << 16)
            if not content:
                raise BrowserFailed("the browser has ended")
            self._rest += content
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, address: str, *, width: int = 1200, height: int = 900, dark: bool = False) -> Page:
        """Load an address in a page of its own."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        page.media(dark=dark)
        for domain in ("Page", "Network", "Accessibility"):
            page.call(f"{domain}.enable")
        self.events.clear()
        page.call("Page.navigate", url=address)
        self.wait("Page.loadEventFired")
        return page


@dataclass(frozen=True)
class Page:
    """A page that is open."""

    browser: Browser
    session: str

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def media(self, name: str = "", *, dark: bool = False) -> None:
        """Show it as for this medium."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=name, features=[scheme])

    def requests(self) -> list[str]:
        """The addresses that were asked for since it was opened."""
        self.evaluate("0")
        found = [one for one in self.browser.events if one.get("method") == "Network.requestWillBeSent"]
        return [one["params"]["request"]["url"] for one in found]

    def evaluate(self, expression: str) -> Any:
        """What an expression of JavaScript gives, as plain data."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserFailed(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        code = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        # Enter acts by the character that it is.
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def tree(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        """What a screen reader is told: role, name and properties of each node, in order."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        by_id = {node["nodeId"]: node for node in nodes}
        found = []

        def walk(node: Mapping[str, Any]) -> None:
            if not node.get("ignored"):
                properties = {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
                found.append((node["role"]["value"], str(node.get("name", {}).get("value", "")), properties))
            for child in node.get("childIds", ()):
                walk(by_id[child])

        walk(nodes[0])
        return found

    def screenshot(self, down_to: str = "html") -> bytes:
        """A PNG of the page from its top, down to the end of what this CSS selector names."""
        box = f"document.querySelector({json.dumps(down_to)}).getBoundingClientRect()"
        width, height = self.evaluate(f"[innerWidth, Math.ceil({box}.bottom + scrollY) + 8]")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        """As it is printed on A4."""
        answer = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False)
        return base64.b64decode(answer["data"])


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser, and stop it; raises MissingTool."""
    program = running.tool("chromium")
    with ExitStack() as stack:
        profile = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        )
        (read_here, write_there), (read_there, write_here) = os.pipe(), os.pipe()
        command = [program, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            # It reads from descriptor 3 and writes to 4.
            ["bash", "-c", f'exec "$@" 3<&{read_there} 4>&{write_there}', "bash", *command],
            pass_fds=(read_there, write_there),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
            start_new_session=True,
        )
        os.close(read_there)
        os.close(write_there)
        commands = stack.enter_context(os.fdopen(write_here, "wb"))
        answers = stack.enter_context(os.fdopen(read_here, "rb"))
        found = Browser(commands, answers)
        try:
            yield found
        finally:
            try:
                found.call("Browser.close")
                process.wait(timeout=20)
            except (BrowserFailed, OSError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()

"""A headless Chromium that is spoken to through two pipes, in its DevTools protocol."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


def find_browser() -> str | None:
    """The path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab. `heard` are the events that it has told of, as (method, parameters)."""

    def __init__(self, write: int, read: int, seconds: float = 60.0):
        self.write, self.read, self.seconds = write, read, seconds
        self.rest, self.count, self.session = b"", 0, None
        self.heard: list[tuple[str, dict]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def message(self) -> dict[str, Any]:
        """The next message. Raises RuntimeError if the browser has gone."""
        while b"\0" not in self.rest:
            part = os.read(self.read, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self.rest += part
        first, _, self.rest = self.rest.partition(b"\0")
        return json.loads(first)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method and returns its result. Raises RuntimeError where it is an error."""
        self.count += 1
        said: dict[str, Any] = {"id": self.count, "method": method, "params": parameters}
        said |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(said).encode() + b"\0")
        while True:
            heard = self.message()
            if heard.get("id") == self.count:
                if "error" in heard:
                    raise RuntimeError(f"{method}: {heard['error']}")
                return heard["result"]
            if "method" in heard:
                self.heard.append((heard["method"], heard["params"]))

    def open(self, url: str) -> None:
        """Opens a page, and waits until it and what it asks for are there."""
        self.heard.clear()
        self.call("Page.navigate", url=url)
        until = time.monotonic() + self.seconds
        while not any(method == "Page.loadEventFired" for method, _ in self.heard):
            if time.monotonic() > until:
                raise RuntimeError(f"{url} is not there after {self.seconds} seconds")
            heard = self.message()
            if "method" in heard:
                self.heard.append((heard["method"], heard["params"]))

    def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is, in the page."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """Sets the size of the window, and what the reader's system prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def shoot(self, path: Path) -> None:
        """Writes what is seen as a PNG."""
        path.write_bytes(b64decode(self.call("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """A browser that keeps what it keeps in a folder. Raises RuntimeError if there is none."""
    program = find_browser()
    if program is None:
        raise RuntimeError("there is no Chromium")
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()

    def pipes() -> None:  # which it finds as files 3 and 4
        kept = os.dup(theirs_in), os.dup(theirs_out)
        os.dup2(kept[0], 3)
        os.dup2(kept[1], 4)

    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={folder}"],
        close_fds=False, preexec_fn=pipes, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        browser = Browser(ours_out, ours_in)
        yield browser
        browser.session = None
        with contextlib.suppress(RuntimeError):
            browser.call("Browser.close")
        process.wait(20)
    finally:
        process.kill()
        process.wait()
        os.close(ours_out)
        os.close(ours_in)

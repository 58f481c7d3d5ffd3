"""A Chromium without a window, told what to do through a pair of pipes."""

import json
import os
import shutil
import subprocess
from pathlib import Path

CHROMIUM = os.environ.get("CHROME") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One page, without a network, in the DevTools protocol.

    Args:
        folder: for what it keeps; empty.

    Attributes:
        events: everything that it has told unasked.
    """

    def __init__(self, folder: Path):
        told, answered = folder / "in", folder / "out"
        os.mkfifo(told)
        os.mkfifo(answered)
        # It reads from its third file and writes to its fourth.
        redirected = f'exec "$@" 3<"{told}" 4>"{answered}"'
        command = (CHROMIUM, *_OPTIONS, f"--user-data-dir={folder / 'profile'}")
        self._process = subprocess.Popen(
            ["sh", "-c", redirected, "sh", *command], stderr=subprocess.DEVNULL
        )
        self._in, self._out = told.open("wb"), answered.open("rb")
        self.events, self._asked, self._session = [], 0, None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session = None
        self.ask("Browser.close")
        self._in.close()
        self._out.close()
        self._process.wait(timeout=20)

    def ask(self, method, **parameters):
        """Have it do something; returns its answer."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._in.write(json.dumps(message).encode() + b"\0")
        self._in.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._asked:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def open(self, path, width, scheme):
        """Show a file in a window so wide, light or dark."""
        self.events.clear()
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        chosen = {"name": "prefers-color-scheme", "value": scheme}
        self.ask("Emulation.setEmulatedMedia", features=[chosen])
        self.ask("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, script):
        """The value of a piece of JavaScript."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _next(self):
        content = bytearray()
        while (byte := self._out.read(1)) != b"\0":
            assert byte, "the browser has gone"
            content += byte
        return json.loads(content)

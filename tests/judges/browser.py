"""A headless Chromium, spoken to over a pipe: pages are opened, clicked on, asked and photographed.

Only what the tests of the pages need of Chromium's DevTools protocol; the standard library is enough for it.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time

NAMES = ["chromium", "chromium-browser", "google-chrome"]


class Browser:
    """A context manager: `with Browser() as browser: browser.open(path)`."""

    def __enter__(self):
        program = next(name for name in NAMES if shutil.which(name))
        self.folder = tempfile.TemporaryDirectory()
        here_read, chromium_write = os.pipe()
        chromium_read, here_write = os.pipe()
        # Chromium reads from 3 and writes to 4.
        command = f"exec 3<&{chromium_read} 4>&{chromium_write}; exec {program} --headless --no-sandbox --disable-gpu"
        command += f" --remote-debugging-pipe --no-first-run --user-data-dir={self.folder.name} about:blank"
        self.process = subprocess.Popen(
            ["bash", "-c", command], pass_fds=[chromium_read, chromium_write], stderr=subprocess.DEVNULL
        )
        os.close(chromium_read)
        os.close(chromium_write)
        self.read, self.write = os.fdopen(here_read, "rb"), os.fdopen(here_write, "wb")
        self.number, self.waiting, self.console = 0, b"", []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log"]:
            self.call(f"{domain}.enable", self.session)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)
        self.folder.cleanup()

    def message(self):
        while b"\0" not in self.waiting:
            got = os.read(self.read.fileno(), 1 << 20)
            assert got, "the browser has ended"
            self.waiting += got
        first, self.waiting = self.waiting.split(b"\0", 1)
        message = json.loads(first)
        method, given = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.console.append(given["exceptionDetails"].get("exception", {}).get("description", "exception"))
        if method == "Runtime.consoleAPICalled":
            self.console.append(str([argument.get("value") for argument in given["args"]]))
        if method == "Log.entryAdded":
            self.console.append(given["entry"]["text"])
        return message

    def call(self, method, session=None, **given):
        self.number += 1
        message = {"id": self.number, "method": method, "params": given}
        if session:
            message["sessionId"] = session
        self.write.write(json.dumps(message).encode() + b"\0")
        self.write.flush()
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def size(self, width, height=900, scale=1):
        self.call(
            "Emulation.setDeviceMetricsOverride", self.session, width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def open(self, path):
        """Seconds until the page has loaded."""
        begun = time.monotonic()
        self.call("Page.navigate", self.session, url=f"file://{os.path.abspath(path)}")
        while self.message().get("method") != "Page.loadEventFired":
            pass
        return time.monotonic() - begun

    def ask(self, script):
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", self.session, expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, path, whole=True):
        shot = self.call("Page.captureScreenshot", self.session, captureBeyondViewport=whole, **self.clip(whole))
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def clip(self, whole):
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics", self.session)["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}}

    def mouse(self, kind, x, y, buttons=0):
        self.call(
            "Input.dispatchMouseEvent", self.session, type=kind, x=x, y=y, button="left" if kind != "mouseMoved" else "none",
            buttons=buttons, clickCount=1 if kind != "mouseMoved" else 0,
        )  # fmt: skip

    def click(self, x, y):
        self.mouse("mousePressed", x, y, 1)
        self.mouse("mouseReleased", x, y)

    def drag(self, start, end):
        self.mouse("mousePressed", *start, 1)
        for i in range(1, 6):
            self.mouse("mouseMoved", *(a + (b - a) * i / 5 for a, b in zip(start, end)), 1)
        self.mouse("mouseReleased", *end)

    def touch(self, x, y):
        self.call("Input.dispatchTouchEvent", self.session, type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", self.session, type="touchEnd", touchPoints=[])

    def key(self, key):
        for kind in ["keyDown", "keyUp"]:
            self.call("Input.dispatchKeyEvent", self.session, type=kind, key=key, code=key)

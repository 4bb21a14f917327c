"""What the SDKs need: Node and its packages, a browser, and a web server for the pages that load them."""

import functools
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright

from shared.local.packages import installed

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
"""Headless Chromium calls itself a bot, and is told as one."""


def npm_packages(folder: Path) -> Path:
    """A folder with the SDKs beside the pages and scripts that use them; the path."""
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    subprocess.run(
        [BIN / "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"], cwd=folder, check=True,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}, timeout=240,
    )  # fmt: skip
    return folder


def browser_path() -> str:
    """A Chromium, from the system's packages where there is none yet."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return found or installed("chromium-headless-shell", lambda: shutil.which("chromium-headless-shell"))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextmanager
def web_server(folder: Path):
    """Serves a folder at an address of its own: another origin than the collector's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def browser():
    """A headless Chromium that calls itself Chrome."""
    with sync_playwright() as tools:
        running = tools.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        try:
            yield running.new_context(user_agent=CHROME)
        finally:
            running.close()

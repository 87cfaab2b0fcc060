"""A web server for the live page that compresses texts, as GitHub Pages does, and fails where a test tells it to."""

import gzip
import sys
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TEXTS = (".html", ".css", ".js")


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder. `server.troubles` names, by path, what goes wrong: "missing", "cut", "damaged" or "stands still"."""

    def do_GET(self):
        path = self.path.split("?")[0]
        self.server.requests.append(path)
        file = Path(self.translate_path(path))
        file = file / "index.html" if file.is_dir() else file
        trouble = self.server.troubles.get(path)
        if trouble == "missing" or not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(file))
        if file.suffix in TEXTS:
            content = gzip.compress(content)
            self.send_header("Content-Encoding", "gzip")
        if trouble == "damaged":
            content = content[: len(content) // 2] + b"?" * (len(content) - len(content) // 2)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.server.sent += len(content)
        self.send_content(content, trouble)

    def send_content(self, content: bytes, trouble: str | None):
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        if trouble == "stands still":
            self.server.released.wait()
        if trouble not in ("cut", "stands still"):
            self.wfile.write(content[len(content) // 2 :])

    def log_message(self, *args):
        pass


class LiveServer(ThreadingHTTPServer):
    """Attributes: `address`; `requests`, the paths asked for; `sent`, bytes of content; `troubles`, by path."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), lambda *args: Handler(*args, directory=folder))
        self.address = f"http://127.0.0.1:{self.server_port}/"
        self.requests, self.sent, self.troubles, self.released = [], 0, {}, threading.Event()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the browser went away, as some tests let it
            super().handle_error(request, client_address)


@contextmanager
def serving(folder: Path):
    """A server of a folder on a thread of its own."""
    with LiveServer(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.released.set()
        server.shutdown()

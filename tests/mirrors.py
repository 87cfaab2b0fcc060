"""Two tiny data sets in MNIST's format, and a web server that serves them, well or badly."""

import gzip
import hashlib
import http.server
import random
import struct
import threading
import time
from dataclasses import replace
from urllib.parse import urlsplit

from course_utils import data

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SPLITS = dict(zip(FILES, ("train", "train", "test", "test")))
NAMES = ("mnist", "fashion_mnist")
FOLDERS = dict(zip(NAMES, ("MNIST", "FashionMNIST")))
EVERY_FILE = [(name, file) for name in NAMES for file in FILES]
LOGIN_PAGE = b"<!DOCTYPE html><html>Please log in</html>"


def idx_images(count: int, shade: int) -> bytes:
    """Images that begin with a pixel of this shade and do not compress well."""
    noise = random.Random(shade).randbytes(count * 28 * 28 - 1)
    return struct.pack(">IIII", 0x803, count, 28, 28) + bytes([shade]) + noise


def idx_labels(count: int, first: int) -> bytes:
    return struct.pack(">II", 0x801, count) + bytes((first + i) % 10 for i in range(count))


RAW = {
    name: dict(zip(FILES, (idx_images(20, shade), idx_labels(20, first), idx_images(10, shade), idx_labels(10, first))))
    for name, shade, first in (("mnist", 10, 0), ("fashion_mnist", 200, 5))
}
ARCHIVES = {name: {file: gzip.compress(content) for file, content in files.items()} for name, files in RAW.items()}


def sources(mirrors: dict[str, tuple[str, ...]]) -> dict[str, data.Source]:
    """The tiny data sets in place of the real ones, from these mirrors."""
    return {
        name: replace(
            data.SOURCES[name],
            mirrors=mirrors[name],
            md5={file: hashlib.md5(content).hexdigest() for file, content in RAW[name].items()},
        )
        for name in NAMES
    }


def put_good_files(root, name: str):
    """Fill a data folder with the raw files of a data set; returns the folder that they are in."""
    folder = root / FOLDERS[name] / "raw"
    folder.mkdir(parents=True)
    for file, content in RAW[name].items():
        (folder / file).write_bytes(content)
    return folder


def identities(folder) -> dict[str, tuple[int, int]]:
    """What changes when somebody writes to the files of a folder, or replaces them."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /BEHAVIOUR/NAME/FILE.gz with the method called BEHAVIOUR."""

    def do_GET(self):
        self.server.requests.append(self.path)
        behaviour, name, file = urlsplit(self.path).path.strip("/").split("/")
        self.name, self.file = name, file.removesuffix(".gz")
        try:
            getattr(self, behaviour)(ARCHIVES[name][self.file])
        except OSError:
            pass  # the other side has hung up

    def do_CONNECT(self):
        """A proxy that wants a password."""
        self.answer(b"", 407)

    def log_message(self, *args):
        pass

    def answer(self, body: bytes, status: int = 200, length: int | None = None, **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def good(self, archive):
        self.answer(archive)

    def cut(self, archive):
        self.answer(archive[: len(archive) // 2], length=len(archive))

    def short(self, archive):
        self.answer(archive[: len(archive) // 2])

    def empty(self, archive):
        self.answer(b"")

    def dropped(self, archive):
        pass  # hangs up without a word

    def silent(self, archive):
        self.server.released.wait(60)

    def stuck(self, archive):
        self.answer(archive[: len(archive) // 2], length=len(archive))
        self.server.released.wait(60)

    def drip(self, archive):
        self.answer(archive[:5], length=len(archive))
        for byte in archive[5:]:
            if self.server.released.wait(0.1):
                break
            self.wfile.write(bytes([byte]))

    def drip_headers(self, archive):
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Header: ")
        while not self.server.released.wait(0.1):
            self.wfile.write(b"x")

    def slow(self, archive):
        self.answer(archive[:1], length=len(archive))
        for start in range(1, len(archive), 1000):
            time.sleep(0.05)
            self.wfile.write(archive[start : start + 1000])

    def chunked(self, archive):
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(archive), archive))

    def not_found(self, archive):
        self.answer(b"no such file", 404)

    def only_train(self, archive):
        self.good(archive) if SPLITS[self.file] == "train" else self.not_found(archive)

    def only_test(self, archive):
        self.good(archive) if SPLITS[self.file] == "test" else self.not_found(archive)

    def failing(self, archive):
        self.answer(b"try again later", 500)

    def login(self, archive):
        self.answer(LOGIN_PAGE)

    def moved_to_login(self, archive):
        self.answer(b"", 302, Location=f"/login/{self.name}/{self.file}.gz")

    def other_set(self, archive):
        self.answer(ARCHIVES[next(name for name in NAMES if name != self.name)][self.file])

    def garbage(self, archive):
        self.answer(random.Random(0).randbytes(len(archive)))

    def one_bit(self, archive):
        middle = len(archive) // 2
        self.answer(archive[:middle] + bytes([archive[middle] ^ 1]) + archive[middle + 1 :])

    def unzipped(self, archive):
        self.answer(RAW[self.name][self.file])

    def bomb(self, archive):
        self.answer(gzip.compress(bytes(1_000_000)))

    def hollow(self, archive):
        """Gzip that goes on for ever and unpacks to nothing: blocks of no bytes."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(gzip.compress(b"")[:10])
        while not self.server.released.wait(0.001):
            self.wfile.write(b"\0\0\0\xff\xff" * 2000)

    def endless(self, archive):
        """The file, and more and more after its end."""
        self.send_response(200)
        self.end_headers()
        while not self.server.released.wait(0.001):
            self.wfile.write(archive)

    def moved(self, archive):
        self.answer(b"", 302, Location=f"/good/{self.name}/{self.file}.gz")

    def moved_in_a_circle(self, archive):
        self.answer(b"", 302, Location=self.path)

    def moved_to_disk(self, archive):
        self.answer(b"", 302, Location=(self.server.folder / self.name / f"{self.file}.gz").as_uri())

    def moved_to_ftp(self, archive):
        self.answer(b"", 302, Location=f"ftp://127.0.0.1:{self.server.server_port}{self.path}")


class Server(http.server.ThreadingHTTPServer):
    """Serves on a free port of this machine; `requests` are the paths asked for, `folder` has the archives as files."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.requests, self.released = folder, [], threading.Event()
        for name in NAMES:
            (folder / name).mkdir()
            for file, archive in ARCHIVES[name].items():
                (folder / name / f"{file}.gz").write_bytes(archive)

    def mirrors(self, *behaviours: str) -> dict[str, tuple[str, ...]]:
        """The addresses of mirrors of each data set that behave so."""
        return {
            name: tuple(f"http://127.0.0.1:{self.server_port}/{behaviour}/{name}/" for behaviour in behaviours)
            for name in NAMES
        }

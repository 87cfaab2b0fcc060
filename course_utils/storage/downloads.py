"""Fetching files over the web, from mirrors that may be slow, silent, wrong or endless.

torchvision's own download waits for a silent mirror for ever and believes whatever raw file is there; pooch has a limit
for each byte, none for a mirror that drips, for a name that is not looked up, or for what is sent or unpacked.
"""

import hashlib
import queue
import ssl
import threading
import time
import zlib
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from tqdm import tqdm

TIMEOUT = 15  # seconds that a mirror may keep us waiting, for its answer or in the middle of a file
SLOWEST = 10_000  # bytes per second: each that arrives earns this share of a second of patience, up to TIMEOUT again
PIECE = 1 << 16  # bytes read at once
NAME = {"User-Agent": "class-conditional-diffusion-course"}  # some servers refuse Python's own


def fetch(file: str, md5: str, largest: int, mirrors: list[str]) -> bytes:
    """Download `file`.gz from the first mirror that has it, and unpack it in memory.

    Args:
        file: its name, unpacked.
        md5: its checksum, unpacked.
        largest: bytes that it may have, as it comes and unpacked.
        mirrors: addresses, with a slash at the end. A mirror that cannot be reached or falls silent is taken off this
            list, so that the next file need not wait for it again.

    Raises:
        ConnectionError: if no mirror delivers the file; it says what each did instead, and what may be the cause.
    """
    problems = []
    for mirror in list(mirrors):
        try:
            return verified(unpack(download(f"{mirror}{file}.gz", largest), largest), md5)
        except (HTTPError, ValueError) as error:  # it answers, though not with this file
            problems.append(f"{mirror}{file}.gz: {describe(error)}")
        except (OSError, HTTPException) as error:
            problems.append(f"{mirror}: {describe(error)}")
            mirrors.remove(mirror)
    raise ConnectionError("; ".join(problems))


def describe(error: Exception) -> str:
    """What went wrong, in one line and without urllib's brackets, and what a learner can do about it."""
    reason = error.reason if type(error) is URLError else error
    said = " ".join(str(reason).split()) or type(reason).__name__
    if isinstance(reason, ssl.SSLCertVerificationError):
        said = f"its certificate is not trusted ({getattr(reason, 'verify_message', said)})"
        return f"{said}: is the clock right, or does the internet connection need a certificate in SSL_CERT_FILE?"
    if "407" in said:
        return f"{said}: does the proxy in http_proxy or https_proxy need a user and a password?"
    return said if isinstance(reason, (HTTPError, ValueError)) else f"{said}: is there an internet connection?"


def download(url: str, largest: int) -> bytes:
    """What a mirror sends, with a progress bar.

    The mirror is read in a thread of its own. A socket's time-out would not do: it starts anew for each address of a
    host and with each byte that drips in, and looking up a name has none.

    Raises:
        TimeoutError: if nothing comes for `TIMEOUT` seconds, or next to nothing for longer.
        ValueError: if more than `largest` bytes come.
        OSError, HTTPException: what urllib raises.
    """
    arrived, stopped, content = queue.SimpleQueue(), threading.Event(), bytearray()
    threading.Thread(target=receive, args=(url, arrived, stopped), daemon=True).start()
    deadline = time.monotonic() + TIMEOUT
    try:
        size = next_item(arrived, deadline, "answer")
        with tqdm(total=size, unit="B", unit_scale=True, desc=url.rpartition("/")[2]) as bar:
            while piece := next_item(arrived, deadline, "go on"):
                content += piece
                bar.update(len(piece))
                if len(content) > largest:
                    raise ValueError(f"it sends more than {largest:,} bytes")
                deadline = min(time.monotonic() + TIMEOUT, deadline + len(piece) / SLOWEST)
        return bytes(content)
    finally:
        stopped.set()


def next_item(arrived: queue.SimpleQueue, deadline: float, what: str):
    """The next of a mirror's items; raises what the mirror's thread ran into, or a TimeoutError."""
    try:
        item = arrived.get(timeout=max(0, deadline - time.monotonic()))
    except queue.Empty:
        raise TimeoutError(f"it did not {what} within {TIMEOUT} seconds") from None
    if isinstance(item, Exception):
        raise item
    return item


def receive(url: str, arrived: queue.SimpleQueue, stopped: threading.Event):
    """Hand on what a mirror sends: its size (None if it does not say), the pieces, b"" at the end; or an exception."""
    try:
        opener = build_opener()  # a new one reads the proxies anew, which a learner may just have set
        with opener.open(Request(url, headers=NAME), timeout=2 * TIMEOUT) as response:  # an abandoned thread ends, too
            arrived.put(response.length)
            while not stopped.is_set() and (piece := response.read1(PIECE)):
                arrived.put(piece)
        arrived.put(b"")
    except Exception as error:  # raised again by `next_item`, where someone is waiting for it
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        arrived.put(error)


def unpack(archive: bytes, largest: int) -> bytes:
    """Unzip, and stop as soon as it grows beyond `largest` bytes.

    Raises:
        ValueError: if it does, or if it is not gzip, damaged or cut off.
    """
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: gzip's header and checksum
    try:
        content = unzip.decompress(archive, largest + 1)
    except zlib.error:
        if archive.lstrip().startswith(b"<"):
            raise ValueError("a web page came in its place: does the internet connection ask you to log in?") from None
        raise ValueError("it is damaged, or not a gzip file") from None
    if len(content) > largest:
        raise ValueError(f"it unpacks to more than {largest:,} bytes")
    if not unzip.eof:
        raise ValueError("it was cut off")
    return content


def verified(content: bytes, md5: str) -> bytes:
    """The content, if its checksum is right.

    Raises:
        ValueError: if not.
    """
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise ValueError("it is not the file it should be")
    return content

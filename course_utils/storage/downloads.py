"""Fetching files over the web, from mirrors that may be slow, silent or wrong."""

import hashlib
import queue
import threading
import time
import urllib.request
import zlib
from contextlib import closing
from http.client import HTTPException
from urllib.error import HTTPError, URLError

from tqdm import tqdm

TIMEOUT = 15  # seconds that a mirror may keep us waiting, for its answer or in the middle of a file
SLOWEST = 10_000  # bytes a second: each that arrives earns this share of a second of patience, up to TIMEOUT again
PIECE = 1 << 16  # bytes read at once


def fetch(file: str, md5: str, largest: int, mirrors: list[str]) -> bytes:
    """Download `file`.gz from the first mirror that has it, and unpack it in memory.

    Args:
        file: its name, unpacked.
        md5: its checksum, unpacked.
        largest: bytes that it may unpack to.
        mirrors: addresses, with a slash at the end. A mirror that cannot be reached or falls silent is taken off this
            list, so that the next file need not wait for it again.

    Raises:
        ConnectionError: if no mirror delivers the file; it says what each did instead.
    """
    problems = []
    for mirror in list(mirrors):
        try:
            with closing(pieces_from(f"{mirror}{file}.gz")) as pieces:
                return verified(unpack(pieces, largest), md5)
        except (HTTPError, ValueError) as error:  # it answers, though not with this file
            problems.append(f"{mirror}{file}.gz: {describe(error)}")
        except (OSError, HTTPException) as error:
            problems.append(f"{mirror}: {describe(error)}")
            mirrors.remove(mirror)
    raise ConnectionError("; ".join(problems))


def describe(error: Exception) -> str:
    """What went wrong, in one line and without urllib's brackets."""
    reason = error.reason if type(error) is URLError else error
    return " ".join(str(reason).split()) or type(reason).__name__


def pieces_from(url: str):
    """What a mirror sends, piece by piece, with a progress bar.

    The mirror is read in a thread of its own. A socket's time-out would not do: it starts anew for each address of a
    host and with each byte that drips in, and looking up a name has none.

    Raises:
        TimeoutError: if nothing comes for `TIMEOUT` seconds, or next to nothing for longer.
        OSError, HTTPException, ValueError: what urllib raises.
    """
    arrived, stopped = queue.Queue(), threading.Event()
    threading.Thread(target=receive, args=(url, arrived, stopped), daemon=True).start()
    patience, bar = TIMEOUT, None
    try:
        while True:
            start = time.monotonic()
            item = next_item(arrived, patience, "answer" if bar is None else "go on")
            if bar is None:  # the first item is the size
                bar = tqdm(total=item, unit="B", unit_scale=True, desc=url.rpartition("/")[2])
                continue
            if not item:
                return
            bar.update(len(item))
            waited = time.monotonic() - start
            patience = min(TIMEOUT, max(0, patience - waited) + len(item) / SLOWEST)
            yield item
    finally:
        stopped.set()
        if bar is not None:
            bar.close()


def next_item(arrived: queue.Queue, patience: float, what: str):
    """The next of a mirror's items; raises what the mirror's thread ran into, or a TimeoutError."""
    try:
        item = arrived.get(timeout=patience)
    except queue.Empty:
        raise TimeoutError(f"it did not {what} within {TIMEOUT} seconds") from None
    if isinstance(item, Exception):
        raise item
    return item


def receive(url: str, arrived: queue.Queue, stopped: threading.Event):
    """Hand on what a mirror sends: its size (None if it does not say), the pieces, b"" at the end; or an exception."""
    try:
        with web_opener().open(url, timeout=2 * TIMEOUT) as response:  # so that an abandoned thread ends, too
            arrived.put(response.length)
            while not stopped.is_set() and (piece := response.read1(PIECE)):
                arrived.put(piece)
        arrived.put(b"")
    except Exception as error:  # raised again by `next_item`, where someone is waiting for it
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        arrived.put(error)


def web_opener() -> urllib.request.OpenerDirector:
    """An opener for http and https alone, through the proxy that the environment names.

    The usual one would also follow a redirect to another kind of address.
    """
    opener = urllib.request.OpenerDirector()
    opener.addheaders = [("User-Agent", "class-conditional-diffusion-course")]
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def unpack(pieces, largest: int) -> bytes:
    """Unzip what comes in pieces, and stop as soon as it grows beyond `largest` bytes.

    Raises:
        ValueError: if it does, or if it is not gzip, damaged or cut off.
    """
    unzip, content = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), bytearray()  # 16: gzip's header and checksum
    for piece in pieces:
        try:
            content += unzip.decompress(piece, largest + 1 - len(content))
        except zlib.error:
            if piece.lstrip().startswith(b"<"):
                raise ValueError("a web page came in its place: does the network ask you to log in?") from None
            raise ValueError("it is damaged, or not a gzip file") from None
        if len(content) > largest:
            raise ValueError(f"it unpacks to more than {largest:,} bytes")
        if unzip.eof:
            return bytes(content)
    raise ValueError("it was cut off")


def verified(content: bytes, md5: str) -> bytes:
    """The content, if its checksum is right.

    Raises:
        ValueError: if not.
    """
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise ValueError("it is not the file it should be")
    return content

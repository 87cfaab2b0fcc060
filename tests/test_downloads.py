import gzip
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from course_utils import data
from course_utils.data import load_dataset
from course_utils.storage import downloads
from course_utils.storage.downloads import describe, fetch, unpack
from mirrors import EVERY_FILE, FILES, FOLDERS, NAMES, RAW, SPLITS, identities, put_good_files

# How a mirror may fail, and what the learner reads about it.
FAULTS = {
    "cut": "it was cut off",
    "short": "it was cut off",
    "empty": "it was cut off",
    "dropped": "closed connection without response",
    "not_found": "HTTP Error 404",
    "failing": "HTTP Error 500",
    "login": "a web page came in its place",
    "moved_to_login": "a web page came in its place",
    "other_set": "it is not the file it should be",
    "garbage": "it is damaged, or not a gzip file",
    "one_bit": "it is damaged, or not a gzip file",
    "unzipped": "it is damaged, or not a gzip file",
    "bomb": "it unpacks to more than 20,000 bytes",
    "hollow": "it sends more than 20,000 bytes",
    "endless": "it sends more than 20,000 bytes",
    "moved_in_a_circle": "infinite loop",
    "moved_to_disk": "is not allowed",
}
SILENCES = {
    "silent": "it did not answer within",
    "drip_headers": "it did not answer within",
    "stuck": "it did not go on within",
    "drip": "it did not go on within",
    "moved_to_ftp": "it did not answer within",
}
# Every failure with every file; every silence, which takes its time, with one file of each data set, another each time.
CASES = [(fault, *case) for fault in FAULTS for case in EVERY_FILE]
CASES += [(fault, name, FILES[i % 4]) for i, fault in enumerate(SILENCES) for name in NAMES]
every_case = pytest.mark.parametrize("fault, name, file", CASES)


@pytest.fixture
def impatient(monkeypatch):
    """As in real life, with everything smaller: time-outs, and what a file may unpack to."""
    monkeypatch.setattr(downloads, "TIMEOUT", 0.7)
    monkeypatch.setattr(data, "LARGEST_FILE", 20_000)


@pytest.fixture
def all_but_one(use_mirrors, impatient, tmp_path):
    """A function that puts all files of a data set in place but one; it returns the folder and what the others are."""

    def put(name, missing):
        folder = put_good_files(tmp_path / "data", name)
        (folder / missing).unlink()
        return folder, identities(folder)

    return put


@every_case
def test_after_a_bad_mirror_comes_the_next(use_mirrors, all_but_one, tmp_path, fault, name, file):
    folder, good = all_but_one(name, file)
    use_mirrors(fault, "good")
    assert not load_dataset(name, SPLITS[file]).is_sample
    assert (folder / file).read_bytes() == RAW[name][file]
    assert good.items() <= identities(folder).items() and sorted(identities(folder)) == sorted(FILES)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".download.lock", FOLDERS[name]]


@every_case
def test_without_a_good_mirror_one_sentence_says_why(use_mirrors, all_but_one, tmp_path, fault, name, file):
    folder, good = all_but_one(name, file)
    use_mirrors(fault)
    with pytest.warns(UserWarning, match=f"{(FAULTS | SILENCES)[fault]}.*bundled sample stands in") as caught:
        assert load_dataset(name, SPLITS[file]).is_sample
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert identities(folder) == good
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".download.lock", FOLDERS[name]]


@pytest.mark.parametrize("behaviour", ["slow", "chunked", "moved"])
def test_a_mirror_that_is_only_different_is_used(use_mirrors, impatient, behaviour, capsys):
    use_mirrors(behaviour)
    start = time.monotonic()
    assert len(load_dataset("mnist")) == 20
    assert behaviour != "slow" or time.monotonic() - start > downloads.TIMEOUT  # no limit to the whole
    assert "train-images-idx3-ubyte.gz: 1" in capsys.readouterr().err


def test_progress_is_shown_with_the_size(use_mirrors, capsys):
    load_dataset("mnist")
    progress = capsys.readouterr().err
    assert all(f"{file}.gz: 100%" in progress for file in FILES) and "15.7k/15.7k" in progress


def test_a_silent_mirror_is_waited_for_once(use_mirrors, web_server, impatient):
    use_mirrors("silent", "good")
    assert not load_dataset("mnist").is_sample
    assert [path.split("/")[1] for path in web_server.requests] == ["silent"] + ["good"] * 4


def test_the_longest_wait_is_under_a_minute():
    for source in data.SOURCES.values():
        assert len(source.mirrors) * downloads.TIMEOUT <= 60
        assert all(mirror.startswith(("https://", "http://")) and mirror.endswith("/") for mirror in source.mirrors)
        assert source.mirrors[0].startswith("https://")


def test_a_proxy_is_used_where_the_environment_names_one(use_mirrors, web_server, monkeypatch):
    md5 = data.SOURCES["mnist"].md5[FILES[0]]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{web_server.server_port}")
    content = fetch(FILES[0], md5, 20_000, ["http://mirror.invalid/good/mnist/"])
    assert content == RAW["mnist"][FILES[0]]
    assert web_server.requests == [f"http://mirror.invalid/good/mnist/{FILES[0]}.gz"]


CAUSES = {
    "a certificate": (URLError(ssl.SSLCertVerificationError(1, "self-signed")), "not trusted.*clock.*SSL_CERT_FILE"),
    "no name service": (URLError(socket.gaierror(-2, "Name or service not known")), "is there an internet connection"),
    "refused": (URLError(ConnectionRefusedError(111, "Connection refused")), "is there an internet connection"),
    "forbidden": (HTTPError("http://x", 403, "Forbidden", {}, None), "^HTTP Error 403: Forbidden$"),
    "a proxy": (HTTPError("http://x", 407, "Authentication Required", {}, None), "http_proxy.* a user and a password"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_the_advice_fits_the_cause(cause):
    error, words = CAUSES[cause]
    assert re.search(words, describe(error)) and "\n" not in describe(error)


def test_a_proxy_that_wants_a_password_is_named(web_server, monkeypatch):
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{web_server.server_port}")
    with pytest.raises(ConnectionError, match="407.*https_proxy need a user and a password"):
        fetch(FILES[0], "md5", 20_000, ["https://mirror.invalid/"])


@pytest.mark.parametrize("mirror", ["file:///tmp/", "ftp://127.0.0.1/", "http://127.0.0.1:9/", "http://[/", "nonsense"])
def test_what_is_no_mirror(impatient, mirror):
    with pytest.raises(ConnectionError) as error:
        fetch("file", "md5", 20_000, [mirror])
    assert mirror in str(error.value) and "\n" not in str(error.value)


def test_a_bomb_is_stopped_before_it_fills_the_memory():
    bomb = gzip.compress(bytes(100_000_000), compresslevel=1)
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        unpack(bomb, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


# Another process: it puts the tiny data sets in place, says "ready", waits for a line and loads one of them.
PROCESS = """
import sys
import mirrors
from course_utils import data
data.SOURCES.update(mirrors.sources({name: (f"{sys.argv[1]}/{name}/",) for name in mirrors.NAMES}))
print("ready", flush=True)
exec(sys.stdin.readline())
dataset = data.load_dataset("mnist")
print(dataset.is_sample, len(dataset), dataset.labels.tolist()[:3], flush=True)
"""


@pytest.fixture
def start_process(use_mirrors, web_server):
    """A function that starts a process which loads the tiny MNIST when told to, from a mirror that behaves so."""
    processes = []

    def start(behaviour):
        here = Path(__file__).parent
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(here), str(here.parent)))}
        address = f"http://127.0.0.1:{web_server.server_port}/{behaviour}"
        command = [sys.executable, "-c", PROCESS, address]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        processes.append(subprocess.Popen(command, env=environment, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def tell(process, line="pass"):
    process.stdin.write(line + "\n")
    process.stdin.flush()


def test_two_processes_on_an_empty_folder_download_once(start_process, web_server, tmp_path):
    processes = [start_process("slow"), start_process("slow")]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        tell(process)
    assert [process.stdout.readline() for process in processes] == ["False 20 [0, 1, 2]\n"] * 2
    assert sorted(web_server.requests) == sorted(f"/slow/mnist/{file}.gz" for file in FILES)
    assert sorted(identities(tmp_path / "data" / "MNIST" / "raw")) == sorted(FILES)


@pytest.mark.skipif(os.name != "posix", reason="kills as Linux and macOS do")
@pytest.mark.parametrize("moment", ["while it downloads", "before a file is in its place"])
def test_a_killed_process_leaves_nothing_behind_for_long(start_process, use_mirrors, web_server, tmp_path, moment):
    process = start_process("stuck" if moment == "while it downloads" else "good")
    assert process.stdout.readline() == "ready\n"
    raw = tmp_path / "data" / "MNIST" / "raw"
    if moment == "while it downloads":
        tell(process)
        while not web_server.requests:
            time.sleep(0.01)
        process.kill()
    else:
        tell(process, "import os, signal; os.replace = lambda *args: os.kill(os.getpid(), signal.SIGKILL)")
    assert process.wait(30) == -signal.SIGKILL
    assert not [path for path in raw.iterdir() if path.name in FILES]
    use_mirrors("good")
    assert not load_dataset("mnist").is_sample
    assert sorted(identities(raw)) == sorted(FILES)

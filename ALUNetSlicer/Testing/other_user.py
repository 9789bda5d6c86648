"""Another user of this computer: processes with a second uid, which take ports and try files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

UID = 65534

_PROGRAM = r"""
import fcntl, glob, json, os, socket, sys, threading

heard = []

def pump(source, sink, keep):
    try:
        while True:
            block = source.recv(65536)
            if not block:
                break
            if keep:
                heard.append(block)
            sink.sendall(block)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

def answer(status, body):
    head = "HTTP/1.1 %s\r\nX-ALUNet-Api: %s\r\nContent-Type: application/json\r\n" % (status, api)
    return (head + "Content-Length: %d\r\n\r\n" % len(body)).encode() + body

def serve(line):
    if way == "relay":
        far = socket.create_connection(("127.0.0.1", int(relay)))
        threading.Thread(target=pump, args=(far, line, False), daemon=True).start()
        pump(line, far, True)
        return
    proof = json.dumps({"address": "127.0.0.1:%s" % claimed, "proof": "5" * 64}).encode()
    said = {
        "closes": b"",
        "older": answer("401 Unauthorized", b'{"code": "unauthorized", "message": "", "hint": ""}'),
        "agrees": answer("200 OK", b"{}"),
        "guesses": answer("200 OK", proof),
        "nonsense": b"SSH-2.0-OpenSSH_9.2\r\n",
    }[way]
    try:
        while True:
            block = line.recv(65536)
            if not block:
                return
            heard.append(block)
            if not said:
                line.close()
                return
            if b"\r\n\r\n" in block:
                line.sendall(said)
    except OSError:
        pass

def accept(listening):
    while True:
        line, _ = listening.accept()
        threading.Thread(target=serve, args=(line,), daemon=True).start()

def tried(name, action):
    try:
        action()
    except OSError:
        return
    done.append(name)

def lock(path):
    number = os.open(path, os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)

def enter(path):
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5)
        line.connect(path)

def write(path):
    with open(path, "ab"):
        pass

task = json.loads(sys.stdin.readline())
if "listen" in task:
    host, port = task["listen"]
    way, relay, api, claimed = task["way"], task["relay"], task["api"], port
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(50)
    print(json.dumps(listening.getsockname()[1]), flush=True)
    threading.Thread(target=accept, args=(listening,), daemon=True).start()
    sys.stdin.read()
    print(json.dumps(b"".join(heard).hex()), flush=True)
    os._exit(0)
done = []
for path in task["paths"]:
    kind = task["kinds"][path]
    if kind == "folder":
        tried("list " + path, lambda: os.listdir(path))
        tried("write into " + path, lambda: write(path + "/planted.py"))
        tried("link into " + path, lambda: os.symlink("/etc/passwd", path + "/planted"))
    elif kind == "socket":
        tried("enter " + path, lambda: enter(path))
    else:
        tried("read " + path, lambda: open(path, "rb").close())
        tried("write " + path, lambda: write(path))
        tried("lock " + path, lambda: lock(path))
        tried("replace " + path, lambda: os.rename(path, path + ".gone"))
for place in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
    try:
        with open(place, "rb") as file:
            content = file.read()
    except OSError:
        continue
    done += ["see the token in " + place for token in task["tokens"] if token.encode() in content]
print(json.dumps(done), flush=True)
"""


def is_possible() -> bool:
    """Return whether a process can be another user's here; else it is this user's."""
    return os.name != "nt" and os.geteuid() == 0 and _python() is not None


@cache
def _python() -> str | None:
    """A Python that the other user may start."""
    for program in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            if _started([program, "-c", "print(1)"]).communicate()[0].strip() == b"1":
                return program
        except OSError:
            continue
    return None


class Thief:
    """A program of the other user that listens on a port; see `listening`."""

    def __init__(self, host: str, port: int, way: str, relay: int, api: int) -> None:
        self._process = _started([_python() or sys.executable, "-c", _PROGRAM])
        about = {"listen": [host, port], "way": way, "relay": relay, "api": api}
        self._process.stdin.write(json.dumps(about).encode() + b"\n")
        self._process.stdin.flush()
        self.port: int = json.loads(self._process.stdout.readline())
        self.heard = b""

    def end(self) -> None:
        """End it; `heard` is what was sent to it."""
        self._process.stdin.close()
        self.heard = bytes.fromhex(json.loads(self._process.stdout.readline()))
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def listening(
    way: str, *, host: str = "127.0.0.1", port: int = 0, relay: int = 0, api: int = 0
) -> Iterator[Thief]:
    """Let the other user listen on a port, and answer in one way.

    Args:
        way: "closes", "older" (as a service without the proof), "agrees", "guesses" (a proof),
            "nonsense", or "relay" to a port where the real service is.
    """
    thief = Thief(host, port, way, relay, api)
    try:
        yield thief
    finally:
        thief.end()


def tries(paths: Iterable[Path], tokens: Iterable[str]) -> list[str]:
    """Return what the other user can do with these paths, and where it sees a token."""
    kinds = {str(path): _kind(path) for path in paths}
    about = {"paths": list(kinds), "kinds": kinds, "tokens": list(tokens)}
    process = _started([_python() or sys.executable, "-c", _PROGRAM])
    said, _ = process.communicate(json.dumps(about).encode() + b"\n")
    done: list[str] = json.loads(said)
    return done


@contextmanager
def open_folder() -> Iterator[Path]:
    """Give a folder that every user can enter, as homes and disks for data often are."""
    with tempfile.TemporaryDirectory(prefix="alunet-users-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _kind(path: Path) -> str:
    return "folder" if path.is_dir() else "socket" if path.is_socket() else "file"


def _started(command: list[str]) -> subprocess.Popen[Any]:
    as_root = os.name != "nt" and os.geteuid() == 0
    another: dict[str, Any] = {"user": UID, "group": UID, "extra_groups": []} if as_root else {}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        **another,
    )

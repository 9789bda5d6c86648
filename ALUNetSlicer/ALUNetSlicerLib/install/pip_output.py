"""Read pip's output: how far it is, how long it will take, and in one line why it failed."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.ports.i18n import tr as _

_FILE = re.compile(r"\s*(?:Downloading|Using cached) (\S+) \(([\d.]+) (bytes|kB|MB|GB)\)")
_LOCAL = re.compile(r"\s*Processing (.+?\.(?:whl|tar\.gz))(?: \(from .*)?$")
_RAW = re.compile(r"Progress (\d+) of (\d+)")
_INSTALLING = "Installing collected packages: "
_UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_DOWNLOAD_SHARE, _INSTALL_SHARE = 0.75, 0.2
_WINDOW_SECONDS, _SURE_SECONDS = 20.0, 3.0


class Meter:
    """How far an installation is, from what pip says.

    Args:
        total: bytes that all packages have together.
        now: seconds of a clock.

    Attributes:
        phase: what is done now, in words.
        fraction: of the whole, never less than before.
        seconds_left: of the downloads; None while it is not known.
        began: whether anything came over the network.
    """

    def __init__(self, total: int, now: Callable[[], float]) -> None:
        self.phase, self.fraction, self.began = _("Looking for packages"), 0.0, False
        self.seconds_left: float | None = None
        self.packages = 0
        self._total, self._now = float(total), now
        self._seen: set[str] = set()
        self._done, self._size, self._part = 0.0, 0.0, 0.0
        self._name, self._came, self._comes = "", 0.0, False
        self._samples: deque[tuple[float, float]] = deque()

    def expect(self, total: int) -> None:
        """Another build is taken, and it is that large."""
        self._total = float(total)

    def hear(self, line: str) -> bool:
        """Take one line; returns whether it is for the meter alone, and none for people."""
        raw = _RAW.fullmatch(line)
        if raw:
            self._size, self._part = max(self._size, float(raw[2])), float(raw[1])
            words, part, size = (
                _("Downloading {name} ({part} of {size} MB)"),
                self._part,
                self._size,
            )
            self.phase = words.format(
                name=self._name, part=f"{part / 1e6:.0f}", size=f"{size / 1e6:.0f}"
            )
            self._measure()
        elif found := _FILE.match(line):
            self._file(found[1], float(found[2]) * _UNITS[found[3]], "Downloading" in line)
        elif found := _LOCAL.match(line):
            self._file(Path(found[1]).name, _size(found[1]), False)
        elif line.startswith(_INSTALLING):
            self._close_file()
            self.packages = line.count(",") + 1
            self.installed(0)
        return raw is not None

    def installed(self, count: int) -> None:
        """So many packages are unpacked."""
        self.phase, self.seconds_left = (
            _("Unpacking {count} packages").format(count=self.packages),
            None,
        )
        self.reach(_DOWNLOAD_SHARE + _INSTALL_SHARE * min(1.0, count / max(1, self.packages)))

    @property
    def shown(self) -> tuple[str, float | None, float | None]:
        """What a person sees: the phase, the fraction (None at first) and the seconds left."""
        return self.phase, self.fraction or None, self.seconds_left

    def reach(self, fraction: float, phase: str | None = None) -> None:
        """So much of the whole is done."""
        self.fraction = max(self.fraction, fraction)
        self.phase = phase or self.phase

    def _file(self, name: str, size: float, comes: bool) -> None:
        self._close_file()
        if name in self._seen or name.endswith(".metadata"):
            return
        self._seen.add(name)
        self._name, self._comes = name.split("-")[0], comes
        self._size, self._part = size, 0.0 if comes else size
        words = _("Downloading {name}") if comes else _("Found {name}")
        self.phase = words.format(name=self._name)
        self.began = self.began or comes
        self._measure()

    def _close_file(self) -> None:
        self._came += self._size if self._comes else 0.0
        self._done, self._size, self._part = self._done + self._size, 0.0, 0.0

    def _measure(self) -> None:
        """Fraction, and the time left by the speed of the last seconds; what lay here already
        counts for no speed.
        """
        done, now = self._done + self._part, self._now()
        self.reach(_DOWNLOAD_SHARE * min(1.0, done / self._total))
        if not self.began:
            return
        came = self._came + (self._part if self._comes else 0.0)
        self._samples.append((now, came))
        while now - self._samples[0][0] > _WINDOW_SECONDS and len(self._samples) > 2:
            self._samples.popleft()
        then, before = self._samples[0]
        if now - then >= _SURE_SECONDS and came > before:
            self.seconds_left = max(0.0, self._total - done) * (now - then) / (came - before)


def _size(file: str) -> float:
    try:
        return float(Path(file).stat().st_size)
    except OSError:
        return 0.0


REASONS = (
    (
        r"No space left on device|Errno 28\b|WinError 112|not enough space",
        "disk",
        _("The disk is full."),
        _("Free space there, then try again."),
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerification",
        "tls",
        _("The connection to the package index is not trusted."),
        _(
            "A proxy may be in the way: ask your IT for its certificate, and set it with pip's "
            "option cert."
        ),
    ),
    (
        r"ProxyError|407 Proxy|Tunnel connection failed",
        "proxy",
        _("The proxy lets nothing through."),
        _("Ask your IT how pip gets through it (HTTPS_PROXY)."),
    ),
    (
        r"Retrying \(Retry\(|NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|"
        r"Read timed out|Connection aborted|Connection broken|IncompleteRead|IncompleteDownload|"
        r"incomplete-download",
        "network",
        _("The package index cannot be reached, or the connection broke."),
        _("Check the network, then try again: what has arrived is kept."),
    ),
    (
        r"Permission denied|WinError 5\b|WinError 32\b|Errno 13\b",
        "write",
        _("A file of the installation is locked."),
        _("A virus scanner may hold it, or a running engine: wait a moment, then try again."),
    ),
    (
        r"WinError 206|WinError 3\b|File name too long|path too long",
        "path",
        _("Windows refuses a path that is so long."),
        _("Choose a folder with a shorter path."),
    ),
    (r"DO NOT MATCH THE HASHES", "network", _("A package arrived damaged."), _("Try again.")),
)
"""What pip's words mean: a pattern, a code, the message, what to do."""


def explain(lines: Sequence[str]) -> Failure:
    """Why pip failed, from its last lines."""
    errors = [
        line.partition("ERROR:")[2].strip() for line in lines if line.lstrip().startswith("ERROR:")
    ]
    said = [line.strip() for line in lines if line.strip()]
    last = next(
        (error for error in reversed(errors) if error), (said or [_("pip said nothing")])[-1]
    )
    for text in ("\n".join(errors), "\n".join(lines)):
        # a warning is the reason only where the error names none
        for pattern, code, message, hint in REASONS:
            if re.search(pattern, text):
                said_by_pip = _("{message} pip says: {words}").format(message=message, words=last)
                return Failure(code, said_by_pip, hint)
    message = _("pip could not install the engine's packages: {words}").format(words=last)
    return Failure("pip", message, _("The log has all that it said."))

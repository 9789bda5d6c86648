"""Proxies between this computer and an engine: which one is asked, and which one answers in the
engine's place.

A proxy that is set up for the web often lacks an exception for an engine. What is said of a proxy
names its address, never the login that may be part of it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

from alunet.errors import AlunetError

NONE = {"http": "", "https": "", "all": ""}
"""Proxies for `requests` where none is to be used, whatever the environment says."""
PASSING = (429, 502, 503, 504)
"""Statuses of a proxy on the way that say: later."""
_MARKS = ("via", "x-squid-error", "x-bluecoat-via", "x-zscaler-via")
_VIA = re.compile(r"\s*(?:\w+/)?[\d.]+\s+([\w.:-]{1,100})")
_HOST = re.compile(r"[\w.:-]{1,100}")
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")


class Stranger(AlunetError):
    """Something answers, but it is no ALUNet service."""

    code = "not_alunet"


class ProxyInTheWay(Stranger):
    """A proxy answers in the engine's place, or lets nothing through.

    Args:
        passes: whether the same request may go through later.
    """

    code = "proxy"

    def __init__(self, message: str, hint: str, passes: bool = False) -> None:
        super().__init__(message, hint)
        self.passes = passes


@dataclass(frozen=True)
class Proxy:
    """A proxy that is asked for an address.

    Attributes:
        address: without a login.
        source: the variable of the environment that names it, or "the system's settings".
        url: as it was given; it may hold a login, so no message has it.
    """

    address: str
    source: str
    url: str

    def __repr__(self) -> str:
        return f"Proxy({self.address!r})"


def proxy_for(base: str) -> Proxy | None:
    """Return the proxy that the environment, or the system, sets for an address; None for none."""
    found = select_proxy(base, get_environ_proxies(base))
    if not found:
        return None
    url = prepend_scheme_if_needed(found, "http")
    return Proxy(_bare(url), _source(urlsplit(base).scheme, found), url)


def advice(host: str) -> str:
    """Return what to do about a proxy that is in the way to a host."""
    return f"Add {host} to the variable NO_PROXY, or connect without a proxy (a box in the panel)."


def refusal(
    base: str, proxy: Proxy | None, error: requests.RequestException
) -> ProxyInTheWay | None:
    """Return what an error means that a proxy made; None where none did."""
    if proxy is None:
        return None
    if isinstance(error, requests.exceptions.InvalidSchema | requests.exceptions.InvalidProxyURL):
        words = f"the proxy {proxy.address} ({proxy.source}) cannot be used"
        return ProxyInTheWay(f"{base}: {words}.", f"Use one of HTTP. {advice(_host(base))}")
    if not isinstance(error, requests.exceptions.ProxyError):
        return None
    found = _TUNNEL.search(str(error))
    return _refused(base, proxy.address, int(found[1]) if found else None)


def in_the_way(base: str, proxy: Proxy | None, answer: requests.Response) -> ProxyInTheWay | None:
    """Return what an answer means that is not the engine's but of a proxy, or of a network that
    wants a login first; None where nothing says so.

    Args:
        answer: one without the version of the contract.
    """
    known = proxy.address if proxy else ""
    own, status = _name_of(answer), answer.status_code
    name = f"{known} ({own})" if known and own else known or own
    marked = bool(known) or _is_marked(answer)
    if status == 511 or (300 <= status < 400 and not marked):
        where = _HOST.fullmatch(urlsplit(answer.headers.get("Location", "")).hostname or "")
        page = f" ({where[0]})" if where else ""
        return ProxyInTheWay(
            f"{base}: the network answers with its login page{page}, not the engine.",
            "Log in to the network in a browser, then connect again.",
        )
    if marked or status == 407:
        return _refused(base, name, status)
    return None


def stranger(base: str, status: int) -> Stranger:
    """Return what is said of an answer that is not the engine's, and of which no more is known."""
    return Stranger(
        f"{base} answers with status {status}, but not as an ALUNet service does.",
        "Check name and port; another program, a proxy or the network's login page may stand "
        f"there: open {base} in a browser to see.",
    )


def through(proxy: Proxy | None) -> str:
    """Return words for a sentence about a way; empty where no proxy is on it."""
    return f" through the proxy {proxy.address}" if proxy else ""


def _refused(base: str, name: str, status: int | None) -> ProxyInTheWay:
    """What a proxy's answer means; without a status it gave none."""
    proxy = f"the proxy {name} on the way" if name else "a proxy on the way"
    words = f"answers in the engine's place (status {status})"
    if status is None:
        words = "does not answer"
    elif status == 407:
        words = "wants a login (status 407)"
    elif status in PASSING:
        words = f"does not reach the engine (status {status})"
    passes = status is None or status in PASSING
    return ProxyInTheWay(f"{base}: {proxy} {words}.", advice(_host(base)), passes)


def _is_marked(answer: requests.Response) -> bool:
    """Whether the headers of an answer are those of a proxy."""
    names = [name.lower() for name in answer.headers]
    return any(name in _MARKS or name.startswith("proxy-") for name in names)


def _name_of(answer: requests.Response) -> str:
    """What a proxy calls itself in an answer's headers; empty where it does not."""
    via = _VIA.match(answer.headers.get("Via", ""))
    return via[1] if via else ""


def _bare(url: str) -> str:
    """An address without login and path."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "?", parts.port
    except ValueError:
        return "?"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _source(scheme: str, found: str) -> str:
    for name in (f"{scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            if os.environ.get(variable) == found:
                return variable.upper()
    return "the system's settings"


def _host(base: str) -> str:
    return urlsplit(base).hostname or base

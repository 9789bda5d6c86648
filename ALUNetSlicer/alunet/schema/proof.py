"""How a service proves that it knows the token, before a client sends anything that matters.

A port of this computer can be taken by any of its users, as soon as the service that had it is
gone. So a client asks on each new connection, before it sends token or images on that very
connection: it sends a number that was never used before, and the service answers with the address
at which it was reached and an HMAC of number and address under the token. Who only passes
requests on to the real service has another address, so its answer does not fit either.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from alunet.schema.constants import PREFIX

PROOF_PATH = f"{PREFIX}/proof/"
"""Of the request, with the number behind it; it needs no token."""
_NUMBER = re.compile(r"[0-9a-f]{64}")
_PURPOSE = b"ALUNet service"
_LONGEST = 10_000


class NoProofError(Exception):
    """What answers has not proved that it knows the token.

    Attributes:
        status: of its answer; None where it speaks no HTTP.
        headers: of its answer, by name; which of them there are tells who answers.
    """

    def __init__(self, status: int | None = None, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(f"no proof (status {status})")
        self.status, self.headers = status, dict(headers)


@dataclass(frozen=True)
class Proof:
    """Answer of a service.

    Attributes:
        address: where the service was reached, as it sees it: "127.0.0.1:4711".
        proof: HMAC-SHA256 under the token, in hexadecimal.
    """

    address: str
    proof: str


def prove(token: str, number: str, host: str, port: int) -> Proof | None:
    """Return a service's answer; None where the number is none."""
    if not _NUMBER.fullmatch(number):
        return None
    address = spelled(host, port)
    return Proof(address, _mac(token, number, address))


def ask_proof(connection: socket.socket, token: str) -> str:
    """Let the service at the other end prove itself; the connection can be used afterwards.

    Returns:
        The address at which the service was reached, as it sees it.

    Raises:
        NoProofError: it did not.
        OSError: the connection broke.
    """
    number = secrets.token_hex(32)
    request = (
        f"GET {PROOF_PATH}{number} HTTP/1.1\r\nHost: alunet\r\nAccept: application/json\r\n\r\n"
    )
    connection.sendall(request.encode("ascii"))
    answer = http.client.HTTPResponse(connection, method="GET")
    with contextlib.closing(answer):
        try:
            answer.begin()
            content = answer.read(_LONGEST)
        except http.client.RemoteDisconnected:
            raise
        except (http.client.HTTPException, ValueError) as error:
            raise NoProofError from error
        if answer.status != 200 or not answer.isclosed() or answer.will_close:
            raise NoProofError(answer.status, answer.getheaders())
    try:
        said = json.loads(content)
        address, proof = str(said["address"]), str(said["proof"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise NoProofError(answer.status, answer.getheaders()) from error
    if not hmac.compare_digest(proof.encode(), _mac(token, number, address).encode()):
        raise NoProofError(answer.status, answer.getheaders())
    return address


def spelled(host: str, port: int) -> str:
    """Return an address in the one way that both sides write it."""
    with contextlib.suppress(ValueError):
        number = ipaddress.ip_address(host.partition("%")[0])
        mapped = number.ipv4_mapped if isinstance(number, ipaddress.IPv6Address) else None
        host = str(mapped or number)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _mac(token: str, number: str, address: str) -> str:
    content = b"\0".join((_PURPOSE, number.encode(), address.encode("utf-8", "replace")))
    return hmac.new(token.encode("utf-8"), content, hashlib.sha256).hexdigest()

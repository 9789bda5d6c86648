"""Open connections to a service that say less than they should: HOST:PORT COUNT SEED SECONDS.

Each sends nothing, half a head, a byte now and then, a body that stalls, or half or the whole of
the first message of TLS; one that the service ends is opened again, a second later. Prints how many
were opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import sys
import time

_PAUSE_SECONDS = 1.0
_HEAD = b"PUT /v1/projects/p/samples/0/annotation HTTP/1.1\r\nHost: x\r\n"
_BODY = _HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(100)


async def _hold(host: str, port: int, first: bytes, end: float, opened: list[int]) -> None:
    """One attacker: open a connection again whenever the service has ended it."""
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.1)
            continue
        opened[0] += 1
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            writer.write(first)
            while time.monotonic() < end:
                with contextlib.suppress(asyncio.TimeoutError):
                    if not await asyncio.wait_for(reader.read(4096), 2.0):
                        break
                if first == b"G":
                    writer.write(b"E")
        writer.transport.abort()
        await asyncio.sleep(_PAUSE_SECONDS)


def _hello() -> bytes:
    """The first message of a TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="own")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def _hold_all(address: str, count: int, seed: int, seconds: float) -> int:
    host, port = address.rsplit(":", 1)
    generator, opened, end = random.Random(seed), [0], time.monotonic() + seconds
    hello = _hello()
    firsts = (b"", _HEAD, b"G", _BODY, hello[: len(hello) // 2], hello)
    chosen = [generator.choice(firsts) for _ in range(count)]
    await asyncio.gather(*(_hold(host, int(port), first, end, opened) for first in chosen))
    return opened[0]


def _main(address: str, count: str, seed: str, seconds: str) -> None:
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    opened = asyncio.run(_hold_all(address, int(count), int(seed), float(seconds)))
    sys.stdout.write(f"{opened} connections opened\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])

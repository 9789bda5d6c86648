"""`alunet serve`: the engine for clients on this machine or elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from alunet.errors import InputError

HELP = """Serve projects to clients, such as 3D Slicer through `alunet agent`.

The first line on standard output is a JSON object with address, token and process number. Where a
service runs on the same folder already, that one's line is printed and the command ends.

Only this machine can reach the service unless --host says otherwise. Reach it from elsewhere
through ssh, or give a certificate.

[bold]On this machine:[/bold]

    alunet serve --root projects

[bold]For a department,[/bold] with TLS:

    alunet serve --root /data/alunet --host 0.0.0.0 --port 8443
           --tls-cert cert.pem --tls-key key.pem
"""


_ROOT = Path("alunet-projects")


def serve(
    root: Annotated[
        Path, typer.Option(help="Folder of the projects, made where it is missing.")
    ] = _ROOT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 0,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File of the token, made where it is missing. Without: below --root."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of the certificate, PEM.")] = None,
    allow_insecure_http: Annotated[
        bool, typer.Option("--allow-insecure-http", help="Listen beyond this machine without TLS.")
    ] = False,
    device: Annotated[str, typer.Option(help="Of the jobs: auto, cpu, cuda or mps.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a job. Without: all cores.")
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(help="End after so many minutes without a request and without a job."),
    ] = None,
    check_every: Annotated[
        float,
        typer.Option(
            min=0,
            help="Check each project every so many hours, while nothing else is to do; 0: never.",
        ),
    ] = 168,
) -> None:
    """Serve projects; `HELP` is what `--help` shows."""
    try:
        from alunet.schema import to_json
        from alunet.serve import server
        from alunet.serve.log import log_to_stderr
        from alunet.serve.root_folder import prepare_root
        from alunet.serve.settings import ServiceSettings
    except ModuleNotFoundError as error:
        raise InputError(
            f"The service needs {error.name}.", "Type: pip install 'alunet[serve]'"
        ) from error

    log_to_stderr()
    root = root.absolute()
    address = server.Address(host, port, tls_cert, tls_key, allow_insecure_http)
    address.check()
    if not server.is_loopback(host) and tls_cert is None:
        typer.echo(
            f"alunet: warning: {host} without TLS: everybody on the way can read along.", err=True
        )
    for sentence in prepare_root(root):
        typer.echo(f"alunet: {sentence}", err=True)
    token = server.read_token(token_file or root / ".alunet" / "token")
    seconds = None if idle is None else idle * 60
    checks = check_every * 3600 or None
    settings = ServiceSettings(root, token, device, threads, seconds, checks)
    server.serve(settings, address, lambda note: typer.echo(json.dumps(to_json(note))))

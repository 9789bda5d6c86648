"""The command `alunet agent`: what stands on its command line. Nothing secret may: tokens come
from files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import alunet
from alunet.agent import parent
from alunet.errors import AlunetError

EXAMPLES = """examples:
  alunet agent --test ssh://me@gpu-box         what works on the way to an engine, and what to do
                                               about the rest
  alunet agent --bootstrap ssh://me@gpu-box    put this version of the engine there, without root
"""


def main(arguments: Sequence[str]) -> int:
    """Be an agent on standard input and output; or test a connection, or put an engine on a
    host, for a person.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.test:
            return _test(options)
        if options.bootstrap:
            return _bootstrap(options)
        from alunet.agent.main import run
        from alunet.agent.session import default_home

        parent.end_with(parent.named_in(arguments))
        run(options.home or default_home())
    except AlunetError as error:
        sys.stderr.write(f"alunet agent: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alunet agent",
        description="The process between a viewer and an engine: JSON lines on standard input and "
        "output.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--home", type=Path, metavar="DIR", help="folder of the outbox, instead of the usual one"
    )
    parser.add_argument(
        parent.OPTION, metavar="PID", help="process id of the viewer, to end with it"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--test",
        metavar="ENGINE",
        help="test a connection: local, https://host:port, ssh://user@host",
    )
    what.add_argument(
        "--bootstrap", metavar="ENGINE", help="put this version of the engine on ssh://user@host"
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help="file with the token of an http(s) service"
    )
    parser.add_argument(
        "--no-proxy", action="store_true", help="ask no proxy on the way to an http(s) service"
    )
    parser.add_argument("--ca", metavar="FILE", help="certificate authority to trust, PEM")
    parser.add_argument(
        "--python", default="", metavar="FILE", help="the engine's Python, here or on the host"
    )
    parser.add_argument("--version", action="version", version=f"alunet {alunet.__version__}")
    return parser


def _test(options: argparse.Namespace) -> int:
    from alunet.agent.connections import Access, read_token
    from alunet.agent.connections.target import parse
    from alunet.agent.diagnose import diagnose

    token = read_token(options.token_file) if options.token_file else ""
    access = Access(token, options.ca, python=options.python, direct=options.no_proxy)
    steps = diagnose(parse(options.test), access)
    for step in steps:
        sys.stdout.write(f"{'ok    ' if step.ok else 'FAILED'}  {step.text}\n")
        if not step.ok:
            sys.stdout.write(f"        {step.hint}\n")
    return 0 if all(step.ok for step in steps) else 1


def _bootstrap(options: argparse.Namespace) -> int:
    from alunet.agent.bootstrap import bootstrap
    from alunet.agent.connections import Access
    from alunet.agent.connections.target import parse

    def tell(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    bootstrap(parse(options.bootstrap), Access(python=options.python), tell)
    return 0

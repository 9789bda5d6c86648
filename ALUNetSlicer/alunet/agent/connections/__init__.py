"""How an agent reaches an engine: on this computer, by address, or through ssh."""

from __future__ import annotations

import sys
from pathlib import Path

from alunet.agent.connections.links import Access, Link, LocalLink, WebLink
from alunet.agent.connections.ssh import SshLink
from alunet.agent.connections.target import Target
from alunet.errors import InputError

__all__ = ["Access", "Link", "link_to", "read_token"]


def link_to(target: Target, access: Access) -> Link:
    """The link that fits a target; nothing is started yet."""
    if target.kind == "local":
        return LocalLink(target, access, access.python or sys.executable)
    return SshLink(target, access) if target.kind == "ssh" else WebLink(target, access)


def read_token(file: str) -> str:
    """The token in a file; raises InputError where it cannot be read."""
    try:
        return Path(file).expanduser().read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise InputError(f"The token file {file} cannot be read.", "Check its path.") from error

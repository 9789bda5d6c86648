"""Where an engine is, and what it takes to reach it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EnginePlace:
    """Where an engine is.

    Attributes:
        to: "local", "http(s)://host:port" or "ssh://me@host".
        token: of a service that another person started.
        python, environment: that start a local engine.
        direct: whether no proxy is asked on the way to an http(s) service.
    """

    to: str
    token: str = field(default="", repr=False)
    python: str = ""
    environment: dict[str, str] | None = field(default=None, repr=False)
    direct: bool = False

    @property
    def remote(self) -> bool:
        """Whether images leave this computer."""
        return self.to != "local"

    def args(self) -> dict[str, Any]:
        """As the agent's calls take it."""
        return {
            "to": self.to,
            "token": self.token,
            "python": self.python,
            "environment": self.environment,
            "direct": self.direct,
        }

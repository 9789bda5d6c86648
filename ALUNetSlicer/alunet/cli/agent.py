"""`alunet agent`: the process between a viewer and an engine; its own module reads the command
line.
"""

from __future__ import annotations

import typer

SETTINGS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def agent(context: typer.Context) -> None:
    """Be the process that a viewer such as 3D Slicer talks to; or test a connection, or put an
    engine on a host.

    [bold]Test a connection:[/bold] alunet agent --test ssh://me@gpu-box
    """
    from alunet.agent.command import main

    raise typer.Exit(main(context.args))

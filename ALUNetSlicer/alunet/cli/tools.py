"""Small commands beside the work: what strategies there are, and a data set to try things on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from alunet.query.registry import RegisteredStrategy


def strategies(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the strategies: what each needs of the model, and where it comes from.

    Options are given after a colon, separated by commas: [bold]--strategy
    usimf:eta=10,elbow=kneedle[/bold]. [bold]usimf:published[/bold] takes the values of the
    published experiments' code, [bold]usimf:thrifty[/bold] those that save computing.
    """
    from alunet.query import infos

    if as_json:
        typer.echo(json.dumps([_described(info) for info in infos()], indent=1, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_lines=True)
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it does", ratio=3)
    table.add_column("needs", ratio=2)
    table.add_column("source", ratio=2)
    table.add_column("options", ratio=2, style="dim")
    for info in infos():
        about = _described(info)
        options = "\n".join(
            f"{name}={value}{_in_words(info, name)}" for name, value in about["options"].items()
        )
        table.add_row(
            info.name, info.summary, ", ".join(about["needs"]) or "nothing", info.source, options
        )
    Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False).print(table)


def devices(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Show what this computer computes on, in which precision, and why.

    One training step and one scoring pass of a small network are timed in each way the device
    supports. The environment variables ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA, which limit a
    processor, are respected.

    [bold]Example:[/bold] alunet devices --device cpu
    """
    from alunet.loop.children import survey

    found = survey(device)
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    typer.echo(f"Computer: {found['machine']}")
    typer.echo(f"Device: {found['device']}, {found['threads']} of {found['cores']} cores")
    typer.echo(f"Choice: {found['reason']}")
    for name, seconds in found["seconds"].items():
        typer.echo(f"  {1000 * seconds:8.1f} ms  {name}")


def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; new or empty.")],
    cases: Annotated[int, typer.Option(help="How many cases.")] = 14,
    seed: Annotated[int, typer.Option(help="The same seed gives the same voxels.")] = 0,
) -> None:
    """Make a small labelled data set to try things on: a large organ, and a small lesion that is
    easily missed.

    [bold]Example:[/bold] alunet phantom demo/phantom
    """
    from alunet.simulation.phantom import make_phantom

    folder = make_phantom(out, cases=cases, seed=seed)
    typer.echo(f"{cases} cases in {folder}")


def _described(info: RegisteredStrategy) -> dict[str, Any]:
    from alunet.query import WORDS, parse

    return {
        "name": info.name,
        "title": info.title,
        "summary": info.summary,
        "needs": sorted(need.value for need in info.needs),
        "source": info.source,
        "options": parse(info.name).settings,
        **{word: dict(info.words.get(word, {})) for word in WORDS},
    }


def _in_words(info: RegisteredStrategy, option: str) -> str:
    """What the words of a strategy set an option to: " (published: 10)"."""
    found = [f"{word}: {values[option]}" for word, values in info.words.items() if option in values]
    return f" ({', '.join(found)})" if found else ""

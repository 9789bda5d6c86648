"""A series with several images at each place (echoes, b-values, time points) as several volumes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

from alunet.imaging.dicom.frames import SPLIT_ORDER, UNSPOKEN, Frame
from alunet.imaging.dicom.geometry import by_place

Part = tuple[str, list[Frame]]

_TIMES = ("trigger time", "acquisition time", "content time")


def split(frames: Sequence[Frame]) -> list[Part]:
    """Split frames so that no two of a part lie at one place.

    Tried are the attributes of `SPLIT_ORDER`, one alone, then two together; they fit where they
    give exactly as many parts as images lie at one place, each without doubles. A time that is
    another one in each slice fits where it ranks the images of each place. Where nothing fits, the
    frames stay together.

    Returns:
        What a person calls each part ("echo time 4.92"; empty where there is one), with its frames.
    """
    places = by_place(frames)
    count = max(map(len, places))
    if count == 1:
        return [("", list(frames))]
    values = [dict(frame.separating) for frame in frames]
    for length in (1, 2):
        for names in itertools.combinations(SPLIT_ORDER, length):
            parts: dict[tuple[str, ...], list[Frame]] = defaultdict(list)
            for frame, value in zip(frames, values, strict=True):
                parts[tuple(value.get(name, "") for name in names)].append(frame)
            if len(parts) == count and all(max(map(len, by_place(p))) == 1 for p in parts.values()):
                return _named(names, parts)
    return _ranked(places, count) or [("", list(frames))]


def _ranked(places: Sequence[Sequence[Frame]], count: int) -> list[Part]:
    """Split by the rank of a time among the images of each place; nothing where none ranks them."""
    if any(len(place) != count for place in places):
        return []
    for name in _TIMES:
        times = [[_sortable(dict(frame.separating).get(name, "")) for frame in p] for p in places]
        if all(len({value for value, text in row if not text}) == count for row in times):
            order = [sorted(range(count), key=row.__getitem__) for row in times]
            return [
                (
                    f"{name} {rank + 1} of {count}",
                    [place[row[rank]] for place, row in zip(places, order, strict=True)],
                )
                for rank in range(count)
            ]
    return []


def _named(names: tuple[str, ...], parts: dict[tuple[str, ...], list[Frame]]) -> list[Part]:
    made = []
    for number, key in enumerate(
        sorted(parts, key=lambda key: [_sortable(text) for text in key]), start=1
    ):
        said = [
            f"{name} {text}"
            for name, text in zip(names, key, strict=True)
            if _is_spoken(name, text)
        ]
        made.append((", ".join(said) or f"{names[0]} {number} of {len(parts)}", parts[key]))
    return made


def _sortable(text: str) -> tuple[float, str]:
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text


def _is_spoken(name: str, text: str) -> bool:
    """Return whether a value is a plain number that may be shown."""
    return name not in UNSPOKEN and _sortable(text)[0] != float("inf")

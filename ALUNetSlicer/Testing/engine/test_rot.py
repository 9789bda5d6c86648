"""A bit that flips on a disk is found before it is used, and goes no further."""

from __future__ import annotations

from pathlib import Path

from attacks import assert_holds, rot

SHORT = 18


def test_flipped_bits_are_found_and_label_maps_healed(tmp_path: Path) -> None:
    assert_holds(rot.attack(SHORT, 0, tmp_path))

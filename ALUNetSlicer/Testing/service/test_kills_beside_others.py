"""Kills in creation, upload, import, annotation and jobs, beside a second person; short here,
whole by Scripts/attack.py.
"""

from __future__ import annotations

import pytest
from attacks import assert_holds, kills

pytestmark = pytest.mark.slow


def test_kills_lose_nothing_trouble_nobody_and_need_no_hand(tmp_path):
    assert_holds(kills.attack(9, 3, tmp_path))

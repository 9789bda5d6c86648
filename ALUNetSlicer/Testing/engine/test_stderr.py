"""What image libraries print is held back, and nobody waits for that."""

from __future__ import annotations

import os
import threading

import pytest

from alunet.imaging.stderr import discard_stderr_on_failure


def test_nobody_waits_for_the_image_of_another():
    """A large image takes as long as it takes; others are read meanwhile."""
    reading, done = threading.Event(), threading.Event()

    def large() -> None:
        with discard_stderr_on_failure():
            reading.set()
            assert done.wait(30)

    thread = threading.Thread(target=large)
    thread.start()
    try:
        assert reading.wait(30)
        for _ in range(3):
            with discard_stderr_on_failure():
                pass
        with pytest.raises(ValueError, match="damaged"), discard_stderr_on_failure():
            raise ValueError("damaged")
    finally:
        done.set()
        thread.join()


def test_after_the_first_the_next_is_held_back(capfd):
    for ends_well in (True, False):
        try:
            with discard_stderr_on_failure():
                os.write(2, b"a library complains\n")
                if not ends_well:
                    raise ValueError
        except ValueError:
            pass
        assert ("complains" in capfd.readouterr().err) == ends_well

"""The end of leases, by the time since the computer was started, which people cannot set.

Setting the computer's time neither ends nor prolongs a lease, also where the service is restarted
in between. Restarting the computer ends all leases.
"""

from __future__ import annotations

import json
import math
import time

from alunet.schema import Lease
from alunet.storage.boot_clock import boot_id, boot_seconds
from alunet.storage.database import Database

_KEY = "lease clock"


class LeaseClock:
    """The clock of the column ``until`` of the table of leases: `boot_seconds` of the start of the
    computer that the setting "lease clock" names.

    The setting is ``[boot, seconds]``: which start, and the last reading, by which a new start is
    known where the system does not name it. Without it the column holds seconds since the epoch.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def now(self) -> float:
        """Return what leases that last have a greater ``until`` than; infinity where all are of
        an earlier start.
        """
        known = self._known()
        if known is None:
            return time.time()
        return boot_seconds() if self._is_of_now(known) else math.inf

    def begin(self) -> float:
        """Return the time now, with all leases by this clock, within the caller's transaction."""
        known, now = self._known(), boot_seconds()
        if known is None:  # they were kept by the computer's time
            self._db.execute("UPDATE leases SET until = until - ?", (time.time() - now,))
        elif not self._is_of_now(known):
            self._db.execute("DELETE FROM leases")
        row = (_KEY, json.dumps([boot_id(), now]))
        self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", row)
        return now

    def shown(self, author: str, until: float) -> Lease:
        """Return a lease as people see it, whose end is a time of day."""
        if self._known() is not None:
            # of two clocks that are read one after the other only the tenths are sure
            until += round(time.time() - boot_seconds(), 1)
        return Lease(author, until)

    def _known(self) -> tuple[str, float] | None:
        value = self._db.value("SELECT value FROM meta WHERE key = ?", (_KEY,))
        if value is None:
            return None
        boot, seconds = json.loads(str(value))
        return boot, seconds

    def _is_of_now(self, known: tuple[str, float]) -> bool:
        boot, seconds = known
        return boot == boot_id() and seconds <= boot_seconds()

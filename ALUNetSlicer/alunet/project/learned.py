"""What the newest model has learned from, itself or through the weights that it began with."""

from __future__ import annotations

from alunet.project.rounds import Rounds
from alunet.storage.database import Database

_FORGOTTEN = (
    "FROM learned WHERE sample_id NOT IN (SELECT id FROM counted_samples WHERE state = 'labelled')"
)


class Learned:
    """The table of samples that were learned from.

    A sample is forgotten when it is in this table but no longer labeled, or its case no longer
    counts. No weights can be made to forget, so the next training begins without them.
    """

    def __init__(self, database: Database, rounds: Rounds) -> None:
        self._db, self._rounds = database, rounds

    def forgotten(self) -> int:
        """Return how many samples were learned from that no longer count."""
        return self._db.number(f"SELECT count(*) {_FORGOTTEN}")

    def of_case(self, case: str) -> int:
        """Return how many samples of a case were learned from."""
        return self._db.number(
            "SELECT count(*) FROM learned l JOIN samples s ON s.id = l.sample_id "
            "WHERE s.case_name = ?",
            (case,),
        )

    def knows(self, sample: int) -> bool:
        """Return whether a sample was learned from."""
        return self._db.value("SELECT 1 FROM learned WHERE sample_id = ?", (sample,)) is not None

    def begin(self, number: int, *, anew: bool = False) -> None:
        """Note that the training of a begun round starts, from all that is labeled now.

        From now on what is labeled counts as learned, however the training ends. Where something is
        forgotten, the round begins anew, and so does every later attempt at its training.

        Args:
            anew: begin without the weights of the round before in any case.
        """
        with self._db.transaction():
            if anew or self.forgotten():
                self._db.execute("DELETE FROM learned")
                self._rounds.begin_anew(number)
            self.note()
            self._rounds.set_training(number, True)

    def note(self) -> None:
        """Note that all that is labeled now is learned from."""
        self._db.execute(
            "INSERT OR IGNORE INTO learned SELECT id FROM counted_samples WHERE state = 'labelled'"
        )

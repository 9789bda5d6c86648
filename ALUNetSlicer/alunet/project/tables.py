"""The tables of a project's database, and the migrations that lead there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alunet.project.first_hashes import note_hashes
from alunet.project.relabeling import mark_not_annotated
from alunet.storage.database import Database, Migration

FIRST = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE cases (
        name TEXT PRIMARY KEY,
        role TEXT NOT NULL CHECK (role IN ('pool', 'test')),
        images TEXT NOT NULL,   -- JSON list of file names in images/, one a channel
        label TEXT,             -- file name in labels/ of the hidden reference, if there is one
        shape TEXT NOT NULL,    -- JSON (k, j, i)
        spacing TEXT NOT NULL,  -- JSON, mm, (k, j, i)
        geometry TEXT,          -- JSON of CaseGeometry, known after preprocessing
        voxels TEXT             -- JSON, annotated voxels per class; NULL while nothing is annotated
    )""",
    """CREATE TABLE samples (
        id INTEGER PRIMARY KEY,
        case_name TEXT NOT NULL REFERENCES cases (name),
        slice INTEGER NOT NULL, slice_raw INTEGER NOT NULL, tile INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'unlabelled' CHECK (state IN ('unlabelled', 'suggested', 'labelled')),
        row INTEGER NOT NULL, col INTEGER NOT NULL,
        row_lo INTEGER NOT NULL, row_hi INTEGER NOT NULL, col_lo INTEGER NOT NULL, col_hi INTEGER NOT NULL,
        k_lo INTEGER NOT NULL, k_hi INTEGER NOT NULL, j_lo INTEGER NOT NULL, j_hi INTEGER NOT NULL,
        i_lo INTEGER NOT NULL, i_hi INTEGER NOT NULL,
        UNIQUE (case_name, slice, tile)
    )""",
    """CREATE TABLE rounds (
        number INTEGER PRIMARY KEY,
        strategy TEXT NOT NULL,
        config TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('started', 'finished')),
        record TEXT,
        started REAL NOT NULL,
        finished REAL
    )""",
    """CREATE TABLE suggestions (
        round INTEGER NOT NULL, rank INTEGER NOT NULL,
        sample_id INTEGER NOT NULL REFERENCES samples (id),
        gain REAL, reason TEXT NOT NULL,
        PRIMARY KEY (round, rank), UNIQUE (round, sample_id)
    )""",
    """CREATE TABLE annotations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sample_id INTEGER NOT NULL REFERENCES samples (id),
        case_name TEXT NOT NULL REFERENCES cases (name),
        round INTEGER NOT NULL,
        author TEXT NOT NULL,
        seconds REAL,
        time REAL NOT NULL
    )""",
    "CREATE INDEX annotations_of_sample ON annotations (sample_id)",
    """CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL, state TEXT NOT NULL, config TEXT NOT NULL,
        pid INTEGER, created REAL NOT NULL, finished REAL, error TEXT
    )""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL
    )""",
)

SECOND = (
    # Samples that a person does not want to be asked about again.
    """CREATE TABLE skipped (
        sample_id INTEGER PRIMARY KEY REFERENCES samples (id),
        time REAL NOT NULL
    )""",
    # Where a case was imported from, so that the same import can be asked for again; NULL where
    # that is not known.
    "ALTER TABLE cases ADD COLUMN source TEXT",
)

THIRD = (
    # Every version of a sample's labels that was ever submitted; the voxels lie in
    # annotations/history/.
    """CREATE TABLE versions (
        sample_id INTEGER NOT NULL REFERENCES samples (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        base INTEGER NOT NULL,      -- the version that it corrects
        conflict INTEGER NOT NULL,  -- 1: its base was not the newest, so it counts for nothing but is kept
        author TEXT NOT NULL, seconds REAL, status TEXT NOT NULL, time REAL NOT NULL,
        PRIMARY KEY (sample_id, number)
    )""",
    """CREATE TABLE work (
        sample_id INTEGER PRIMARY KEY REFERENCES samples (id) ON DELETE CASCADE,
        status TEXT NOT NULL, author TEXT NOT NULL, time REAL NOT NULL
    )""",
    """CREATE TABLE leases (
        sample_id INTEGER PRIMARY KEY REFERENCES samples (id) ON DELETE CASCADE,
        author TEXT NOT NULL, until REAL NOT NULL
    )""",
    # What was answered to a request that may be sent again.
    "CREATE TABLE answers (key TEXT PRIMARY KEY, digest TEXT NOT NULL, answer TEXT NOT NULL, time "
    "REAL NOT NULL)",
    "ALTER TABLE jobs ADD COLUMN started REAL",
    "ALTER TABLE jobs ADD COLUMN heartbeat REAL",
    "ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN progress TEXT",
    "ALTER TABLE jobs ADD COLUMN waiting TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN cancelled REAL",  # when somebody asked for its end
    "ALTER TABLE jobs ADD COLUMN result TEXT",  # a file name below jobs/
    # what a job that is started again must know
    "ALTER TABLE jobs ADD COLUMN notes TEXT NOT NULL DEFAULT '{}'",
)

FOURTH = (
    # Share of the other candidates that the strategy found less uncertain, 0 to 1; NULL where it
    # measures nothing.
    "ALTER TABLE suggestions ADD COLUMN uncertainty REAL",
    # Who chose the sample; NULL: the strategy did.
    "ALTER TABLE suggestions ADD COLUMN author TEXT",
)


def _rounds_from_files(database: Database) -> None:
    """Take over what was known of rounds from their files, and from two settings."""
    settings = {
        key: json.loads(value) for key, value in database.rows("SELECT key, value FROM meta")
    }
    sizes, learning = settings.get("batch sizes", {}), settings.get("learning")
    for number, strategy, config, state, started, finished in database.rows(
        "SELECT number, strategy, config, state, started, finished FROM old_rounds ORDER BY number"
    ):
        folder = database.path.parent / "rounds" / f"{number:03d}"
        batch, record = _read(folder / "batch.json"), _read(folder / "manifest.json")
        budget = sizes.get(str(number), json.loads(config).get("budget", 0))
        new = "training" if learning == number else "open"
        if record is not None or state == "finished":
            new, record = "finished", {**(record or {}), "budget": budget}
        query = (
            None
            if batch is None
            else {"diagnostics": batch["diagnostics"], "costs": batch["costs"]}
        )
        database.execute(
            "INSERT INTO rounds (number, strategy, budget, state, query, record, started, finished)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (number, strategy, budget, new, _json(query), _json(record), started, finished),
        )
        if new == "finished" and state == "started":
            # it was stopped between its manifest and the database
            database.execute("UPDATE samples SET state = 'unlabelled' WHERE state = 'suggested'")
        _complete_batch(database, number, batch)
        if str(number) in sizes:
            ahead = (
                "UPDATE suggestions SET ahead = 1 WHERE round = ? AND rank >= ? AND author IS NULL"
            )
            database.execute(ahead, (number, sizes[str(number)]))


def _complete_batch(database: Database, number: int, batch: dict[str, Any] | None) -> None:
    """Take over a batch that was stopped between its file and the database."""
    known = database.value("SELECT 1 FROM suggestions WHERE round = ?", (number,))
    if known or batch is None:
        return
    shares = batch.get("uncertainty") or [None] * len(batch["ids"])
    columns = zip(batch["ids"], batch["gains"], batch["reasons"], shares, strict=True)
    database.many(
        "INSERT INTO suggestions (round, rank, sample_id, gain, reason, uncertainty)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [(number, rank, *values) for rank, values in enumerate(columns)],
    )
    database.execute(
        "UPDATE samples SET state = 'suggested' WHERE state = 'unlabelled'"
        " AND id IN (SELECT sample_id FROM suggestions WHERE round = ?)",
        (number,),
    )


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


FIFTH = (
    "ALTER TABLE rounds RENAME TO old_rounds",
    """CREATE TABLE rounds (
        number INTEGER PRIMARY KEY,
        strategy TEXT NOT NULL,
        budget INTEGER NOT NULL,  -- samples of the batch proper
        state TEXT NOT NULL CHECK (state IN ('open', 'training', 'finished')),
        query TEXT,               -- JSON: diagnostics and costs of the choice; NULL while no strategy has chosen
        record TEXT,              -- JSON of a finished round
        started REAL NOT NULL,
        finished REAL
    )""",
    # 1: chosen behind the batch, for people who go on while the model trains.
    "ALTER TABLE suggestions ADD COLUMN ahead INTEGER NOT NULL DEFAULT 0",
    _rounds_from_files,
    "DROP TABLE old_rounds",
    "DELETE FROM meta WHERE key IN ('batch sizes', 'learning')",
)

SIXTH = (mark_not_annotated,)

SEVENTH = (
    # The voxels of the channels as one number, and what tells whether the files it came from were
    # written since; NULL where that is not known. Notes on its files: a JSON list.
    "ALTER TABLE cases ADD COLUMN content TEXT",
    "ALTER TABLE cases ADD COLUMN stamp TEXT",
    "ALTER TABLE cases ADD COLUMN notes TEXT NOT NULL DEFAULT '[]'",
    # JSON: UIDs of the DICOM series, its instances and its frame of reference; no other attribute.
    "ALTER TABLE cases ADD COLUMN dicom TEXT",
)

EIGHTH = (
    # JSON list of structures (numbers) of which the reference label says nothing, because the
    # project got them later.
    "ALTER TABLE cases ADD COLUMN silent TEXT NOT NULL DEFAULT '[]'",
    # 1: made of its base by a change of the structures, and by no person; whoever corrects the base
    # corrects this one.
    "ALTER TABLE versions ADD COLUMN derived INTEGER NOT NULL DEFAULT 0",
)

NINTH = (
    # Whether the case counts: 'removed' with all that it has; of 'erased' a neutral name stays.
    """ALTER TABLE cases ADD COLUMN state TEXT NOT NULL DEFAULT 'present'
        CHECK (state IN ('present', 'removed', 'erasing', 'erased'))""",
    # When and by whom state or role was changed last; NULL: never.
    "ALTER TABLE cases ADD COLUMN changed REAL",
    "ALTER TABLE cases ADD COLUMN changed_by TEXT",
    # 1: its label map may still hold voxels that were taken back.
    "ALTER TABLE cases ADD COLUMN outdated INTEGER NOT NULL DEFAULT 0",
    # The samples that can be suggested and learned from; all others keep rows and numbers.
    """CREATE VIEW counted_samples AS SELECT s.* FROM samples s JOIN cases c ON c.name = s.case_name
        WHERE c.role = 'pool' AND c.state = 'present'""",
    # What the newest model has learned from, itself or through the weights that it began with.
    """CREATE TABLE learned (
        sample_id INTEGER PRIMARY KEY REFERENCES samples (id) ON DELETE CASCADE
    )""",
    """INSERT INTO learned SELECT DISTINCT a.sample_id FROM annotations a
        JOIN samples s ON s.id = a.sample_id WHERE s.state = 'labelled'
        AND a.round < (SELECT count(*) FROM rounds WHERE state != 'open')""",
    # 1: its training began without the weights of the round before.
    "ALTER TABLE rounds ADD COLUMN anew INTEGER NOT NULL DEFAULT 0",
)

TENTH = (
    # Drawn voxels that no training sees, because the image is 0 there.
    "ALTER TABLE cases ADD COLUMN unseen INTEGER NOT NULL DEFAULT 0",
    # What is unusual about the case among the planned ones: a JSON list.
    "ALTER TABLE cases ADD COLUMN planning TEXT NOT NULL DEFAULT '[]'",
    # 1: its reference label becomes annotations as soon as it is planned.
    "ALTER TABLE cases ADD COLUMN learn INTEGER NOT NULL DEFAULT 0",
)

ELEVENTH = (
    # The files that cannot be computed again, with the hash of their bytes. Names are below the
    # project (images, references and plan: below the one that has the data).
    """CREATE TABLE files (
        name TEXT PRIMARY KEY,
        sha256 TEXT NOT NULL,
        case_name TEXT
    )""",
    # The versions that were drawn over the last copy of a label map, in their order.
    """CREATE TABLE painted (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        case_name TEXT NOT NULL, sample_id INTEGER NOT NULL, number INTEGER NOT NULL
    )""",
    # Hash of the label map's voxels, and which copy of it is the last one; NULL: none.
    "ALTER TABLE cases ADD COLUMN map TEXT",
    "ALTER TABLE cases ADD COLUMN copy TEXT",
    # Hash of a version's voxels; over all that a row means, see `alunet.project.seals`.
    "ALTER TABLE versions ADD COLUMN voxels TEXT",
    "ALTER TABLE versions ADD COLUMN checksum TEXT",
    "ALTER TABLE annotations ADD COLUMN checksum TEXT",
    note_hashes,
)

TWELFTH = (
    # What a status counts is found without looking at every sample.
    "CREATE INDEX IF NOT EXISTS samples_by_state ON samples (state, case_name, slice)",
)

MIGRATIONS: list[Migration] = [
    FIRST,
    SECOND,
    THIRD,
    FOURTH,
    FIFTH,
    SIXTH,
    SEVENTH,
    EIGHTH,
    NINTH,
    TENTH,
    ELEVENTH,
    TWELFTH,
]
"""What leads from schema version ``i`` to ``i + 1``. Released ones are never changed."""

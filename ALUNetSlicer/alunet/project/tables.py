"""The tables of a project's database, and the migrations that lead there."""

from __future__ import annotations

from collections.abc import Sequence

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
    # Where a case was imported from, so that the same import can be asked for again; NULL where that is not known.
    "ALTER TABLE cases ADD COLUMN source TEXT",
)

THIRD = (
    # Every version of a sample's labels that was ever submitted; the voxels lie in annotations/history/.
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
    "CREATE TABLE answers (key TEXT PRIMARY KEY, digest TEXT NOT NULL, answer TEXT NOT NULL, time REAL NOT NULL)",
    "ALTER TABLE jobs ADD COLUMN started REAL",
    "ALTER TABLE jobs ADD COLUMN heartbeat REAL",
    "ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN progress TEXT",
    "ALTER TABLE jobs ADD COLUMN waiting TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN cancelled REAL",  # when somebody asked for its end
    "ALTER TABLE jobs ADD COLUMN result TEXT",  # a file name below jobs/
    "ALTER TABLE jobs ADD COLUMN notes TEXT NOT NULL DEFAULT '{}'",  # what a job that is started again must know
)

FOURTH = (
    # Share of the other candidates that the strategy found less uncertain, 0 to 1; NULL where it measures nothing.
    "ALTER TABLE suggestions ADD COLUMN uncertainty REAL",
    # Who chose the sample; NULL: the strategy did.
    "ALTER TABLE suggestions ADD COLUMN author TEXT",
)

MIGRATIONS: list[Sequence[str]] = [FIRST, SECOND, THIRD, FOURTH]
"""Statements that lead from schema version ``i`` to ``i + 1``. Released ones are never changed."""

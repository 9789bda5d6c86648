"""What the service and its clients say to each other: codes, and the dataclasses of JSON bodies.

The addresses named here are below `alunet.schema.PREFIX`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from alunet.schema.constants import TILE
from alunet.schema.folder import DicomIdentity


class Header:
    """Names of HTTP headers beyond the usual ones."""

    API = "X-ALUNet-Api"
    OFFSET = "Upload-Offset"
    SHAPE = "X-Shape"
    DTYPE = "X-Dtype"
    # value of voxels left open; without: the highest number + 1, as in version 1, which a project
    # whose structures changed refuses
    NOT_ANNOTATED = "X-Not-Annotated"
    # highest number of a structure that the project had when labels were drawn; without: now
    STRUCTURES = "X-Structures"
    VERSION = "X-Version"
    KEY = "Idempotency-Key"
    # of a proposal: a `ProposalSource`, and the expected mean Dice where something says it
    SOURCE = "X-Source"
    QUALITY = "X-Quality"


class Code(str, Enum):
    """What kind of error a `Problem` is, for programs; with the HTTP status it comes with."""

    UNAUTHORIZED = "unauthorized"  # 401: no token, or a wrong one
    BAD_REQUEST = "bad_request"  # 400: the input cannot be used
    NOT_FOUND = "not_found"  # 404
    NOT_ALLOWED = "not_allowed"  # 405: no such method here
    EXISTS = "exists"  # 409: the name is taken by something else
    WRONG_OFFSET = "wrong_offset"  # 409: details: offset
    LEASED = "leased"  # 409: details: author, until
    # 409: details: version (the current one), kept (the number yours got)
    STALE_ANNOTATION = "stale_annotation"
    ANNOTATED = "annotated"  # 409: the slice has labels already
    # 409: a person must say something first; details: about, choices (each with its meaning)
    ANSWER_NEEDED = "answer_needed"
    NOT_READY = "not_ready"  # 409: something must be done first, a plan or a round
    BUSY = "busy"  # 409: another process has the project
    UNUSABLE = "unusable"  # 409: the project cannot be opened; the message says why
    TOO_LARGE = "too_large"  # 413: more bytes or more items than allowed
    BAD_RANGE = "bad_range"  # 416
    BAD_CHECKSUM = "bad_checksum"  # 422: the upload was dropped
    INCOMPLETE = "incomplete"  # 422: an upload that is not finished was used
    KEY_REUSED = "key_reused"  # 422: the idempotency key came with other content before
    TOO_MANY = "too_many"  # 429
    DISK_FULL = "disk_full"  # 507
    READ_ONLY = "read_only"  # 503: the engine's disk, or its files there, cannot be written
    LOCKED = "locked"  # 503: another program has the database
    NO_DESCRIPTORS = "no_descriptors"  # 503: the engine's computer opens no more files
    DISK_ERROR = "disk_error"  # 503: the engine's disk fails to read or write
    NO_MEMORY = "no_memory"  # 503: of jobs
    DAMAGED = "damaged"  # 500: the project's database is damaged
    FAILED = "failed"  # 500: a defect of ours


class JobKind(str, Enum):
    """What a job does. ``options`` of each are described in `JobRequest`."""

    PLAN = "plan"
    ROUND = "round"
    PREDICT = "predict"
    UNCERTAINTY = "uncertainty"
    EXPORT = "export"
    SIMULATE = "simulate"
    IMPORT = "import"


class JobState(str, Enum):
    """How a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class Announcement:
    """First line on standard output of `alunet serve`.

    Where a service runs on that root already, it is that one's, and the command ends with 0: so the
    same command starts a service or finds it.
    """

    address: str
    token: str
    pid: int
    api: int


@dataclass(frozen=True)
class Problem:
    """Body of every answer with a status of 400 or more; `details` are named with each `Code`."""

    code: Code
    message: str
    hint: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Health:
    """GET /health.

    Attributes:
        version: of ALUNet.
        device: what jobs run on: "cuda", "mps" or "cpu"; "unknown" in the first seconds.
        devices: names of the accelerators, empty without one.
        memory_free: bytes of free main memory.
        disk_free: free bytes where the projects lie.
        versions: of Python and of the libraries that matter.
        started: seconds since the epoch.
        stuck: what does not go on, a line each: projects that cannot be opened, jobs that cannot be
            started, threads of the service; empty where all is well.
    """

    api: int
    version: str
    device: str
    devices: list[str]
    memory_free: int
    disk_free: int
    projects: int
    jobs_running: int
    versions: dict[str, str]
    started: float
    stuck: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ProjectRequest:
    """POST /projects: 201, or 200 where the same project is there already; 409 `exists` for another
    of the name.

    Attributes:
        labels: names of the structures, without background; their values are 1, 2, …
        channels: as nnU-Net knows them, for instance ["CT"].
        preset: recipe of training and scoring, one of `PRESET_PURPOSES`.
        epochs: of every training, instead of the preset's.
        iterations: steps of an epoch, instead of the preset's.
        train_for: seconds that a round's training may take, instead of the preset's time and of a
            number of steps.
        unit: what people are asked for, one of `UNITS`.
    """

    name: str
    labels: list[str]
    channels: list[str]
    preset: str = "cpu"
    epochs: int | None = None
    iterations: int | None = None
    seed: int = 0
    train_for: float | None = None
    unit: str = TILE


@dataclass(frozen=True)
class ProjectInfo:
    """One of GET /projects, answer of POST /projects, and part of GET /projects/{id}, which says
    more in `status`.

    Attributes:
        id: for addresses: lower-case letters, digits, hyphens.
        labels: structure name to number in label maps, with ``"background": 0``; a number stays
            when other structures come and go, so there may be gaps.
        colors: #rrggbb of the structures, by name, that have a color of their own.
        replaced: number of a removed structure -> what its voxels are now: another number, 0, or
            `NOT_ANNOTATED`.
        event: number of its newest event: who follows from there on misses nothing that this does
            not say.
        status: what `alunet status --json` says; empty in the list of projects.
        problem: in the list, why the project cannot be opened; then nothing else is known of it but
            its id, and its name where the service has had it open before. None for all others.
    """

    id: str
    name: str
    labels: dict[str, int]
    channels: list[str]
    event: int = 0
    status: dict[str, Any] = field(default_factory=dict)
    colors: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    problem: Problem | None = None


@dataclass(frozen=True)
class UploadRequest:
    """POST /uploads: 201, or 200 where an upload of these bytes was begun or finished before.

    Attributes:
        filename: its ending tells the format; the rest is not kept.
        size: bytes.
        sha256: of all bytes, hexadecimal.
    """

    filename: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Upload:
    """An upload; it is complete when `offset == size`.

    PATCH /uploads/{id} with the header `Header.OFFSET` and at most `PART_BYTES` raw bytes appends a
    part.
    """

    id: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class CaseRequest:
    """POST /projects/{p}/cases: 202 with the job that imports the case, or 200 where the same was
    asked before and its job has not failed; 409 `exists` where another case has the name.

    The job has the phases "check" and "import" (cases). The
    uploads are used up when the case is stored, and kept where the job fails or is cancelled.

    Attributes:
        name: letters, digits, ``_``, ``-``, blanks; never a patient's.
        role: "pool" or "test".
        images: one finished upload a channel.
        label: finished upload of a label map on the same grid.
        label_use: what it is for: "hidden", a reference of a test case or a simulation; or "train":
            it becomes annotations of every slice when the project is planned.
        dicom: UIDs of the series that the image was, where it was DICOM.
    """

    name: str
    images: list[str]
    role: str = "pool"
    label: str | None = None
    label_use: str = "hidden"
    dicom: DicomIdentity | None = None


@dataclass(frozen=True)
class CaseInfo:
    """A case of a project.

    Its files are GET .../cases/{name}/images/{channel}, /annotation, /proposal and
    /uncertainty?measure=entropy, with `?format=` one of `FILE_FORMATS`; each has an ``ETag``
    (SHA-256 of the bytes) and answers to ``Range``.

    Attributes:
        shape: voxels (k, j, i).
        spacing: mm (k, j, i).
        has_label: whether there is a reference.
        annotated: labelled samples.
        proposal: round of the model whose proposal is stored, None where there is none.
        state: "present", or "removed": it counts for nothing until it is restored.
    """

    name: str
    role: str
    channels: int
    shape: list[int]
    spacing: list[float]
    has_label: bool
    annotated: int
    proposal: int | None
    state: str = "present"


@dataclass(frozen=True)
class JobRequest:
    """POST /projects/{p}/jobs: 202. With a `Header.KEY` the same request sent again gives the same
    job.

    Options, all of them optional:

    ===============  ===============================================================================
    ``plan``         none
    ``round``        ``strategy``, ``budget``, ``ahead``, ``train_for``. Trains on what is
                     annotated, then suggests the next batch of ``budget`` samples and ``ahead``
                     more (without: as many again), which can be annotated while the next model is
                     trained. In a new project it plans and suggests the first batch. What is not
                     given is as in the round before. Slices that people chose stay in the worklist
                     until they are done or skipped. The training takes about ``train_for`` seconds
                     (without: as the project has it); one that was cancelled goes on, unless
                     another time is asked for.
    ``predict``      ``cases`` (list of names; without: all). Stores proposals.
    ``uncertainty``  ``cases`` (without: all in the worklist), ``measure`` ("entropy"). Stores
                     uncertainty maps of the newest model. With ``samples`` (list of numbers) those
                     of these boxes alone, one after the other; such a job gives way to all others.
    ``export``       ``what`` ("model", "labels", or "predictions", which must be there), ``format``
                     and ``cases`` of labels. The result is a zip file; with the format "dcm", the
                     one of predictions, the person's side makes DICOM SEG objects of it, beside the
                     images' own DICOM.
    ``import``       of a `CaseRequest`; it begins with POST /projects/{p}/cases and nowhere else.
    ``simulate``     ``strategies``, ``rounds``, ``budget``, ``initial``, ``seeds``, on the labelled
                     cases of the project; ``group`` (a regular expression that captures the patient
                     in a case name, or "none": each case is another patient), needed where names
                     look like several cases of one patient. The result is a zip file.
    ===============  ===============================================================================
    """

    kind: JobKind
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A job; times are seconds since the epoch. The newest 500 that have ended are kept, and the
    files that the newest 20 made.

    Attributes:
        progress: the last ``progress``, ``epoch`` or ``step`` event's data, with its ``kind``.
        waiting: why a queued job waits, in words; empty for others.
        heartbeat: when the running job last showed that it lives.
        result: whether GET .../jobs/{id}/result has a file.
        attempts: how often it was started; more than once after a crash.
    """

    id: int
    kind: JobKind
    state: JobState
    options: dict[str, Any]
    progress: dict[str, Any] | None
    waiting: str
    error: Problem | None
    created: float
    started: float | None
    finished: float | None
    heartbeat: float | None
    result: bool
    attempts: int


@dataclass(frozen=True)
class NumberedEvent:
    """An event of a project, of GET .../events?after=N&limit=M or of a stream of server-sent
    events (id = number).

    The newest 20,000 are kept. Who asks for older ones gets first one of the kind ``gap``, with
    ``after`` (as it was asked for) and ``first`` (the oldest that is kept) in its data: ask for
    everything again, and go on from its number.
    """

    number: int
    kind: str
    data: dict[str, Any]
    time: float

"""The words that processes of ALUNet exchange: plain data, standard library alone.

`Event` is what happens while work goes on, one line of JSON each. The rest is what the service and its clients say to
each other: HTTP under `PREFIX`, JSON bodies made of dataclasses with `to_json` and read with `from_json`, errors as a
`Problem`.
"""

from alunet.schema.codec import from_json, to_json
from alunet.schema.events import Emit, Event, ignore_events
from alunet.schema.messages import (
    API,
    ENDED,
    EVENT_STREAM,
    FILE_FORMATS,
    LABEL_DTYPES,
    PART_BYTES,
    PREFIX,
    PRESET_PURPOSES,
    Announcement,
    CaseInfo,
    CaseRequest,
    Code,
    CurvePoint,
    Header,
    Health,
    Job,
    JobKind,
    JobRequest,
    JobState,
    NumberedEvent,
    Problem,
    ProjectInfo,
    ProjectRequest,
    RoundInfo,
    Upload,
    UploadRequest,
)
from alunet.schema.work import Lease, LeaseRequest, SampleState, SliceRequest, Status, StatusRequest, WorkRow

__all__ = [
    "API",
    "Announcement",
    "CaseInfo",
    "CaseRequest",
    "Code",
    "CurvePoint",
    "ENDED",
    "EVENT_STREAM",
    "Emit",
    "Event",
    "FILE_FORMATS",
    "Header",
    "Health",
    "Job",
    "JobKind",
    "JobRequest",
    "JobState",
    "LABEL_DTYPES",
    "Lease",
    "LeaseRequest",
    "NumberedEvent",
    "PART_BYTES",
    "PREFIX",
    "PRESET_PURPOSES",
    "Problem",
    "ProjectInfo",
    "ProjectRequest",
    "RoundInfo",
    "SampleState",
    "SliceRequest",
    "Status",
    "StatusRequest",
    "Upload",
    "UploadRequest",
    "WorkRow",
    "from_json",
    "ignore_events",
    "to_json",
]

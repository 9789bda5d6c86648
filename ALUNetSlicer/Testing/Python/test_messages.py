"""What the agent says becomes types as it comes in; what does not fit is a failure that says
what to do.
"""

from __future__ import annotations

import json
import unittest
from collections.abc import Callable
from typing import Any

from alunet import schema
from alunet.schema import JobKind, JobState, Lease, SampleState, Status, WorkRow, to_json
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.engine.jobs import JobProgress
from ALUNetSlicerLib.engine.messages import ConnectionNews, OutboxNews, ProjectNews, StepNews

ROW = WorkRow(
    sample=7,
    round=1,
    rank=0,
    case="a",
    slice=2,
    axis=0,
    box=[[2, 3], [0, 4], [0, 5]],
    reason="far",
    gain=None,
    uncertainty=0.5,
    ahead=False,
    status=Status.TODO,
    version=0,
    lease=Lease("bob", 9.0),
)


class Pipe:
    """A process whose words the test chooses; a request is answered by its number."""

    code: int | None = None

    def __init__(self) -> None:
        self.heard: Callable[[bytes], None] = lambda data: None

    def start(self, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        self.heard = heard

    def write(self, data: bytes) -> None:
        """Nothing reads it."""

    def close(self) -> None:
        """Nothing ends."""

    def kill(self) -> None:
        """Nothing ends."""

    def say(self, **message: Any) -> None:
        self.heard(json.dumps(message).encode() + b"\n")


class Clock:
    """Time that stands still."""

    def now(self) -> float:
        return 0.0

    def later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


class MessagesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.pipe = Pipe()
        self.agent = AgentProcess(self.pipe, Clock())
        self.agent.start()
        self.events: list = []
        self.failures: list[Failure] = []
        self.agent.event.connect(self.events.append)
        self.agent.failed.connect(self.failures.append)

    def answer(self, call: str, **answer: Any) -> tuple[list, list]:
        """What `done` and `failed` get when a call is answered so."""
        done, failed = [], []
        number = self.agent.ask(call, done.append, failed.append)
        self.pipe.say(id=number, **answer)
        return done, failed

    def test_answers_come_as_the_types_of_the_schema(self):
        self.assertEqual(self.answer("worklist", result=[to_json(ROW)]), ([[ROW]], []))

    def test_entries_of_a_newer_engine_are_left_out(self):
        row = {**to_json(ROW), "reviewer": "Ada"}
        self.assertEqual(self.answer("worklist", result=[row]), ([[ROW]], []))

    def test_an_answer_of_another_shape_fails_and_says_what_to_update(self):
        row = {**to_json(ROW), "status": "reviewed"}
        for result in ([row], {"rows": []}, None):
            done, failed = self.answer("worklist", result=result)
            self.assertEqual(done, [])
            self.assertRegex(
                str(failed[0]),
                r"\(worklist\) cannot be understood: .+ Install the same version",
            )

    def test_a_project_comes_with_its_status_and_one_of_a_list_without(self):
        project = {
            "id": "p",
            "name": "P",
            "labels": {"background": 0, "organ": 1},
            "channels": ["CT"],
            "event": 3,
        }
        status = {
            "cases": ["a"],
            "minutes": 2,
            "rounds": [{"state": "finished", "number": 0}],
            "voxels": {"organ": 9},
        }
        found = self.answer("project", result={**project, "status": status})[0][0]
        self.assertEqual((found.status.cases, found.status.minutes, found.event), (["a"], 2.0, 3))
        self.assertTrue(found.status.rounds[0].finished)
        listed = self.answer("projects", result=[{**project, "status": {}}])[0][0]
        self.assertEqual((listed[0].id, listed[0].status.cases), ("p", []))

    def test_a_failure_keeps_its_code_its_hint_and_who_has_the_slice(self):
        error = {
            "code": "leased",
            "message": "Taken.",
            "hint": "Wait.",
            "details": {"author": "bob", "until": 9.0},
        }
        done, failed = self.answer("lease", error=error)
        self.assertEqual((done, str(failed[0]), failed[0].author), ([], "Taken. Wait.", "bob"))
        self.assertEqual(failed[0].code, schema.Code.LEASED)

    def test_a_connection_is_told_with_its_reason(self):
        error = {"code": "failed", "message": "No way.", "hint": ""}
        self.pipe.say(event="connection", engine="local", state="offline", error=error)
        self.assertEqual(
            self.events, [ConnectionNews("offline", None, Failure("failed", "No way."))]
        )

    def test_the_outbox_tells_what_was_stored_what_was_refused_and_what_waits(self):
        entry = {"event": "outbox", "key": "k", "project": "p", "sample": 7, "annotation": True}
        stored, error = (
            to_json(SampleState(7, Status.DONE, 2)),
            {"code": "stale_annotation", "message": "Late."},
        )
        for state, answer in (
            ("sent", stored),
            ("conflict", error),
            ("refused", error),
            ("waiting", {"message": "?"}),
        ):
            self.pipe.say(**entry, state=state, answer=answer)
        conflict = Failure("stale_annotation", "Late.")
        expected = [
            (SampleState(7, Status.DONE, 2), None),
            (None, conflict),
            (None, conflict),
            (None, None),
        ]
        self.assertEqual([(news.stored, news.error) for news in self.events], expected)
        self.assertTrue(
            all(isinstance(news, OutboxNews) and news.annotation for news in self.events)
        )

    def test_news_of_a_project_say_what_they_are_about(self):
        for number, (kind, data) in enumerate(
            (
                ("sample", {"sample": 7, "status": "flagged", "version": 0}),
                ("step", {"name": "train", "state": "started", "job": 4}),
                ("message", {"text": "for a person", "job": 4}),
            )
        ):
            self.pipe.say(
                event="project", project="p", number=number, kind=kind, data=data, time=1.0
            )
        self.assertEqual(
            self.events,
            [
                ProjectNews("p", 0, "sample", None, SampleState(7, Status.FLAGGED, 0)),
                ProjectNews("p", 1, "step", 4, StepNews("train", "started")),
                ProjectNews("p", 2, "message", 4, None),
            ],
        )

    def test_an_event_of_another_shape_is_told_and_those_behind_it_come(self):
        data = {"sample": 7, "status": "reviewed", "version": 0}
        self.pipe.say(event="project", project="p", number=1, kind="sample", data=data, time=1.0)
        self.pipe.say(event="of a newer agent")
        self.pipe.say(event="connection", engine="local", state="offline")
        self.assertEqual(self.events, [ConnectionNews("offline")])
        self.assertRegex(
            str(self.failures[0]),
            r"\(project\) cannot be understood: .*'reviewed'.* Install the same version",
        )
        self.assertEqual(len(self.failures), 1)

    def test_a_job_of_a_row_is_as_far_as_its_last_progress_says(self):
        row = schema.Job(
            1,
            JobKind.ROUND,
            JobState.DONE,
            {},
            {"kind": "epoch", "epoch": 3, "epochs": 4, "dice": 0.5},
            "",
            None,
            1.0,
            2.0,
            3.0,
            None,
            True,
            1,
        )
        job = JobProgress.of_row(self.answer("job", result=to_json(row))[0][0])
        self.assertEqual(
            (job.state, job.phase, job.done, job.dice), (JobState.DONE, "train", 3.0, 0.5)
        )
        self.assertEqual(
            JobProgress.of_row(schema.Job(**{**vars(row), "progress": {"kind": "epoch"}})).phase, ""
        )


if __name__ == "__main__":
    unittest.main()

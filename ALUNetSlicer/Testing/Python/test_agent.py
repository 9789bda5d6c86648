"""The Slicer side of the agent's pipes, with a real agent: nothing that was asked is lost with
the process.
"""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

from engines import PACKAGES, PYTHON, another_version, environment
from pump import PipeProcess, Pump, agent_command

from alunet.schema import API
from ALUNetSlicerLib.engine.agent_process import WRONG_VERSION, AgentProcess

NOWHERE = "http://127.0.0.1:9"


class AgentTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.pump = Path(folder.name), Pump()
        variables = environment()
        self.process = PipeProcess(self.pump, agent_command(self.folder / "home"), variables)
        self.agent = AgentProcess(self.process, self.pump)
        self.addCleanup(self.agent.close)
        self.events: list[dict] = []
        self.states: list[str] = []
        self.agent.event.connect(self.events.append)
        self.agent.state.connect(lambda state, words: self.states.append(state))

    def ask(self, call, **args):
        """The result; an AssertionError with the failure."""
        found = []
        self.agent.ask(
            call,
            lambda result: found.append((result, None)),
            lambda why: found.append((None, why)),
            **args,
        )
        result, failure = self.pump.until(lambda: found)[0]
        self.assertIsNone(failure)
        return result

    def submit(self, sample: int, answers: list) -> None:
        file = self.folder / f"{sample}.raw"
        file.write_bytes(bytes(12))
        self.agent.ask(
            "submit",
            answers.append,
            self.fail,
            project="p",
            sample=sample,
            file=str(file),
            shape=[1, 3, 4],
            dtype="uint8",
            base_version=0,
            author="ann",
            seconds=1.0,
        )

    def test_answers_and_failures_come_to_who_asked(self):
        self.agent.start()
        self.assertEqual(self.ask("hello")["pid"], self.process.process.pid)
        failures = []
        self.agent.ask("health", self.fail, failures.append)
        self.agent.ask("no such call", self.fail, failures.append)
        self.pump.until(lambda: len(failures) == 2)
        said = sorted(str(failure) for failure in failures)
        self.assertEqual(said[0], "No engine was chosen yet. Connect first.")
        self.assertIn("There is no call 'no such call'.", said[1])

    def test_what_is_asked_before_the_start_is_asked_then(self):
        answers = []
        self.agent.ask("hello", answers.append)
        self.agent.start()
        self.pump.until(lambda: answers)

    def test_an_agent_that_is_killed_is_started_again_and_nothing_is_missing(self):
        self.agent.start()
        self.agent.ask("choose", to=NOWHERE, token="t", allow_plain=True)
        answers: list = []
        for sample in range(30):
            self.submit(sample, answers)
            if sample % 10 == 4:
                self.pump.until(lambda: self.states[-1] == "running")
                self.process.kill()
                self.pump.until(lambda: self.states[-1] == "ended")
        self.pump.until(lambda: len(answers) == 30)
        waiting = self.ask("waiting")
        self.assertEqual([entry.sample for entry in waiting], list(range(30)))
        self.assertEqual({entry.key for entry in waiting}, {answer["key"] for answer in answers})
        self.assertEqual(self.states.count("ended"), 3)

    def test_an_agent_that_does_not_start_is_told_to_all_who_wait(self):
        self.process = PipeProcess(self.pump, [str(self.folder / "nothing")])
        agent, failures = AgentProcess(self.process, self.pump), []
        agent.ask("hello", self.fail, failures.append)
        agent.start()
        self.pump.until(lambda: failures, 30)
        self.assertEqual(failures[0].code, "agent")
        self.assertIn("does not start", failures[0].message)

    def test_what_is_not_json_is_passed_over(self):
        answers = (
            """print('noise\\n{"id": 0, "result": {}}\\n{"id": 1, "result": 5}', flush=True)"""
        )
        program = f"import sys; {answers}; sys.stdin.read()"
        self.agent.close()
        self.agent = AgentProcess(PipeProcess(self.pump, [PYTHON, "-c", program]), self.pump)
        self.addCleanup(self.agent.close)
        answers: list = []
        self.agent.ask("hello", answers.append)
        self.agent.start()
        self.pump.until(lambda: answers == [5])

    def test_an_answer_that_fails_holds_up_none_of_those_behind_it(self):
        lines = 'noise\\n{"id": 0, "result": {}}\\n{"id": 1, "result": 5}\\n{"id": 2, "result": 6}'
        program = f"import sys; print('{lines}', flush=True); sys.stdin.read()"
        self.agent.close()
        self.agent = AgentProcess(PipeProcess(self.pump, [PYTHON, "-c", program]), self.pump)
        self.addCleanup(self.agent.close)
        answers: list = []

        def fail(_answer: object) -> None:
            raise RuntimeError("a node vanished")

        self.agent.ask("hello", fail)
        self.agent.ask("hello", answers.append)
        self.agent.start()
        with self.assertRaisesRegex(RuntimeError, "vanished"):
            self.pump.until(lambda: answers)
        self.pump.until(lambda: answers == [6])

    def test_an_agent_of_another_version_is_asked_nothing_and_says_which_side_to_update(self):
        for version, update in (
            (API - 1, f"Update ALUNet in {PACKAGES}"),
            (API + 1, "Update the viewer"),
        ):
            process = PipeProcess(
                self.pump, agent_command(self.folder / "home"), another_version(version)
            )
            agent, failures = AgentProcess(process, self.pump), []
            self.addCleanup(agent.close)
            agent.ask("choose", self.fail, failures.append, to=NOWHERE, token="t", allow_plain=True)
            agent.start()
            self.pump.until(lambda found=failures: found)
            self.assertEqual(failures[0].code, WRONG_VERSION)
            for words in (
                f"The viewer speaks version {API} of the contract",
                f" version {version}.",
            ):
                self.assertIn(words, failures[0].message)
            self.assertTrue(failures[0].hint.startswith(update), failures[0].hint)
            self.assertIn("on this computer", failures[0].hint)
            agent.ask("waiting", self.fail, failures.append)
            self.pump.until(lambda found=failures: len(found) == 2)
            self.assertEqual(failures[0], failures[1])

    def test_what_was_annotated_is_asked_again_after_the_update(self):
        process = PipeProcess(
            self.pump, agent_command(self.folder / "home"), another_version(API - 1)
        )
        agent, failures, answers = AgentProcess(process, self.pump), [], []
        self.addCleanup(agent.close)
        agent.ask("choose", self.fail, failures.append, to=NOWHERE, token="t", allow_plain=True)
        agent.start()
        self.pump.until(lambda: failures)
        process._environment = environment()  # ALUNet was updated there
        agent.start()
        agent.ask("choose", answers.append, self.fail, to=NOWHERE, token="t", allow_plain=True)
        agent.ask("hello", answers.append, self.fail)
        self.pump.until(lambda: len(answers) == 2)
        self.assertEqual(answers[1]["api"], [API, API])


if __name__ == "__main__":
    unittest.main()

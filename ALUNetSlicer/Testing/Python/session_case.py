"""One person's session against a real agent and a real service, without the panel."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from engines import PYTHON, environment, serve, stop
from pump import PipeProcess, Pump, agent_command
from scenes import QuietEditor, SceneTest

from ALUNetSlicerLib.annotate.person import Person
from ALUNetSlicerLib.annotate.session import AnnotationSession
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.messages import ConnectionNews

SHAPE = (5, 20, 24)
_HELPERS = str(Path(__file__).resolve().parents[1])
_POOL = """
import sys
from pathlib import Path
import numpy as np
import SimpleITK as sitk
from planned_project import plan, suggest
from alunet.project import Project

root = Path(sys.argv[1])
shape = (5, 20, 24)
labels = {"background": 0, "organ": 1, "lesion": 2}
about = {"name": "p", "labels": labels, "channels": ["CT"], "annotation": {"device": "cpu"}}
with Project.create(root / "p", **about) as made:
    for name in ("a", "b"):
        image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 500, shape, np.int16))
        image.SetSpacing((0.7, 0.8, 3))
        image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
        sitk.WriteImage(image, str(root / f"{name}.nii.gz"))
        made.cases.import_case(name, [root / f"{name}.nii.gz"])
    suggest(plan(made), range(10), reasons=[f"reason {n}" for n in range(10)])
"""


def is_online(event: object) -> bool:
    return isinstance(event, ConnectionNews) and event.state == "online"


@functools.cache
def made_by(program: str) -> tempfile.TemporaryDirectory:
    """A folder with the project ``p`` that a program makes there, once for all tests of a process;
    each test has a copy of it.
    """
    folder = tempfile.TemporaryDirectory()
    variables = environment()
    helpers = {"PYTHONPATH": os.pathsep.join([variables["PYTHONPATH"], _HELPERS])}
    subprocess.run([PYTHON, "-c", program, folder.name], env={**variables, **helpers}, check=True)
    return folder


class SessionCase(SceneTest):
    """A project of two cases with ten suggested slices. The tests of a class share a service."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        root = tempfile.TemporaryDirectory()
        cls.addClassCleanup(root.cleanup)
        cls.root, cls.port, cls.numbers = Path(root.name), 0, itertools.count(1)
        cls.environment = environment()
        cls.serve()
        cls.addClassCleanup(lambda: cls.stop())

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.pump = Path(folder.name), Pump()
        self.project = f"p{next(self.numbers)}"
        shutil.copytree(Path(made_by(_POOL).name) / "p", self.root / self.project)
        if self.service.poll() is not None:  # the test before ended it
            self.serve()
        self.failures: list = []
        self.shown: list = []
        self.open()

    @classmethod
    def serve(cls) -> None:
        cls.service, cls.address, cls.token = serve(cls.root, cls.port)
        cls.port = int(cls.address.rsplit(":", 1)[1])

    @classmethod
    def stop(cls) -> None:
        stop(cls.service)

    def open(self, author: str = "ann") -> None:
        """As a viewer does when it starts."""
        self.failures.clear()
        self.process = PipeProcess(self.pump, agent_command(self.folder / "home"), self.environment)
        self.agent = AgentProcess(self.process, self.pump)
        self.agent.start()
        self.agent.ask("choose", to=self.address, token=self.token)
        self.agent.ask("follow", project=self.project, after=0)
        online: list = []
        self.agent.event.connect(lambda event: online.append(1) if is_online(event) else None)
        self.pump.until(lambda: online)
        labels = {"background": 0, "organ": 1, "lesion": 2}
        self.editor = QuietEditor()
        self.session = AnnotationSession(
            self.agent,
            self.pump,
            Person(author, self.folder),
            self.address,
            self.project,
            labels,
            lambda: None,
            self.editor,
        )
        self.session.failed.connect(self.failures.append)
        self.session.shown.connect(self.shown.append)
        self.addCleanup(self.agent.close)
        ready: list = []
        self.session.refresh(lambda: ready.append(1))
        self.pump.until(lambda: ready)

    def go(self, action, *values):
        """Do it, and wait until another slice is on screen."""
        seen = len(self.shown)
        action(*values)
        self.pump.until(lambda: len(self.shown) > seen or self.failures)
        self.assertEqual(self.failures, [])
        return self.shown[-1]

    def paint(self, value: int) -> np.ndarray:
        """A blot in the slice on screen, through its segmentation."""
        item = self.session.current
        segmentation = self.session.case_nodes.segmentation(item.case)
        labels = segmentation.read(item.box)
        labels[:, 5:9, 3 : 6 + value] = value
        segmentation.write(item.box, labels)
        return labels

    def stored(self, case: str) -> np.ndarray:
        program = (
            "import sys\nfrom alunet.project import Project\n"
            "with Project.open(sys.argv[1], read_only=True) as p:\n"
            "    sys.stdout.buffer.write(p.annotations.read(sys.argv[2]))"
        )
        done = subprocess.run(
            [PYTHON, "-c", program, str(self.root / self.project), case],
            env=self.environment,
            check=True,
            capture_output=True,
        )
        return np.frombuffer(done.stdout, np.uint8).reshape(SHAPE)

    def all_sent(self) -> None:
        """Wait until the engine has all that was handed in."""
        self.pump.until(lambda: self.session.worklist.counts().unsent == 0)
        self.assertEqual(self.failures, [])

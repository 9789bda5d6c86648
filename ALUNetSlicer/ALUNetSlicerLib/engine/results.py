"""What came of the work: the learning curve, whole volumes segmented, the model and the labels as files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ALUNetSlicerLib.engine.agent_process import Agent
from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.engine.jobs import Job, Jobs
from ALUNetSlicerLib.mrml.case_segmentation import load_segmentation
from ALUNetSlicerLib.mrml.curve_chart import Curves, curve_chart
from ALUNetSlicerLib.ports.i18n import tr as _


class Results:
    """Of one project.

    Args:
        agent: with an engine chosen.
        jobs: of the project.
        project: id.
        labels: structure name -> value.
    """

    def __init__(self, agent: Agent, jobs: Jobs, project: str, labels: Mapping[str, int]) -> None:
        self._agent, self._jobs, self._project, self._labels = agent, jobs, project, labels

    def curve(self, done: Callable[[list[dict[str, Any]]], None], failed: Failed) -> None:
        """One point for each finished round; see `CurvePoint` of the engine."""
        self._agent.ask("curve", done, failed, project=self._project)

    def segment(self, case: str, volume: Any, done: Callable[[Any], None], failed: Failed) -> None:
        """Segment a whole volume with the current model into a new segmentation node.

        Args:
            case: of the project.
            volume: its volume node.
            done: gets the vtkMRMLSegmentationNode.
        """

        def predicted(job: Job) -> None:
            if job.state == "done":
                self._agent.ask("fetch", fetched, failed, project=self._project, case=case, what="proposal")
            else:
                failed(job.error or Failure("cancelled", f"The segmentation of {case} was cancelled."))

        def fetched(answer: dict[str, str]) -> None:
            try:
                done(load_segmentation(case, volume, self._labels, Path(answer["file"])))
            except ValueError as error:
                failed(Failure("image", str(error), "Segment it again."))

        self._jobs.start("predict", {"cases": [case]}, predicted, failed)

    def export(self, what: str, ending: str, target: Path, done: Callable[[Path], None], failed: Failed) -> None:
        """Write the model, or all labels, to a zip file.

        Args:
            what: "model" or "labels".
            ending: format of the labels, "nrrd" or "nii.gz"; of no meaning for a model.
            target: the file.
        """

        def ended(job: Job) -> None:
            if job.state == "done":
                self._agent.ask("fetch_result", fetched, failed, project=self._project, job=job.id)
            else:
                failed(job.error or Failure("cancelled", "The export was cancelled."))

        def fetched(answer: dict[str, str]) -> None:
            part = target.with_name(target.name + ".part")
            try:
                shutil.copyfile(answer["file"], part)
                part.replace(target)
            except OSError as error:
                part.unlink(missing_ok=True)
                failed(Failure("disk", f"{target} cannot be written: {error.strerror}.", "Choose another folder."))
                return
            done(target)

        options = {"what": what} | ({"format": ending} if what == "labels" else {})
        self._jobs.start("export", options, ended, failed)


def plot(points: list[dict[str, Any]]) -> Any | None:
    """The learning curve as a chart: Dice of every structure, and their mean, over the labelled slices.

    It is that on the test cases; without any, that on the annotated slices that the model learned from, and says so.

    Args:
        points: see `Results.curve`.

    Returns:
        vtkMRMLPlotChartNode, the same one each time; None where nothing was measured.
    """
    tested = any(map(is_tested, points))
    measured, on = (_("Dice on the test cases"), "dice") if tested else (_("Dice on annotated slices"), "training")
    names = {name: None for point in points for name in point[on]}
    curves = {name: _curve(points, on, name) for name in names}
    return _chart("ALUNet learning curve", measured, curves) if any(curves.values()) else None


def is_tested(point: dict[str, Any]) -> bool:
    """Whether a point of the curve was measured on test cases."""
    return any(dice is not None for dice in point["dice"].values())


def _curve(points: list[dict[str, Any]], on: str, name: str) -> list[tuple[float, float]]:
    known = [(float(point["labelled_slices"]), point[on].get(name)) for point in points]
    return [(slices, float(value)) for slices, value in known if value is not None]


def plot_study(curves: Curves) -> Any:
    """The curves of a simulation as a chart: strategy -> (labelled slices, Dice) of each round."""
    return _chart("ALUNet simulation", _("Dice on the test cases"), curves)


def _chart(title: str, measured: str, curves: Curves) -> Any:
    return curve_chart(title, curves, _("labelled slices"), measured)

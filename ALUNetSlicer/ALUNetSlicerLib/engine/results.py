"""What came of the work: the learning curve, whole volumes segmented, the model and the labels
as files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alunet.schema import (
    DICOM_SEG,
    SEGMENTATION_ENDING,
    CurvePoint,
    JobKind,
    JobState,
    WrittenSegmentations,
)
from ALUNetSlicerLib.engine.agent_process import AgentProcess, about_job
from ALUNetSlicerLib.engine.failure import Failed, Failure
from ALUNetSlicerLib.engine.jobs import JobProgress, JobTracker
from ALUNetSlicerLib.engine.local_files import LocalFiles
from ALUNetSlicerLib.engine.messages import FetchedFile
from ALUNetSlicerLib.mrml.case_segmentation import load_segmentation
from ALUNetSlicerLib.mrml.curve_chart import Curves, curve_chart
from ALUNetSlicerLib.mrml.terminology import hex_colors
from ALUNetSlicerLib.ports.i18n import tr as _

DICE = "dice"
"""The engine's name of the metric that is shown where none is asked for."""
_TITLE = "Dice"


class Results:
    """Of one project.

    Args:
        agent: with an engine chosen.
        jobs: of the project.
        project: id.
        labels: structure name -> value.
        local: writes files of the person on this computer.

    Attributes:
        labels, colors: the structures' values and own colors, by name.
    """

    def __init__(
        self,
        agent: AgentProcess,
        jobs: JobTracker,
        project: str,
        labels: Mapping[str, int],
        local: LocalFiles,
    ) -> None:
        self._agent, self._jobs, self._project, self.labels = agent, jobs, project, labels
        self._local = local
        self.colors: Mapping[str, str] = {}

    def curve(self, done: Callable[[list[CurvePoint]], None], failed: Failed) -> None:
        """One point for each finished round."""
        self._agent.ask("curve", done, failed, project=self._project)

    def segment(self, case: str, volume: Any, done: Callable[[Any], None], failed: Failed) -> None:
        """Segment a whole volume with the current model into a new segmentation node.

        Args:
            case: of the project.
            volume: its volume node.
            done: gets the vtkMRMLSegmentationNode.
        """

        def predicted(job: JobProgress) -> None:
            if job.state == JobState.DONE:
                self._agent.ask(
                    "fetch", fetched, failed, project=self._project, case=case, what="proposal"
                )
            else:
                message = _("The segmentation of {case} was cancelled.").format(case=case)
                failed(job.error or Failure("cancelled", message, about=about_job(JobKind.PREDICT)))

        def fetched(answer: FetchedFile) -> None:
            try:
                done(load_segmentation(case, volume, self.labels, Path(answer.file)))
            except ValueError as error:
                failed(Failure("image", str(error), _("Segment it again."), about="fetch"))

        self._jobs.start(JobKind.PREDICT, {"cases": [case]}, predicted, failed)

    def export(
        self, what: str, ending: str, target: Path, done: Callable[[Path], None], failed: Failed
    ) -> None:
        """Write the model, or all labels, to a zip file.

        Args:
            what: "model" or "labels".
            ending: format of the labels, "seg.nrrd", "nrrd" or "nii.gz"; of no meaning for a
                model.
            target: the file.
        """

        def made(job: JobProgress) -> None:
            self._agent.ask("fetch_result", fetched, failed, project=self._project, job=job.id)

        def fetched(answer: FetchedFile) -> None:
            part = target.with_name(target.name + ".part")
            try:
                shutil.copyfile(answer.file, part)
                part.replace(target)
            except OSError as error:
                part.unlink(missing_ok=True)
                message = _("{file} cannot be written: {why}.").format(
                    file=target, why=error.strerror
                )
                failed(Failure("disk", message, _("Choose another folder."), about="fetch_result"))
                return
            done(target)

        options: dict[str, Any] = {"what": what}
        if what == "labels":
            options["format"] = ending
        if ending == SEGMENTATION_ENDING[1:]:
            options["colors"] = hex_colors(self.labels, self.colors)
        self._jobs.start(JobKind.EXPORT, options, self._then(made, failed), failed)

    def export_dicom(
        self,
        what: str,
        case: str,
        source: Path,
        folder: Path,
        done: Callable[[WrittenSegmentations], None],
        failed: Failed,
    ) -> None:
        """Write the labels of a case as a DICOM SEG object, ``folder/CASE.dcm``.

        Args:
            what: "labels", or "predictions" of the current model.
            case: of the project, that came from DICOM.
            source: folder with its DICOM files; patient and study are read there, on this computer.
        """
        if (why := self._local.missing) is not None:
            failed(why)
            return

        def write(job: JobProgress) -> None:
            self._agent.ask(
                "write_segmentations",
                done,
                failed,
                project=self._project,
                job=job.id,
                source=str(source),
                folder=str(folder),
                **self._local.args(),
            )

        def pack(_predicted: JobProgress | None = None) -> None:
            options = {"what": what, "format": DICOM_SEG, "cases": [case]}
            self._jobs.start(JobKind.EXPORT, options, self._then(write, failed), failed)

        if what == "labels":
            pack()
        else:
            self._jobs.start(JobKind.PREDICT, {"cases": [case]}, self._then(pack, failed), failed)

    @staticmethod
    def _then(
        go_on: Callable[[JobProgress], None], failed: Failed
    ) -> Callable[[JobProgress], None]:
        """What goes on after an export's job, where it was done."""

        def ended(job: JobProgress) -> None:
            if job.state == JobState.DONE:
                go_on(job)
            else:
                message = _("The export was cancelled.")
                failed(job.error or Failure("cancelled", message, about=about_job(job.kind)))

        return ended


def segmentation_file(case: str, folder: Path) -> Path | None:
    """The file that an export of a case as DICOM SEG would replace; None where there is none."""
    file = folder / f"{case}.{DICOM_SEG}"
    return file if file.exists() else None


def plot(
    points: list[CurvePoint],
    metric: str = DICE,
    title: str = _TITLE,
    colors: Mapping[str, str] | None = None,
) -> Any | None:
    """The learning curve as a chart: a metric of every structure, and the mean, over the labeled
    slices.

    It is that on the test cases; without any, that on the annotated slices that the model learned
    from, and says so.

    Args:
        points: see `Results.curve`.
        metric: name, as the engine has it.
        title: of the metric.
        colors: #rrggbb of structures by name, as their segments have them.

    Returns:
        vtkMRMLPlotChartNode, the same one each time; None where nothing was measured.
    """
    tested = any(map(is_tested, points))
    words = _("{metric} on the test cases") if tested else _("{metric} on annotated slices")
    known = [(float(point.labelled_slices), measured(point, tested, metric)) for point in points]
    names = {name: None for _slices, values in known for name in values}
    curves = {
        name: [(slices, values[name]) for slices, values in known if name in values]
        for name in names
    }
    if not any(curves.values()):
        return None
    return _chart("ALUNet learning curve", title, words, curves, colors or {})


def is_tested(point: CurvePoint) -> bool:
    """Whether a point of the curve was measured on test cases."""
    return bool(measured(point, True))


def measured(point: CurvePoint, tested: bool, metric: str = DICE) -> dict[str, float]:
    """What was measured in a round: structure -> value, those alone that have one.

    Args:
        point: see `Results.curve`; an earlier engine gives Dice alone.
        tested: on the test cases, or else on the annotated slices.
        metric: its name.
    """
    new, old = (point.metrics, point.dice) if tested else (point.training_metrics, point.training)
    values = (new or {DICE: old}).get(metric, {})
    return {name: value for name, value in values.items() if value is not None}


def plot_study(curves: Curves) -> Any:
    """The curves of a simulation as a chart: strategy -> (labeled slices, Dice) of each round."""
    return _chart("ALUNet simulation", _TITLE, _("{metric} on the test cases"), curves, {})


def _chart(name: str, title: str, words: str, curves: Curves, colors: Mapping[str, str]) -> Any:
    measure = words.format(metric=title)
    return curve_chart(name, title, curves, _("labeled slices"), measure, colors)

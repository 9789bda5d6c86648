"""The section "Results": how good the model is, what it cost, and what can be taken home."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from alunet.schema import DICOM_SEG, SEGMENTATION_ENDING, CurvePoint, WrittenSegmentations
from ALUNetSlicerLib.annotate.session import AnnotationSession
from ALUNetSlicerLib.engine.messages import ProjectStatus
from ALUNetSlicerLib.engine.results import Results, is_tested, measured, plot, segmentation_file
from ALUNetSlicerLib.mrml.dicom_source import source_folder
from ALUNetSlicerLib.mrml.terminology import hex_colors
from ALUNetSlicerLib.panel.binding import Section, allow, entitle, fill
from ALUNetSlicerLib.panel.units import clock
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Desktop
from ALUNetSlicerLib.shell.workspace import Workspace

_MODEL_SEG = "model"
FORMATS = [
    (_("3D Slicer: names and colors"), SEGMENTATION_ENDING[1:]),
    ("NIfTI", "nii.gz"),
    ("NRRD", "nrrd"),
    (_("DICOM SEG: labels of the case"), DICOM_SEG),
    (_("DICOM SEG: the model's segmentation"), _MODEL_SEG),
]
"""What labels are exported as, and the key of each form."""


class ResultsSection(Section):
    """See `Panel`."""

    def __init__(self, ui: Any, workspace: Workspace, desktop: Desktop) -> None:
        super().__init__()
        self._ui, self._workspace, self._desktop = ui, workspace, desktop
        self._points: list[CurvePoint] = []
        self._plotted = False
        fill(ui.formatCombo, FORMATS)
        ui.exportLabel.visible = False
        for widget, action in (
            (ui.plotButton, self.plot),
            (ui.segmentButton, self.segment),
            (ui.exportLabelsButton, self.export_labels),
            (ui.exportModelButton, self.export_model),
        ):
            widget.connect("clicked(bool)", lambda *_values, action=action: action())
        ui.formatCombo.connect("currentIndexChanged(int)", lambda *_values: self._show())
        self.hear(workspace.opened, self._opened)
        self.hear(workspace.project_changed, self.refresh)
        self.hear(workspace.engine_changed, self._show)
        self._show()

    def refresh(self) -> None:
        """Ask for the learning curve."""
        results = self._workspace.results
        if results is not None:
            take = partial(self._take, results)
            results.curve(take, self._workspace.failed.emit)
        self._show()

    def plot(self) -> None:
        """Show the learning curve in a plot view, or give its place back."""
        if self._plotted:
            self.close_plot()
            return
        project = self._workspace.project
        chart = plot(self._points, colors=hex_colors(project.labels, project.colors))
        if chart is not None:
            self._desktop.chart(chart)
            self._plotted = True
            self._show()
        else:
            self._desktop.status(_("No Dice was measured in any round."))

    def close_plot(self) -> None:
        """Show the views again that were there before the learning curve."""
        if self._plotted:
            self._plotted = False
            self._desktop.close_chart()
            self._show()

    def segment(self) -> None:
        """Segment a whole case with the current model."""
        case, workspace = self._ui.caseCombo.currentData, self._workspace

        session, results = workspace.session, workspace.results

        def ready(volume: Any) -> None:
            if workspace.session is session:
                results.segment(case, volume, segmented, workspace.failed.emit)

        def segmented(node: Any) -> None:
            self._segmented(session, case, node)

        session.volumes.load(case, ready)

    def export_labels(self) -> None:
        """Write the annotated label maps; as DICOM that of the chosen case."""
        ending = self._ui.formatCombo.currentData
        if ending in (DICOM_SEG, _MODEL_SEG):
            what = "labels" if ending == DICOM_SEG else "predictions"
            self._export_dicom(what, self._ui.caseCombo.currentData)
        else:
            self._export("labels", ending)

    def _export_dicom(self, what: str, case: str) -> None:
        """With patient and study of the images' own DICOM: of Slicer's database, or of a folder."""
        workspace, ask = self._workspace, self._desktop.folder
        known = source_folder(workspace.session.case_nodes.volume(case))
        source = str(known or ask(_("Folder with the DICOM images of {case}").format(case=case)))
        target = ask(_("Folder for the DICOM segmentation")) if source else ""
        there = segmentation_file(case, Path(target)) if target else None
        question = _("{file} is there already. Replace it?").format(file=there)
        if target and (there is None or self._desktop.confirm(question)):
            workspace.results.export_dicom(
                what, case, Path(source), Path(target), self._written, workspace.failed.emit
            )

    def _written(self, written: WrittenSegmentations) -> None:
        files = ", ".join(written.files)
        said = _("✓ {file} is written.").format(file=files)
        self._ui.exportLabel.text = " ".join([said, *written.notes])
        self._ui.exportLabel.visible = True

    def export_model(self) -> None:
        """Write the model."""
        self._export("model", "")

    def _export(self, what: str, ending: str) -> None:
        name = f"{self._workspace.project.id}-{what}.zip"
        target = self._desktop.save_file(_("Export {what}").format(what=what), name)
        if target:
            self._workspace.results.export(
                what, ending, Path(target), self._exported, self._workspace.failed.emit
            )

    def _exported(self, target: Path) -> None:
        self._ui.exportLabel.text = _("✓ {file} is written.").format(file=target)
        self._ui.exportLabel.visible = True

    def _segmented(self, session: AnnotationSession, case: str, node: Any) -> None:
        on_screen = "" if session.current is None else session.current.case
        session.case_nodes.add_result(case, node, on_screen)
        if self._workspace.session is not session:
            session.case_nodes.hide()  # the project was closed meanwhile
            return
        self._ui.exportLabel.text = _('✓ The segmentation "{name}" is in the scene.').format(
            name=node.GetName()
        )
        self._ui.exportLabel.visible = True

    def _opened(self) -> None:
        self.close_plot()
        self._points = []
        self._ui.exportLabel.visible = False
        if self._workspace.jobs is not None:
            self._workspace.jobs.changed.connect(self._show)
        self.refresh()

    def _take(self, results: Results, points: list[CurvePoint]) -> None:
        if results is self._workspace.results:  # not of a project that was closed meanwhile
            self._points = points
            self._show()

    def _show(self, *_values: Any) -> None:
        ui, workspace = self._ui, self._workspace
        missing = "" if workspace.project is not None else _("Open a project first.")
        status = workspace.status
        fill(ui.caseCombo, [(name, name) for name in [*status.cases, *status.test_cases]])
        busy = (
            _("Something is running already.")
            if workspace.jobs is not None and workspace.jobs.current
            else ""
        )
        model = "" if self._points else _("There is no model yet: finish a round.")
        labels = "" if status.labelled else _("No slice is annotated yet.")
        ui.plotButton.text = _("Close the curve") if self._plotted else _("Learning curve")
        allow(
            ui.plotButton,
            _("Show Dice over the labeled slices in Slicer's plot view."),
            missing or model,
        )
        allow(
            ui.segmentButton,
            _("Segment all slices of the case into a new segmentation."),
            missing or model or busy,
        )
        allow(
            ui.exportModelButton,
            _("Write the model as nnU-Net reads it."),
            missing or model or busy,
        )
        lacks = model if ui.formatCombo.currentData == _MODEL_SEG else labels
        allow(ui.exportLabelsButton, _("Write the annotated label maps."), missing or lacks or busy)
        ui.resultsLabel.text = self._line(status)
        entitle(ui.resultsSection, _("Results"))

    def _line(self, status: ProjectStatus) -> str:
        if not status.labelled:
            return _("Nothing yet.")
        words = [
            _("{slices} slices labeled in {time} min").format(
                slices=status.slices, time=clock(60 * status.minutes)
            )
        ]
        for point in self._points[-1:]:
            tested = is_tested(point)
            found = ", ".join(
                f"{name} {dice:.2f}" for name, dice in measured(point, tested).items()
            )
            said = _("Dice: {dice}") if tested else _("Dice on the slices it learned from: {dice}")
            words += [said.format(dice=found)] if found else []
            words += [point.note] if point.note else []
        return " · ".join(words)

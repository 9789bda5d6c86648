"""The section "Next round": train on what is annotated, and get the next slices."""

from __future__ import annotations

from typing import Any

from alunet.schema import JobKind, JobState
from ALUNetSlicerLib.annotate.session import AnnotationSession
from ALUNetSlicerLib.annotate.worklist import OPEN
from ALUNetSlicerLib.engine.jobs import JobProgress
from ALUNetSlicerLib.engine.messages import ProjectStatus
from ALUNetSlicerLib.panel import forecast
from ALUNetSlicerLib.panel.binding import Section, allow, entitle, fill
from ALUNetSlicerLib.panel.units import left
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.shell.workspace import Workspace

RECENT = 3
"""So many rounds say how long they trained."""


class RoundSection(Section):
    """See `Panel`.

    Attributes:
        on_screen: whether the person looks at the panel.
    """

    def __init__(self, ui: Any, workspace: Workspace) -> None:
        super().__init__()
        self._ui, self._workspace = ui, workspace
        self._ended, self._first = "", True
        self.on_screen = False
        for signal, widget, action in (
            ("clicked(bool)", ui.nextRoundButton, self.start),
            ("clicked(bool)", ui.cancelJobButton, self.cancel),
            ("currentIndexChanged(int)", ui.strategyCombo, self._show),
            ("valueChanged(double)", ui.trainForSpin, self._keep_time),
        ):
            widget.connect(signal, lambda *_values, action=action: action())
        self.hear(workspace.engine_changed, self._show)
        self.hear(workspace.project_changed, self._show)
        self.hear(workspace.opened, self._opened)
        self._opened()

    def start(self) -> None:
        """Start the round."""
        options = {
            "strategy": self._ui.strategyCombo.currentData,
            "budget": self._ui.budgetSpin.value,
        }
        minutes, usual = self._ui.trainForSpin.value, self._workspace.status.train_for or 0
        if minutes:
            options["train_for"] = usual if minutes == round(usual / 60, 1) else 60.0 * minutes
        self._workspace.jobs.start(
            JobKind.ROUND, options, self._round_ended, self._workspace.failed.emit
        )

    def cancel(self) -> None:
        """End what runs."""
        self._workspace.jobs.cancel(self._workspace.failed.emit)

    def _round_ended(self, job: JobProgress) -> None:
        words = {
            JobState.DONE: _("The next slices are ready."),
            JobState.CANCELLED: _("Cancelled; nothing annotated is lost."),
        }
        self._ended = words.get(job.state, "")
        self._show()
        session = self._workspace.session
        if job.state == JobState.DONE and session is not None:
            session.refresh(lambda: self._begin(session))

    def _begin(self, session: AnnotationSession) -> None:
        """Show the first slice, where the person looks here and has asked for none."""
        here = self.on_screen and self._workspace.session is session
        if here and session.loader.wanted is None:
            session.next()

    def _opened(self) -> None:
        self._ended = ""
        if self._workspace.jobs is not None:
            self._workspace.jobs.changed.connect(self._show)
            self._workspace.session.changed.connect(self._show)
            self._fill_time()
        self._show()

    # --- how long to train ------------------------------------------------------------------------

    def _fill_time(self) -> None:
        """Give the time that was chosen for the project before, else the project's own."""
        usual = self._workspace.status.train_for or 0
        spin = self._ui.trainForSpin
        blocked = spin.blockSignals(True)
        spin.value = self._workspace.kept("train_for", usual / 60)
        spin.blockSignals(blocked)

    def _keep_time(self) -> None:
        self._workspace.keep("train_for", self._ui.trainForSpin.value)
        self._show()

    def _show_time(self, status: ProjectStatus, first: bool) -> None:
        ui = self._ui
        ui.trainForLabel.visible = ui.trainForSpin.visible = not first
        took = [row.train_seconds for row in status.rounds if row.train_seconds is not None]
        minutes = ", ".join(f"{seconds / 60:.1f}" for seconds in took[-RECENT:])
        ui.recentLabel.visible = bool(took) and not first
        ui.recentLabel.text = _("Recent rounds: {minutes} min").format(minutes=minutes)

    def _show_forecast(self, status: ProjectStatus, first: bool) -> None:
        ui = self._ui
        strategy, minutes = ui.strategyCombo.currentData or "", ui.trainForSpin.value
        found = None if first else forecast.chosen(status.forecast, strategy, minutes)
        ui.forecastLabel.visible = found is not None
        ui.forecastLabel.text = "" if found is None else forecast.words(found)
        ui.forecastLabel.toolTip = "" if found is None else forecast.shorter(found)

    # --- what is shown ----------------------------------------------------------------------------

    def _choices(self, first: bool) -> list[tuple[str, str]]:
        """Titles and names of the engine's strategies; before there is a model, those that need
        none.
        """
        offered = [row for row in self._workspace.strategies if row.first or not first]
        own = [(_("I choose them myself"), "")] if first and offered else []
        return [(row.title, row.name) for row in offered] + own

    def _show(self, *_values: Any) -> None:
        ui, workspace = self._ui, self._workspace
        first = not workspace.status.rounds
        fill(ui.strategyCombo, self._choices(first))
        if first != self._first:
            self._first = first
            ui.strategyCombo.setCurrentIndex(0)
        self._show_time(workspace.status, first)
        self._show_forecast(workspace.status, first)
        ui.nextRoundButton.text = _("Suggest the first slices") if first else _("Next round")
        missing = workspace.missing()
        if not missing and not ui.strategyCombo.count:
            missing = _("The engine has not said yet which strategies it has.")
        elif not missing and first and not ui.strategyCombo.currentData:
            missing = _('Show a slice in the Red view and click "Add slice shown".')
        allow(
            ui.nextRoundButton,
            _("Train on what is annotated, and suggest the next slices."),
            missing,
        )
        ui.missingLabel.text = missing or self._batch_done() or self._ended
        ui.missingLabel.visible = bool(ui.missingLabel.text)
        job = workspace.jobs.current if workspace.jobs is not None else None
        ui.jobBox.visible = job is not None
        if job is not None:
            self._show_job(job)
        entitle(ui.roundSection, _("Next round"), self._words(job) if job is not None else "")

    def _batch_done(self) -> str:
        """What is next, where the batch has no open slice any more."""
        worklist = self._workspace.session.worklist
        counts = worklist.counts()
        return _("Every slice of this batch is done.") if counts.settled == counts.all > 0 else ""

    def _show_job(self, job: JobProgress) -> None:
        ui = self._ui
        ui.jobProgress.setRange(0, 1000 if job.total else 0)
        ui.jobProgress.setValue(round(1000 * job.done / job.total) if job.total else 0)
        ui.jobLabel.text = self._words(job)
        ui.missingLabel.visible = False
        free = [item for item in self._workspace.session.worklist if item.status in OPEN]
        ui.meanwhileLabel.text = (
            _("You can go on annotating: {count} slices are ready.").format(count=len(free))
            if free
            else _("No slice is left to annotate until this is done.")
        )

    def _words(self, job: JobProgress) -> str:
        phases = {
            "plan": _("planning"),
            "preprocess": _("preparing images"),
            "read images": _("reading images"),
            "refresh labels": _("reading labels"),
            "time a step": _("timing a step"),
            "train": _("training"),
            "evaluate": _("testing"),
            "score": _("looking at all slices"),
            "embed": _("comparing slices"),
            "query": _("choosing slices"),
            "predict": _("segmenting"),
            "map": _("measuring uncertainty"),
            "export": _("writing"),
        }
        if job.state == JobState.QUEUED:
            return job.waiting or _("starting")  # the engine says whom it waits for
        phase = job.phase.partition(":")[0]
        parts = [phases.get(phase, phase) or _("starting")]
        counted = {"epochs": _(", epoch {number} of {all}"), "steps": _(", step {number} of {all}")}
        if job.unit in counted:
            parts[0] += counted[job.unit].format(number=round(job.done), all=round(job.total))
        if job.dice is not None:
            parts.append(_("Dice {dice:.2f}").format(dice=job.dice))
        return " · ".join([*parts, *filter(None, [left(job.seconds_left, job.done, job.total)])])

"""The section "Project": begin one or open one, and add cases."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from alunet.schema import FolderListing
from ALUNetSlicerLib.engine.case_upload import UploadProgress, free_name
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.engine.messages import ProjectWithStatus, TransferNews
from ALUNetSlicerLib.panel.binding import Section, allow, disable_rows, entitle, fill
from ALUNetSlicerLib.panel.new_project import NewProject, unit_words
from ALUNetSlicerLib.panel.units import left
from ALUNetSlicerLib.panel.volumes import VolumeList
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Desktop
from ALUNetSlicerLib.shell.workspace import Workspace


def upload_words(number: int, count: int, news: TransferNews | None = None) -> str:
    """How far the cases are that are being added."""
    case = _("case {number} of {count}").format(number=number, count=count)
    if news is None:
        return _("Sending {case}…").format(case=case)
    if news.phase == "wait":
        return _("Waiting with {case}. {why}").format(case=case, why=news.waiting).strip()
    phases = {
        "checksum": _("Reading {case}"),
        "upload": _("Sending {case}"),
        "check": _("Checking {case}"),
        "import": _("Copying {case}"),
    }
    parts = [phases.get(news.phase, "{case}").format(case=case)]
    if news.total:
        parts.append(f"{100 * news.done / news.total:.0f} %")
    return " · ".join([*parts, *filter(None, [left(news.seconds_left, news.done, news.total)])])


_MOST_NAMED = 12


def summary_of(names: list[str], found: FolderListing) -> str:
    """What a folder gives, and what is left out and why, for a person to agree to.

    Args:
        names: of the cases.
    """
    lines = [_("Cases that are sent: {names}").format(names=_first(names))]
    if any(case.label for case in found.cases):
        lines.append(_("Labels beside the images are not sent."))
    if found.left_out:
        lines.append(_("Left out:"))
        said = [f"{PurePath(each.file).name}: {each.reason}" for each in found.left_out]
        lines += said[:_MOST_NAMED]
        more = len(said) - _MOST_NAMED
        lines += [_("{count} more files").format(count=more)] if more > 0 else []
    return "\n".join(lines)


def _first(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    words = [_("{count} more").format(count=more)] if more > 0 else []
    return ", ".join([*names[:_MOST_NAMED], *words])


class ProjectSection(Section):
    """See `Panel`."""

    def __init__(self, ui: Any, workspace: Workspace, desktop: Desktop) -> None:
        super().__init__()
        self._ui, self._workspace, self._desktop = ui, workspace, desktop
        self.volumes = VolumeList(ui, workspace, desktop, self._show)
        self._sending = ""
        self._closed: dict[str, str] = {}
        self._form = NewProject(ui, workspace, self._show)
        for signal, widget, action in (
            ("toggled(bool)", ui.newButton, self._begin),
            ("clicked(bool)", ui.openButton, self.open),
            ("currentIndexChanged(int)", ui.projectCombo, self._show),
            ("clicked(bool)", ui.createButton, self.create),
            ("clicked(bool)", ui.addVolumesButton, self.add_volumes),
            ("clicked(bool)", ui.addFolderButton, self.add_folder),
            ("clicked(bool)", ui.cancelAddButton, self.cancel),
        ):
            widget.connect(signal, lambda *_values, action=action: action())
        self.hear(workspace.engine_changed, self._engine_changed)
        self.hear(workspace.opened, self._opened)
        self.hear(workspace.project_changed, self._show)
        self._online = False
        self._show()

    # --- begin and open ---------------------------------------------------------------------------

    def _begin(self) -> None:
        """Open the form, or close it."""
        self.volumes.fill()
        if self._form.is_open:
            self._form.begin(self.volumes.guess_channels())
        self._show()

    def create(self) -> None:
        """Make the project that the form names, open it, and send the ticked volumes."""
        groups = self._groups()
        self._form.create(lambda: self._created(groups))

    def _created(self, groups: list[tuple[str, list[Any]]]) -> None:
        self._ui.newButton.checked = False
        self._list()
        if groups and self.volumes.agreed():
            self._send(groups)

    def open(self) -> None:
        """Open the project that is chosen."""
        workspace = self._workspace
        workspace.open(self._ui.projectCombo.currentData, lambda: workspace.session.pick_up())

    def _engine_changed(self) -> None:
        online = self._workspace.state == "online"
        if online and not self._online:
            self._list()
        self._online = online
        self._form.suggest_preset()
        self._show()

    def _list(self) -> None:
        self._workspace.projects(self._listed)

    def _listed(self, projects: list[ProjectWithStatus]) -> None:
        here = self._workspace.place.to
        recent = [known.id for known in self._workspace.recent.all() if known.to == here]
        projects = sorted(
            projects,
            key=lambda row: (
                row.problem is not None,
                recent.index(row.id) if row.id in recent else len(recent),
            ),
        )
        combo, opened = self._ui.projectCombo, self._workspace.project
        fill(combo, [(project.name, project.id) for project in projects])
        why = [
            "" if row.problem is None else str(Failure.of_problem(row.problem)) for row in projects
        ]
        disable_rows(combo, why)
        self._closed = {row.id: text for row, text in zip(projects, why, strict=True) if text}
        if opened is not None:
            combo.setCurrentIndex(combo.findData(opened.id))
        self._show()

    def _opened(self) -> None:
        self._sending = ""
        if self._workspace.project is not None:
            self._list()  # it may have been made elsewhere: by a script, by another person
        self.volumes.fill()
        self._show()

    # --- cases ------------------------------------------------------------------------------------

    def fill_volumes(self) -> None:
        """The scene has other volumes."""
        self.volumes.fill()
        self._show()

    def _groups(self) -> list[tuple[str, list[Any]]]:
        """The cases that the ticked volumes make."""
        project = self._workspace.project
        if self._form.is_open or project is None:
            return self.volumes.groups(len(self._form.channels), [])
        return self.volumes.groups(len(project.channels), self._names())

    def _names(self) -> list[str]:
        status = self._workspace.status
        return [*status.cases, *status.test_cases, *status.removed]

    def add_volumes(self) -> None:
        """Send the ticked volumes; another project's only where the person agrees."""
        if self.volumes.agreed():
            self._send(self._groups())

    def add_folder(self) -> None:
        """List the cases of a folder, and send those that a person agrees to."""
        folder = self._desktop.folder(_("Folder with images or DICOM"))
        if folder:
            self._read(Path(folder), "")

    def _read(self, folder: Path, series: str) -> None:
        self._looked(0)
        session = self._workspace.session
        self._workspace.local_files.read_folder(
            folder,
            len(self._workspace.project.channels),
            series,
            lambda files: self._looked(files) if self._workspace.session is session else None,
            lambda found: self._listed_folder(folder, found, session),
            lambda why: self._not_read(why, session),
        )

    def _not_read(self, why: Failure, session: Any) -> None:
        if self._workspace.session is session:
            self._sending = ""
            self._show()
        if why.code != "cancelled":
            self._workspace.failed.emit(why)

    def _looked(self, files: int) -> None:
        self._sending = _("Reading the folder: {count} files…").format(count=files)
        self._show()

    def _listed_folder(self, folder: Path, found: FolderListing, session: Any) -> None:
        """Ask for the series where there are several, else for consent; where another project was
        opened meanwhile, nothing is sent.
        """
        if self._workspace.session is not session:
            return
        self._sending = ""
        self._show()
        if found.choices:
            rows = [choice.label for choice in found.choices]
            row = self._desktop.choose(_("Which series is to be annotated?"), rows)
            if row >= 0 and self._workspace.session is session:
                self._read(folder, found.choices[row].key)
            return
        taken, groups = self._names(), []
        for case in found.cases:
            name = free_name(case.name, taken)
            taken.append(name)
            groups.append((name, [Path(file) for file in case.images]))
        agreed = self._desktop.confirm(summary_of([name for name, _files in groups], found))
        if agreed and self._workspace.session is session:
            self._send(groups)

    def cancel(self) -> None:
        """Stop reading or sending."""
        self._workspace.local_files.cancel()
        if self._workspace.case_upload is not None:
            self._workspace.case_upload.cancel()

    def _send(self, groups: list[tuple[str, list[Any]]]) -> None:
        self._sending = upload_words(1, len(groups))
        self._show()
        self._workspace.add_volumes(
            groups, lambda name: None, self._sent, self._not_sent, self._tell
        )

    def _tell(self, news: UploadProgress) -> None:
        self._sending = upload_words(news.number, news.count, news.news)
        self._show()

    def _sent(self) -> None:
        self._sending = ""
        self.fill_volumes()

    def _not_sent(self, why: Failure) -> None:
        self._workspace.refresh(self._sent)
        if why.code != "cancelled":
            self._workspace.failed.emit(why)

    # --- what is shown ----------------------------------------------------------------------------

    def _show(self, *_values: Any) -> None:
        ui, workspace = self._ui, self._workspace
        offline = "" if workspace.state == "online" else _("Connect the engine first.")
        allow(ui.newButton, _("Begin a project."), offline)
        nothing = "" if ui.projectCombo.count else _("There is no project on this engine yet.")
        allow(
            ui.projectCombo,
            _("Projects on this engine; those you opened last come first."),
            offline or nothing,
        )
        closed = self._closed.get(ui.projectCombo.currentData, "")
        allow(
            ui.openButton, _("Open the project chosen on the left."), offline or nothing or closed
        )
        ui.newBox.visible = self._form.is_open
        count = len(self._groups()) if self._form.is_open else 0
        ui.createButton.text = (
            _("Create, add {count} cases").format(count=count) if count else _("Create")
        )
        allow(ui.createButton, _("Make the project on the engine."), offline or self._form.lacks())
        ui.structuresPreview.text = self._form.preview()
        self._show_cases(offline)
        ui.projectLabel.text = self._line()
        entitle(
            ui.projectSection, _("Project"), workspace.project.name if workspace.project else ""
        )

    def _show_cases(self, offline: str) -> None:
        ui, workspace = self._ui, self._workspace
        ui.casesBox.visible = workspace.project is not None and not self._form.is_open
        ui.volumesBox.visible = workspace.project is not None or self._form.is_open
        ui.sendLabel.text, ui.sendLabel.visible = self._sending, bool(self._sending)
        ui.cancelAddButton.visible = bool(self._sending)
        groups = self._groups()
        self._show_groups(groups)
        if workspace.project is None:
            return
        busy = _("Cases are being sent.") if self._sending else ""
        nothing = "" if groups else _("Load volumes into Slicer and tick them.")
        allow(
            ui.addVolumesButton,
            _("Send the ticked volumes to the engine as cases."),
            offline or busy or nothing,
        )
        allow(
            ui.addFolderButton,
            _("Images and DICOM series of a folder become cases."),
            offline or busy,
        )

    def _show_groups(self, groups: list[tuple[str, list[Any]]]) -> None:
        """Say which volumes make a case, where it takes several."""
        ui, project = self._ui, self._workspace.project
        form = project is None or self._form.is_open
        channels = self._form.channels if form else project.channels
        several = [
            f"{name}: " + ", ".join(node.GetName() for node in nodes) for name, nodes in groups
        ]
        ui.groupingLabel.visible = len(channels) > 1
        ui.groupingLabel.text = _("Cases of {channels}: ").format(
            channels=" + ".join(channels)
        ) + "; ".join(several)

    def _line(self) -> str:
        project = self._workspace.project
        if project is None:
            return _("No project is open.")
        return _("{cases} cases, {slices} slices labeled, {structures} · {unit}").format(
            cases=len(self._names()) - len(self._workspace.status.removed),
            slices=project.status.slices,
            structures=", ".join(name for name, value in project.labels.items() if value),
            unit=unit_words(project.status.unit),
        )

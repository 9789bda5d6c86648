"""Parts of the panel by themselves: the installation, folders of images, several projects, what
is cancelled.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import slicer
from engines import PACKAGES, PYTHON, another_version, serve, stop
from panel_case import PanelCase
from pip_case import TINY, make_slow_source, make_wheel

from alunet.schema import API
from ALUNetSlicerLib.install import packages
from ALUNetSlicerLib.install.installer import Installer
from ALUNetSlicerLib.mrml.volume_file import write_volume
from ALUNetSlicerLib.panel.binding import TITLE_LENGTH, entitle
from ALUNetSlicerLib.ports import qt_ports
from ALUNetSlicerLib.shell import assembly, sample_data
from ALUNetSlicerLib.shell.workspace import Workspace


class EngineTest(PanelCase):
    """First use, with a real pip and small packages made here."""

    def open(self) -> None:
        self.wheels, self.resources, self.source = (
            self.folder / name for name in ("wheels", "resources", "source")
        )
        for folder in (self.wheels, self.resources, self.source):
            folder.mkdir(exist_ok=True)
        make_wheel(self.wheels, "alunetsmall")
        make_slow_source(self.source)
        self.want("alunetsmall", f"slowone @ {self.source.as_uri()}")
        (self.resources / "constraints.txt").write_text("", encoding="utf-8")
        pip = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": self.wheels.as_uri(),
        }
        small = partial(Installer, base={**os.environ, **pip}, resources=self.resources, sizes=TINY)
        patched = patch.object(assembly, "Installer", small)
        patched.start()
        self.addCleanup(patched.stop)
        super().open()

    def want(self, *requirements: str) -> None:
        (self.resources / "requirements.txt").write_text(
            "\n".join(requirements) + "\n", encoding="utf-8"
        )

    def begin(self) -> None:
        """As on a computer that has no engine."""
        self.widget.cleanup()
        qt_ports.QtSettings().set("python", "")
        self.open()

    def test_installed_by_click_after_a_cancelled_attempt_and_removed(self):
        self.begin()
        ui = self.ui
        self.click("localRadio")
        self.assertIn("Install the engine first", ui.connectButton.toolTip)
        self.assertIn("to download", ui.installLabel.text)
        self.assertTrue(ui.installLog.isHidden())
        self.choose("computeCombo", "cpu")
        self.click("installButton")
        self.until((self.source / "pids").exists)
        self.assertTrue(ui.installButton.isHidden())
        self.click("installCancelButton")
        self.assertIn("was stopped", ui.installLabel.text)
        self.assertEqual(ui.installButton.text, "Try again")
        self.assertFalse(ui.installLog.isHidden(), "what pip said can be read")
        (self.source / "quick").touch()
        with patch.object(Workspace, "choose", autospec=True) as chosen:
            # an engine of one small package cannot run
            self.click("installButton")
            self.until(lambda: chosen.called)
        self.assertEqual(chosen.call_args.args[1].to, "local")
        self.assertTrue(ui.installBox.isHidden())
        self.click("manageButton")
        self.assertIn("is installed in", ui.installLabel.text)
        self.assertEqual(ui.installButton.text, "Install again")
        self.answers.agrees = False
        self.click("removeButton")
        self.assertEqual(ui.installButton.text, "Install again")
        self.answers.agrees = True
        self.click("removeButton")
        self.until(lambda: ui.installButton.text == "Install")
        self.assertIn("removed from", self.answers.asked[-1])
        self.assertFalse(ui.connectButton.enabled)

    def test_an_environment_that_is_there_already(self):
        self.begin()
        ui = self.ui
        self.answers.file_answer = str(self.folder / "no-python")
        self.click("existingButton")
        self.until(lambda: "✗" in ui.testLabel.text)
        self.assertIn("no-python", ui.testLabel.text)
        self.answers.file_answer = PYTHON
        self.click("existingButton")
        self.until(lambda: "✓" in ui.testLabel.text, 120)
        self.assertTrue(ui.connectButton.enabled)
        self.click("manageButton")
        self.assertIn(PYTHON, ui.installLabel.text)
        self.click("removeButton")
        self.assertIn("to download", ui.installLabel.text)

    def test_an_agent_of_another_version_is_one_line_that_says_what_to_update(self):
        self.widget.cleanup()
        with patch.object(packages, "agent_environment", lambda: another_version(API - 1)):
            self.open()
        self.click("remoteRadio")
        self.type("addressEdit", self.address)
        self.type("tokenEdit", self.token)
        self.click("connectButton")
        self.until(lambda: self.workspace.outdated)
        said = self.ui.engineStateLabel.text
        self.assertIn(
            f"The viewer speaks version {API} of the contract, ALUNet in {PACKAGES}", said
        )
        self.assertIn(f"version {API - 1}. Update ALUNet in {PACKAGES}", said)
        self.assertIn("another version", self.ui.engineSection.text)

    def test_an_engine_of_another_version_is_one_line_too_and_goes_with_the_update(self):
        def replace(api: int) -> None:
            stop(service)
            again, *_ = serve(root, port, api=api)
            self.addCleanup(stop, again)

        root = self.folder / "another"
        service, self.address, self.token = serve(root, api=API - 1)
        port = int(self.address.rsplit(":", 1)[1])
        self.click("remoteRadio")
        self.type("addressEdit", self.address)
        self.type("tokenEdit", self.token)
        self.click("connectButton")
        self.until(lambda: self.workspace.outdated)
        said = self.ui.engineStateLabel.text
        self.assertIn(f"The engine (127.0.0.1) speaks version {API - 1} of the contract", said)
        self.assertIn("Update ALUNet there (127.0.0.1) and start its service anew.", said)
        replace(API)
        self.until(lambda: self.workspace.state == "online")
        self.assertFalse(self.workspace.outdated)
        self.assertIn("Ready", self.ui.engineStateLabel.text)


class ProjectTest(PanelCase):
    def test_sections_fold_and_stay_as_a_person_left_them(self):
        self.fold("engineSection")
        self.connect_folded()
        self.assertFalse(self.ui.projectSection.collapsed, "it has become useful")
        self.fold("projectSection")
        self.fold("annotateSection")
        self.fold("roundSection")
        self.fold("resultsSection")
        self.workspace.engine_changed.emit()
        folded = [
            getattr(self.ui, f"{name}Section").collapsed
            for name in ("project", "annotate", "round", "results")
        ]
        self.assertEqual(folded, [True, False, False, False])
        self.assertIn("Open a project", self.ui.doneButton.toolTip)

    def test_no_title_is_so_long_that_the_panel_grows(self):
        """A long name, or how far a round is; the tooltip has what is cut."""
        section = self.ui.roundSection
        entitle(section, "Next round")
        self.assertEqual((section.text, section.toolTip), ("Next round", ""))
        detail = "training, step 32 of 58 · Dice 0.73 · less than a minute left"
        entitle(section, "Next round", detail)
        self.assertEqual(section.text, "Next round: training, step 32 of 58 · Dice 0.73 · less…")
        self.assertLessEqual(len(section.text), TITLE_LENGTH)
        self.assertEqual(section.toolTip, f"Next round: {detail}")
        self.connect()
        for name in ("engine", "project", "annotate", "round", "results"):
            self.assertLessEqual(len(getattr(self.ui, f"{name}Section").text), TITLE_LENGTH)

    def test_the_training_suits_the_device_of_the_engine(self):
        ui, workspace = self.ui, self.workspace
        self.assertEqual(ui.presetCombo.currentData, "cpu")
        self.connect()
        workspace.health = replace(workspace.health, device="cuda")
        workspace.engine_changed.emit()
        self.assertEqual(ui.presetCombo.currentData, "gpu")
        self.click("newButton")
        self.choose("presetCombo", "quick")
        workspace.health = replace(workspace.health, device="cpu")
        workspace.engine_changed.emit()
        self.assertEqual(ui.presetCombo.currentData, "quick", "what a person chose stays")

    def test_a_proxy_in_the_way_is_named_and_can_be_gone_around(self):
        proxy = {"https_proxy": "http://ann:secret@127.0.0.1:1", "no_proxy": "", "NO_PROXY": ""}
        with patch.dict(os.environ, proxy):
            self.widget.cleanup()
            self.open()
            ui = self.ui
            self.click("remoteRadio")
            self.type("addressEdit", "https://engine.invalid")
            self.type("tokenEdit", "a token")
            self.click("testButton")
            self.until(lambda: "does not answer" in ui.testLabel.text)
        self.assertIn("The proxy http://127.0.0.1:1 (HTTPS_PROXY)", ui.testLabel.text)
        self.assertIn("a box in the panel", ui.testLabel.text)
        self.assertNotIn("secret", ui.testLabel.text)
        self.click("directCheck")
        self.click("testButton")
        self.until(lambda: "no computer called engine.invalid" in ui.testLabel.text)

    def connect_folded(self) -> None:
        self.fold("engineSection")
        self.connect()

    def test_a_folder_of_images_and_another_project(self):
        ui = self.ui
        self.connect()
        self.create("First")
        self.answers.folder_answer = str(self.folder)
        self.click("addFolderButton")
        self.until(lambda: "holds no" in ui.messageLabel.text)
        images = self.folder / "images"
        images.mkdir()
        for node in sample_data.load()[:2]:
            write_volume(node, images / f"{node.GetName()}.nrrd")
        slicer.mrmlScene.Clear()
        self.answers.folder_answer = str(images)
        self.click("addFolderButton")
        self.until(lambda: self.workspace.status.cases == ["Phantom_1", "Phantom_2"])
        self.create("Second", "T1, T2")
        self.assertEqual(self.workspace.project.channels, ["T1", "T2"])
        self.pairs()
        first = next(row.id for row in self.workspace.recent.all() if row.name == "First")
        self.choose("projectCombo", first)
        self.click("openButton")
        self.until(lambda: self.workspace.project.id == first)
        self.assertIn("2 cases", ui.projectLabel.text)
        self.assertEqual([row.name for row in self.workspace.recent.all()], ["First", "Second"])

    def test_a_project_that_cannot_be_opened_is_listed_with_its_reason(self):
        place = self.folder / "root" / "ill-0123abcd"
        place.mkdir()
        (place / "project.db").touch()
        self.connect()
        combo = self.ui.projectCombo
        self.until(lambda: combo.count == 1)
        self.assertFalse(self.ui.openButton.enabled)
        self.assertIn("never completed", self.ui.openButton.toolTip)
        self.create("Well")
        self.until(lambda: combo.count == 2)
        self.assertEqual(combo.itemText(0), "Well")
        self.choose("projectCombo", self.workspace.project.id)
        self.assertTrue(self.ui.openButton.enabled)
        self.choose("projectCombo", "ill-0123abcd")
        self.assertFalse(self.ui.openButton.enabled)

    def pairs(self) -> None:
        """Two channels make a case of two volumes; what is not ticked stays out, what was
        cancelled is not sent.
        """
        ui = self.ui
        sample_data.load()
        self.until(lambda: ui.volumesList.count == sample_data.CASES)
        self.assertIn(
            "Phantom_1: Phantom 1, Phantom 2; Phantom_3: Phantom 3, Phantom 4",
            ui.groupingLabel.text,
        )
        self.tick("volumesList", 0, False)
        self.assertIn("Phantom_2: Phantom 2, Phantom 3", ui.groupingLabel.text)
        self.tick("volumesList", 0, True)
        self.click("addVolumesButton")
        self.assertIn("Sending case 1 of 2", ui.sendLabel.text)
        self.click("cancelAddButton")
        self.until(lambda: ui.addVolumesButton.enabled)
        self.assertLess(len(self.workspace.status.cases), 2)
        self.assertEqual(ui.messageLabel.text, "", "who cancels need not be told")

    def test_what_cannot_be_a_case_is_named_and_the_next_goes_on(self):
        ui = self.ui
        self.connect()
        self.create("Some")
        nodes = sample_data.load()
        flat = slicer.util.arrayFromVolume(nodes[1])
        flat[:] = 7
        nodes[1].GetImageData().GetPointData().GetScalars().Modified()
        self.until(lambda: ui.volumesList.count == sample_data.CASES)
        self.assertIn("Phantom 2 – holds labels", ui.volumesList.item(1).text())
        self.tick("volumesList", 1, True)
        self.tick("volumesList", 3, True)
        nodes[3].GetImageData().Initialize()  # it lost its voxels since it was listed
        said = set()
        self.click("addVolumesButton")
        self.until(lambda: said.add(ui.sendLabel.text) or ui.messageLabel.text)
        self.assertIn("Not added (2):\n", ui.messageLabel.text)
        self.assertIn("'Phantom 2': ", ui.messageLabel.text)
        self.assertIn("Phantom 2 holds the value 7 everywhere.", ui.messageLabel.text)
        self.assertIn("'Phantom 4': 'Phantom 4' has no voxels.", ui.messageLabel.text)
        for path in (str(self.folder), ".nrrd", "_0000"):
            self.assertNotIn(path, ui.messageLabel.text, "a file on its way is no name")
        self.until(lambda: self.workspace.status.cases == ["Phantom_1", "Phantom_3"])
        self.assertTrue(any(text.startswith(("Reading", "Sending")) for text in said), said)
        self.until(lambda: ui.addVolumesButton.enabled)
        self.assertIsNone(self.workspace.jobs.current, "an import is no round")

    def test_what_is_another_projects_is_asked_about_once(self):
        ui = self.ui
        self.connect()
        self.create("First")
        self.add_phantoms()
        self.answers.agrees = False
        self.create("Second")
        self.assertEqual(self.workspace.status.cases, [], "nothing is ticked, nothing is asked")
        self.until(lambda: ui.volumesList.count == sample_data.CASES)
        self.assertEqual(ui.volumesList.item(0).text(), "Phantom 1 – a case of First")
        self.assertFalse(ui.addVolumesButton.enabled)
        self.tick("volumesList", 0, True)
        self.click("addVolumesButton")
        self.assertIn(
            "Send these to Second, too? Phantom 1 (a case of First)", self.answers.asked[-1]
        )
        self.assertTrue(ui.sendLabel.isHidden())
        self.answers.agrees = True
        self.click("addVolumesButton")
        self.until(lambda: self.workspace.status.cases == ["Phantom_1"])

    def test_a_job_is_cancelled(self):
        self.connect()
        self.create()
        self.add_phantoms()
        self.choose("strategyCombo", "random")
        self.click("nextRoundButton")
        self.until(lambda: self.workspace.jobs.current is not None)
        self.click("cancelJobButton")
        self.until(lambda: self.workspace.jobs.current is None)
        self.assertIn("Cancelled", self.ui.missingLabel.text)
        self.assertTrue(self.ui.nextRoundButton.enabled)

"""DICOM through the panel: a folder goes in, labels leave as DICOM SEG, the patient stays here."""

from __future__ import annotations

import json
import subprocess
import unittest
from pathlib import Path
from unittest.mock import patch

import numpy as np
import qt
import slicer
from engines import PACKAGES, PYTHON, environment, slow
from panel_case import PanelCase
from scenes import SceneTest, make_volume

from ALUNetSlicerLib.mrml.dicom_source import identity_of, source_folder
from ALUNetSlicerLib.mrml.volume_file import write_volume
from ALUNetSlicerLib.ports import qt_ports

SECRETS = ("Doe^Jane", "secret", "19700101", "20200102")
_MAKE = """
import sys
from pathlib import Path
import numpy as np
import dicom_files as files
folder, voxels = Path(sys.argv[1]), np.load(sys.argv[2])
one = files.slices(voxels, orientation=(0.6, 0.8, 0.0, 0.0, 0.0, -1.0))
other = files.slices(voxels[:3], SeriesNumber=9)
for dataset in other:
    dataset.FrameOfReferenceUID = one[0].FrameOfReferenceUID
files.write(folder / "scan", one)
files.write(folder / "scout", other)
"""
_BACK = """
import json, sys
from pathlib import Path
import numpy as np
import pydicom
from alunet.imaging.dicom.reading import read_dicom_labels
from alunet.imaging.dicom.series import find_series
from alunet.project import Project
with Project.open(Path(sys.argv[1]), read_only=True) as project:
    drawn = project.annotations.read("scan")
    kept = project.cases.dicom("scan")
(series,) = find_series(Path(sys.argv[2]) / "scan").usable
back = read_dicom_labels(Path(sys.argv[3]), series.grid, series.identity)
labels, written = np.maximum.reduce(back.layers), pydicom.dcmread(sys.argv[3])
print(json.dumps({
    "equal": bool(np.array_equal(labels, np.where(drawn == 255, 0, drawn))),
    "voxels": int(np.count_nonzero(labels)),
    "patient": str(written.PatientName),
    "names": [segment.SegmentLabel for segment in written.SegmentSequence],
    "made": written.SegmentSequence[0].SegmentAlgorithmType,
    "uids": kept == series.identity,
}))
"""


def run(program: str, *arguments: Path) -> str:
    """What a program of the engine's Python prints."""
    places = f"{PACKAGES}/Testing:{PACKAGES}"
    done = subprocess.run(
        [PYTHON, "-c", program, *map(str, arguments)],
        env={**environment(), "PYTHONPATH": places},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


class DicomCase(PanelCase):
    """An examination with two series, a SEG of Slicer's own, and hidden files."""

    def setUp(self) -> None:
        super().setUp()
        self.study = self.folder / "study"
        self.study.mkdir()
        np.save(
            self.folder / "v.npy",
            self.generator.integers(-500, 900, (7, 40, 36)).astype(np.int16),
        )
        run(_MAKE, self.study, self.folder / "v.npy")
        (self.study / "._scan.nii.gz").write_bytes(bytes(100))
        (self.study / "heart.seg.nrrd").write_bytes(bytes(100))
        self.connect()
        self.create()

    def add(self) -> None:
        """Add the folder, and take its first series."""
        self.answers.folder_answer, self.answers.row_answer = str(self.study), 0
        self.click("addFolderButton")
        self.until(lambda: self.workspace.status.cases == ["scan"])


class FolderTest(DicomCase):
    def test_what_is_taken_and_what_is_left_out_is_shown_before_anything_is_sent(self):
        self.answers.folder_answer, self.answers.row_answer = str(self.study), -1
        asked = len(self.answers.asked)
        self.click("addFolderButton")
        self.assertIn("Reading the folder", self.ui.sendLabel.text)
        self.until(lambda: len(self.answers.asked) > asked)
        self.assertEqual(
            self.answers.asked[-1], "CT, series 3, 36 x 40 x 7 | CT, series 9, 36 x 40 x 3"
        )
        self.until(lambda: self.ui.addFolderButton.enabled)
        self.answers.row_answer, self.answers.agrees = 0, False
        self.click("addFolderButton")
        self.until(lambda: len(self.answers.asked) > asked + 2)
        said = self.answers.asked[-1]
        self.assertIn("Cases that are sent: scan\n", said)
        self.assertIn("heart.seg.nrrd: a segmentation, no image", said)
        self.assertIn("another series than 'CT, series 3", said)
        self.assertNotIn("._scan", said)
        self.assertEqual(self.workspace.status.cases, [])

    def test_a_mask_beside_an_image_is_no_case(self):
        folder = self.folder / "scene"
        folder.mkdir()
        voxels = self.generator.integers(0, 900, (6, 30, 30)).astype(np.int16)
        mask = np.zeros_like(voxels)
        mask[2:4, 8:20, 8:20] = 1
        for name, content in (("CT", voxels), ("CT-label", mask)):
            write_volume(make_volume(content, np.eye(4), name), folder / f"{name}.nrrd")
        (folder / "._CT.nrrd").write_bytes(bytes(100))
        (folder / "Segmentation.seg.nrrd").write_bytes(bytes(100))
        self.answers.folder_answer = str(folder)
        self.click("addFolderButton")
        self.until(lambda: self.workspace.status.cases == ["CT"])
        self.assertIn("CT-label.nrrd: a label map of CT.nrrd, no image", self.answers.asked[-1])

    def test_a_damaged_file_is_named_and_nothing_is_sent(self):
        (self.study / "scan" / "IM0003").write_bytes(bytes(128) + b"DICM" + bytes(50))
        self.answers.folder_answer = str(self.study / "scan")
        self.click("addFolderButton")
        self.until(lambda: "IM0003 is damaged" in self.ui.messageLabel.text)
        self.assertIn("lacks 1 slice", self.ui.messageLabel.text)
        self.assertTrue(self.ui.addFolderButton.enabled)
        self.assertEqual(self.workspace.status.cases, [])

    def test_reading_is_cancelled(self):
        self.answers.folder_answer = str(self.study)
        self.click("addFolderButton")
        self.click("cancelAddButton")
        self.until(lambda: self.ui.addFolderButton.enabled)
        self.assertTrue(self.ui.messageLabel.isHidden(), "who cancels need not be told")

    def test_without_an_engine_on_this_computer_one_line_says_what_to_do(self):
        place = self.workspace.local_files._place
        with patch.object(
            self.workspace.local_files, "_place", lambda: type(place())("local", python="x")
        ):
            self.answers.folder_answer = str(self.study)
            self.click("addFolderButton")
        self.assertIn("Install it in the section Engine.", self.ui.messageLabel.text)


@slow
class ExportTest(DicomCase):
    def test_a_series_is_annotated_and_leaves_as_seg_with_its_patient(self):
        self.add()
        self.choose("strategyCombo", "spread")
        self.round(3)
        self.pick("worklistTable", 0)
        self.until(lambda: self.shown() >= 0)
        session = self.workspace.session
        for _count in range(3):
            before = self.shown()
            session.paint(self.generator.integers(0, 3, session.current.box.shape, np.uint8))
            self.click("doneButton")
            self.until(lambda before=before: self.shown() != before)
        self.until(lambda: session.worklist.counts().unsent == 0)
        self.until(lambda: self.ui.exportLabelsButton.enabled)
        out = self.folder / "out"
        self.fold("resultsSection")
        self.choose("formatCombo", "dcm")
        self.choose("caseCombo", "scan")
        self.answers.folder_answers = [str(self.study), str(out)]
        self.click("exportLabelsButton")
        self.until(lambda: "is written" in self.ui.exportLabel.text)
        self.assertIn("not annotated", self.ui.exportLabel.text)
        project = self.folder / "root" / self.workspace.project.id
        found = json.loads(run(_BACK, project, self.study, out / "scan.dcm"))
        self.assertGreater(found.pop("voxels"), 0)
        same = {"patient": "Doe^Jane", "names": ["organ", "lesion"], "uids": True}
        self.assertEqual(found, {"equal": True, "made": "MANUAL", **same})
        self.a_folder_without_the_series()
        self.the_model_too(out)
        self.nothing_of_the_patient()

    def the_model_too(self, out: Path) -> None:
        """What the model makes of the whole volume; what is there is not replaced unasked."""
        self.choose("formatCombo", "model")
        self.assertIn("no model yet", self.ui.exportLabelsButton.toolTip)
        self.turn("trainForSpin", 0.1)
        self.round(2)
        self.until(lambda: self.ui.exportLabelsButton.enabled)
        before, self.answers.agrees = (out / "scan.dcm").read_bytes(), False
        self.answers.folder_answers = [str(self.study), str(out)]
        self.click("exportLabelsButton")
        self.assertIn("scan.dcm is there already", self.answers.asked[-1])
        self.assertEqual((out / "scan.dcm").read_bytes(), before)
        self.answers.agrees = True
        self.answers.folder_answers = [str(self.study), str(out)]
        self.ui.exportLabel.text = ""
        self.click("exportLabelsButton")
        self.until(lambda: "is written" in self.ui.exportLabel.text, 120)
        project = self.folder / "root" / self.workspace.project.id
        found = json.loads(run(_BACK, project, self.study, out / "scan.dcm"))
        self.assertEqual((found["patient"], found["made"]), ("Doe^Jane", "AUTOMATIC"))

    def nothing_of_the_patient(self) -> None:
        """Neither in the service's folder, nor in the outbox and the files on their way."""
        for place in ("root", "mine"):
            files = [file for file in (self.folder / place).rglob("*") if file.is_file()]
            self.assertTrue(files)
            content = b"".join(file.read_bytes() for file in files)
            self.assertEqual([text for text in SECRETS if text.encode() in content], [], place)

    def a_folder_without_the_series(self) -> None:
        self.until(lambda: self.ui.exportLabelsButton.enabled)
        self.answers.folder_answers = [str(self.study / "scout"), str(self.folder / "again")]
        self.click("exportLabelsButton")
        self.until(lambda: "does not hold the series" in self.ui.messageLabel.text)
        self.assertEqual(list((self.folder / "again").glob("*")), [])


class Database:
    """What is asked of Slicer's DICOM database, from a folder of files."""

    isOpen = True

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files

    def fileForInstance(self, uid: str) -> str:
        return str(self._files.get(uid, ""))

    def instanceValue(self, uid: str, tag: str) -> str:
        return {"0020,000E": "1.2.3", "0020,0052": "1.2.9"}[tag] if uid in self._files else ""


class DialogTest(unittest.TestCase):
    def test_one_of_several_series_is_chosen_or_none(self):
        desktop, rows = qt_ports.QtDesktop(), ["CT, series 3", "CT, series 9"]

        for action, row in (("accept", 0), ("reject", -1)):
            qt.QTimer.singleShot(
                100, lambda action=action: getattr(qt.QApplication.activeModalWidget(), action)()
            )
            self.assertEqual(desktop.choose("Which?", rows), row)


class VolumeTest(SceneTest):
    """A volume that Slicer's DICOM module loaded carries the UIDs of its images."""

    def volume(self):
        made = make_volume(np.zeros((2, 4, 5), np.int16), np.diag([0.5, 0.7, 2, 1]), "Doe Jane")
        made.SetAttribute("DICOM.instanceUIDs", "1.2.3.1 1.2.3.2")
        return made

    def folder(self) -> Path:
        import tempfile

        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        return Path(made.name)

    def test_its_uids_go_along_with_the_series_where_the_database_knows_it(self):
        volume, folder = self.volume(), self.folder()
        alone = identity_of(volume)
        self.assertEqual((alone.series_uid, alone.instance_uids), ("", ["1.2.3.1", "1.2.3.2"]))
        files = {uid: folder / "a" / uid for uid in alone.instance_uids}
        for file in files.values():
            file.parent.mkdir(exist_ok=True)
            file.touch()
        with patch.object(slicer, "dicomDatabase", Database(files), create=True):
            known = identity_of(volume)
            self.assertEqual((known.series_uid, known.frame_of_reference_uid), ("1.2.3", "1.2.9"))
            self.assertEqual(source_folder(volume), folder / "a")
            files["1.2.3.2"].unlink()
            self.assertIsNone(source_folder(volume), "a file is gone: ask the person")
        self.assertIsNone(source_folder(None))
        self.assertIsNone(identity_of(make_volume(np.zeros((1, 2, 2), np.int16), np.eye(4))))

    def test_what_is_no_uid_is_not_sent(self):
        volume = self.volume()
        volume.SetAttribute("DICOM.instanceUIDs", "1.2.3.1 Doe^Jane")
        self.assertEqual(identity_of(volume).instance_uids, ["1.2.3.1"])

    def test_its_file_holds_voxels_and_geometry_and_no_name(self):
        volume, file = self.volume(), self.folder() / "v.nrrd"
        volume.SetAttribute("PatientName", "Doe^Jane")
        write_volume(volume, file)
        content = file.read_bytes()
        self.assertNotIn(b"Doe", content)
        self.assertNotIn(b"DICOM", content)
        back = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "back")
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(str(file))
        self.assertTrue(storage.ReadData(back))
        self.assertEqual(back.GetSpacing(), volume.GetSpacing())


if __name__ == "__main__":
    unittest.main()

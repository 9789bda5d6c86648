"""Real images with awkward geometries: shown, painted, kept and sent to the engine voxel for
voxel.
"""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer
import vtk
from engine_case import EngineCase
from engines import real_images
from scenes import slice_logic

from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
from ALUNetSlicerLib.mrml.case_segmentation import CaseSegmentation
from ALUNetSlicerLib.mrml.slice_geometry import Box, ijk_to_world
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.mrml.volume_file import write_volume

LABELS = {"background": 0, "one": 1, "two": 2}
SHOWN = 5
"""So many slices along each axis, the first and the last among them."""
REFUSED = {
    "test.mgz": "no image file that can be read",
    "example_nifti2.nii.gz": "NIfTI-2",
    "nan.mha": "NaN",
    "multi_chunk.nii.gz": "component",
    "functional.nii": "4",
    "example4d.nii.gz": "4",
    "img4d_11f.nii.gz": "4",
    "seg4d_11f.nii.gz": "4",
}
"""What the engine does not take, and a word of what it says of it."""


def whole(volume) -> tuple[int, int, int]:
    return tuple(reversed(volume.GetImageData().GetDimensions()))


class GeometryCasesTest(EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.images = real_images("geometry_cases")
        self.project = self.ask(
            "create_project", name="geometry", labels=["one", "two"], channels=["MR"]
        ).id

    def test_every_file_by_way_of_the_engine(self):
        """Sent, fetched, shown, painted and sent again: the voxels and their place stay what
        they are.
        """
        for number, file in enumerate(
            sorted(file for file in self.images.rglob("*") if file.is_file())
        ):
            with self.subTest(file=file.name):
                slicer.mrmlScene.Clear()
                case = f"case{number}"
                answer = self.answer(
                    "add_case", project=self.project, name=case, images=[str(file)]
                )
                if isinstance(answer, Failure):
                    self.assertIn(REFUSED.get(file.name, "none of the refused"), str(answer))
                    self.assertTrue(answer.hint)
                    continue
                self.assertNotIn(file.name, REFUSED)
                image = {"case": case, "what": "images/0", "format": "nrrd"}
                fetched = self.ask("fetch", project=self.project, **image)
                case_nodes = CaseNodes(self.project, LABELS)
                volume = case_nodes.load(case, Path(fetched.file))
                self.as_slicer_reads(file, volume)
                self.shown(volume)
                self.painted(case_nodes.segmentation(case))
                self.sent(volume)

    def as_slicer_reads(self, file: Path, volume) -> None:
        """A person who loads the file itself has the same voxels in the same place."""
        try:
            own = CaseNodes("own", LABELS).load("own", file)
        except ValueError:
            return  # gipl.gz: Slicer has no reader for it
        self.same(own, volume)

    def same(self, one, other) -> None:
        np.testing.assert_array_equal(
            slicer.util.arrayFromVolume(one), slicer.util.arrayFromVolume(other)
        )
        for place in np.ndindex(3, 4):
            self.assertAlmostEqual(
                ijk_to_world(one).GetElement(*place), ijk_to_world(other).GetElement(*place), 3
            )

    def shown(self, volume) -> None:
        logic, shape = slice_logic(), whole(volume)
        view = SliceView(logic)
        for axis, size in enumerate(shape):
            for index in sorted({round(part * (size - 1) / (SHOWN - 1)) for part in range(SHOWN)}):
                view.show(volume, self.box(shape, axis, index))
                self.assertEqual(view.place(), (volume, axis, index))
                self.assert_in_plane(logic.GetSliceNode(), volume, axis, index)

    def assert_in_plane(self, node, volume, axis: int, index: int) -> None:
        """The corners of that voxel slice lie in the view's plane."""
        to_slice = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(node.GetSliceToRAS(), to_slice)
        vtk.vtkMatrix4x4.Multiply4x4(to_slice, ijk_to_world(volume), to_slice)
        column = 2 - axis
        others = [
            size - 1
            for place, size in enumerate(volume.GetImageData().GetDimensions())
            if place != column
        ]
        for corner in np.ndindex(2, 2):
            voxel = [float(bit * size) for bit, size in zip(corner, others, strict=True)]
            voxel.insert(column, float(index))
            self.assertAlmostEqual(to_slice.MultiplyPoint([*voxel, 1.0])[2], 0.0, places=2)

    @staticmethod
    def box(shape, axis: int, index: int) -> Box:
        return Box(
            axis,
            tuple((index, index + 1) if a == axis else (0, size) for a, size in enumerate(shape)),
        )

    def painted(self, segmentation: CaseSegmentation) -> None:
        shape = whole(segmentation.volume)
        expected = np.zeros(shape, np.uint8)
        for axis in range(3):
            box = self.box(shape, axis, int(self.generator.integers(shape[axis])))
            labels = self.generator.integers(0, 3, box.shape).astype(np.uint8)
            segmentation.write(box, labels)
            expected[box.slices] = labels
            np.testing.assert_array_equal(segmentation.read(box), labels)
        for k in range(shape[0]):
            np.testing.assert_array_equal(segmentation.read(self.box(shape, 0, k))[0], expected[k])

    def sent(self, volume) -> None:
        """What the engine gets has the voxels and the place of what is in the scene."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "case.nrrd"
            write_volume(volume, file)
            again = CaseNodes("again", LABELS).load("case", file)
        self.same(again, volume)
        self.assertEqual(
            again.GetImageData().GetScalarType(), volume.GetImageData().GetScalarType()
        )


if __name__ == "__main__":
    unittest.main()

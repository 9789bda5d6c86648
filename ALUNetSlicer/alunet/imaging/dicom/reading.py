"""A file with labels, whatever kind of DICOM object it is."""

from __future__ import annotations

from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.dicom.contours import read_contours
from alunet.imaging.dicom.elements import guarded, is_dicom, read_header, word
from alunet.imaging.dicom.labels import DicomLabels, place_on
from alunet.imaging.dicom.segmentation import read_segmentation
from alunet.imaging.dicom.series import SeriesIdentity
from alunet.imaging.grids import Grid


def read_dicom_labels(
    path: Path, grid: Grid, identity: SeriesIdentity | None = None, threshold: float | None = None
) -> DicomLabels:
    """Read a SEG or RTSTRUCT object on the grid of the image that it belongs to.

    Args:
        path: the file.
        grid: of the image.
        identity: of the image's series, where it is known; an object of another series is refused.
        threshold: see `segmentation.read_segmentation`.

    Raises:
        InputError: it is neither, damaged, of another series, or does not fit the grid.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.", "Check the path.")
    try:
        known = is_dicom(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", "Give a file that you may read."
        ) from error
    if not known:
        raise InputError(f"{path} is no DICOM file.", "Give a SEG or RTSTRUCT object.")
    header = read_header(path, ["Modality"])
    with guarded(path):
        modality = word(header.dataset, "Modality")
    if modality == "RTSTRUCT":
        return read_contours(path, grid, identity)
    labels = read_segmentation(path, threshold, grid)
    _check_identity(labels, identity, path)
    return place_on(labels, grid, str(path))


def _check_identity(labels: DicomLabels, identity: SeriesIdentity | None, path: Path) -> None:
    """Refuse other coordinates; another series will do where the grids agree, checked next."""
    if identity is None or not labels.frame_of_reference_uid or not identity.frame_of_reference_uid:
        return
    if labels.frame_of_reference_uid != identity.frame_of_reference_uid:
        raise InputError(
            f"{path} belongs to other coordinates "
            f"(frame of reference {labels.frame_of_reference_uid}).",
            "Give the image that it belongs to.",
        )

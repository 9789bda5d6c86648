"""What a folder of a person's images holds, and the UIDs that a case of DICOM keeps."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DicomIdentity:
    """What goes to a service of a DICOM series: these UIDs and no other attribute.

    Attributes:
        series_uid: of the series; may be empty where only its images are known.
        instance_uids: of its images.
        frame_of_reference_uid: of the coordinates; may be empty.
    """

    series_uid: str
    instance_uids: list[str]
    frame_of_reference_uid: str = ""


@dataclass(frozen=True)
class FolderCase:
    """A case that the images of a folder make.

    Attributes:
        images: files in channel order; a DICOM file stands for its series.
        label: a label map of the same name, where there is one.
    """

    name: str
    images: list[str]
    label: str | None = None


@dataclass(frozen=True)
class FolderFile:
    """A file that is no case, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class SeriesChoice:
    """One of several DICOM series of an examination: what names it, and what it is."""

    key: str
    label: str


@dataclass(frozen=True)
class FolderListing:
    """What a folder holds.

    Attributes:
        cases: by name; none where a series must be chosen first.
        left_out: files that are neither a case nor a label of one.
        choices: series of one examination, of which one must be chosen.
    """

    cases: list[FolderCase] = field(default_factory=list)
    left_out: list[FolderFile] = field(default_factory=list)
    choices: list[SeriesChoice] = field(default_factory=list)


@dataclass(frozen=True)
class ConvertedImage:
    """An image that was written as one file without loss.

    Attributes:
        dicom: UIDs of the series that it was, where it was DICOM.
    """

    file: str
    dicom: DicomIdentity | None = None


@dataclass(frozen=True)
class WrittenSegmentations:
    """DICOM SEG objects that were written, and what a person should know of them."""

    files: list[str]
    notes: list[str] = field(default_factory=list)

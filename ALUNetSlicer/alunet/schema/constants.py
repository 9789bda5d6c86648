"""What all sides of the contract agree on."""

API = 3
"""Version of the contract; it grows when a client of before would no longer understand."""
PREFIX = "/v1"
PART_BYTES = 8 * 2**20
"""The most that one part of an upload may hold."""
LABEL_DTYPES = ("uint8", "uint16")
"""Voxels of an annotation, little-endian."""
FILE_FORMATS = ("nrrd", "nii.gz")
DICOM_SEG = "dcm"
"""Format of an export of labels that become DICOM SEG objects."""
IMAGE_ENDINGS = (
    ".nii.gz",
    ".nii",
    ".nrrd",
    ".mha",
    ".gipl",
    ".gipl.gz",
    ".png",
    ".tif",
    ".tiff",
    ".bmp",
)
"""Endings of images that are one file, which an engine can import."""
SEGMENTATION_ENDING = ".seg.nrrd"
"""Ending of segmentations of 3D Slicer; never an image."""
TILE, SLICE = "tile", "slice"
UNITS = (TILE, SLICE)
"""What a project asks people for: tiles of the plan's patch, or whole slices."""
EVENT_STREAM = "text/event-stream"
PRESET_PURPOSES = {
    "quick": "a quick look",
    "cpu": "an afternoon on a CPU",
    "gpu": "a GPU, with nnU-Net's own recipe",
    "paper": "the paper's full length, on a GPU",
}
"""Preset of training and scoring -> what it is for."""

"""DICOM in this engine: series as volumes, SEG and RTSTRUCT as labels, SEG out.

`series.find_series` lists the series of a folder, `volume.read_series` reads one,
`reading.read_dicom_labels` reads a SEG or RTSTRUCT object, `export.write_segmentation` writes a SEG
object.

Privacy: kept of a file are the UIDs of series, instances and frame of reference, the modality, the
number of the series, and what describes voxels and their geometry. Echo times, b-values, times and
the like are read to tell images at one place apart; of them the name of a part alone is kept, which
holds a number of the technique and never a time of day. No attribute of a patient, a study, an
institution or a person is read, except by `export`, which copies them from the person's own files
into the SEG object and keeps none.

pydicom and highdicom are imported at first use: importing these modules costs nothing.
"""

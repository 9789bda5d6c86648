"""Slicer's scene: a voxel slice in a view, the labels and nodes of a case, terminology."""

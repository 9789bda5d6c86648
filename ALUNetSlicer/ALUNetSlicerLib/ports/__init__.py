"""A thin layer over Slicer and Qt: what the rest needs of them, and nothing that decides."""

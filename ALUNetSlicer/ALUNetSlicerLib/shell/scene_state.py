"""What of the work belongs to the scene, and is saved with it."""

# No `from __future__ import annotations`: the wrapper reads the annotations of the class.
from slicer.parameterNodeWrapper import parameterNodeWrapper


@parameterNodeWrapper
class SceneState:
    """Where somebody was when the scene was saved.

    Attributes:
        engine, project: which project; empty for none.
        sample: the slice on screen, -1 for none.
    """

    engine: str
    project: str
    sample: int = -1

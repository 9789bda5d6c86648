"""SimpleITK, loaded where an image is first used: that takes a tenth of a second of a processor,
which a status and a round's bookkeeping need not spend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import SimpleITK as sitk
else:

    class _Loaded:
        def __getattr__(self, name: str) -> Any:
            import SimpleITK

            return getattr(SimpleITK, name)

    sitk = _Loaded()

__all__ = ["sitk"]

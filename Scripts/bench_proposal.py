"""A proposal for one slice of a large CT, part of Scripts/bench.py.

The case is made and segmented in processes of their own, so that the peak is that of segmenting:

    python bench_proposal.py make FOLDER SLICES CLASSES
    python bench_proposal.py segment FOLDER SLICES
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_registry import Row, Size, benchmark, cpu_seconds, peak_memory

_SIDE, _GIBIBYTES, _CASE = 512, 2.0, "ct"


@benchmark("proposal", "ct")
def proposal(size: Size) -> list[Row]:
    """One slice of a CT of 512 x 512 x 600, against a plain pass of that slice."""
    rows = []
    for classes in (9, 118):
        with tempfile.TemporaryDirectory() as folder:
            slices = 60 if size.quick else 600
            _child("make", folder, str(slices), str(classes))
            found = json.loads(_child("segment", folder, str(slices)).splitlines()[-1])
        what = f"proposal, 1 of {slices} slices of 512 x 512, {classes - 1} structures"
        ours, plain = found["segment"], found["pass"]
        note = f"{found['all']:.1f} s with opening the model, checking and writing the label map"
        work = found["operations"]
        rows.append(Row(what, ours, plain, ours / plain, 1.5, True, note, None, work))
        peak = found["peak"] / 2**30
        rows.append(Row(f"{what}, memory", peak, _GIBIBYTES, peak, 2, True, "GiB", ours))
    return rows


def _child(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


# --- inside the processes -------------------------------------------------------------------------


def make(folder: Path, slices: int, classes: int) -> None:
    """A planned case with an untrained network: one prepared slice, again and again."""
    import numpy as np
    import SimpleITK as sitk
    import torch

    from alunet.model import child, environment
    from alunet.model.environment import Folders
    from alunet.model.interface import SHIPPED
    from alunet.model.network import Model
    from alunet.model.prepared import open_image, open_mask, read_properties, write_case

    noise = np.random.default_rng(0).normal(size=(4, _SIDE, _SIDE)).astype(np.float32)
    few = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(noise), 3.0)
    sitk.WriteImage(few, str(folder / "few.mha"))
    nnunet, case = folder / "nnunet", {"name": "few", "images": [str(folder / "few.mha")]}
    labels = {"background": 0, **{f"structure {one}": one for one in range(1, classes)}}
    given = {"plan_cases": [case], "cases": [case], "labels": labels, "channels": ["CT"]}
    found = child.run(
        "alunet.loop.steps:prepare",
        {"framework": SHIPPED, "folder": str(nnunet), "dropout": 0.01, **given},
        environment=environment.variables(nnunet, folder, 1),
        log=folder / "log",
    )
    folders, model = Folders(nnunet), Model(nnunet, None, "cpu")
    torch.save(model.network.state_dict(), folder / "weights.pth")
    properties = read_properties(folders, "few")
    shape = (slices, *properties["raw_shape"][1:])
    box = [[0, slices], *properties["bbox_used_for_cropping"][1:]]
    changed = {"raw_shape": shape, "shape_before_cropping": shape, "bbox_used_for_cropping": box}
    changed["grid_shape"] = (slices, *properties["grid_shape"][1:])
    arrays = (
        np.repeat(np.asarray(part[:, :1]), slices, axis=1)
        for part in (open_image(folders, "few"), open_mask(folders, "few"))
    )
    write_case(folders, _CASE, *arrays, {**properties, **changed}, model.patch)
    image = sitk.Image(_SIDE, _SIDE, slices, sitk.sitkUInt8)
    sitk.WriteImage(image, str(folder / f"{_CASE}.mha"), useCompression=True)
    geometry = json.loads(found["geometries"][0])
    geometry |= {"case": _CASE, "raw_shape": shape, "crop": box}
    geometry["grid_shape"] = changed["grid_shape"]
    (folder / "geometry.json").write_text(json.dumps(geometry), encoding="utf-8")


def segment(folder: Path, slices: int) -> dict[str, Any]:
    """Propose a slice as a round does; the times of that and of a plain pass, the peak before."""
    import torch

    from alunet.loop.proposals import segment_slices
    from alunet.model.interface import SHIPPED
    from alunet.model.nnunet import NnUnetModel
    from alunet.model.settings import ScoringSettings
    from alunet.schema import ignore_events

    torch.set_num_threads(1)
    times: list[float] = []
    usual = NnUnetModel.segment

    def timed(self: Any, case: str, wanted: Any = None) -> Any:
        times.append(cpu_seconds(lambda: found.append(usual(self, case, wanted))))
        return found[-1]

    found: list[Any] = []
    NnUnetModel.segment = timed  # type: ignore[method-assign]
    geometry = (folder / "geometry.json").read_text(encoding="utf-8")
    case = {"name": _CASE, "image": str(folder / f"{_CASE}.mha"), "geometry": geometry}
    case |= {"file": str(folder / "proposal.mha"), "slices": [slices // 2]}
    given = (str(folder / "weights.pth"), {"mirroring": False}, "cpu", 1, ignore_events)
    start = time.process_time()
    segment_slices(SHIPPED, str(folder / "nnunet"), [case], *given)
    everything, peak = time.process_time() - start, peak_memory()

    from alunet.model.network import Model
    from bench_model import operations

    model = Model(folder / "nnunet", folder / "weights.pth", "cpu")
    network = model.full_resolution(ScoringSettings(precision="fp32"))
    image = torch.randn(1, 1, *model.patch)
    with torch.inference_mode():
        plain = cpu_seconds(lambda: network(image))
    work = operations(network.network, image)
    again = sum(times) * 2  # the least of three is what counts; the others are no part of a round
    return {
        "segment": times[0],
        "all": everything - again,
        "pass": plain,
        "peak": peak,
        "operations": work,
    }


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        print(json.dumps(segment(Path(sys.argv[2]), int(sys.argv[3]))))

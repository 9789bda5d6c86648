"""The precision follows the processor: never an emulated type, never slower than float32 by more
than the noise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from alunet.loop import Loop, children, preset
from alunet.model import arithmetic, hardware
from alunet.model.arithmetic import FLOAT32, Arithmetic
from alunet.project import Project

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def devices(**environment: str) -> dict:
    """What `alunet devices --json` prints under these environment variables."""
    command = [sys.executable, "-m", "alunet", "devices", "--json", "--device", "cpu"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_processor_without_bfloat16_units_computes_in_float32_and_times_nothing_else():
    found = devices(**AVX2)
    assert (found["training"], found["scoring"]) == ("fp32", "fp32")
    assert not found["seconds"]
    assert "AVX2" in found["reason"]


@pytest.mark.slow
def test_each_limit_of_the_processor_counts_by_itself():
    for name, value in AVX2.items():
        assert devices(**{name: value})["training"] == "fp32"


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ((1.0, 0.5), arithmetic.SCORING),
        ((1.0, 0.97), arithmetic.SCORING),
        ((1.0, 1.05), arithmetic.SCORING),  # noise
        ((1.0, 1.3), FLOAT32),
        ((1.0, 10.0), FLOAT32),
    ],
)
def test_bfloat16_is_rejected_only_where_it_is_clearly_slower(times, chosen):
    seconds: dict[str, float] = {}
    timed = dict(zip((FLOAT32, arithmetic.SCORING), times, strict=True))
    found = arithmetic._unless_slower(
        arithmetic.SCORING, "scoring", lambda *candidate: timed[candidate], seconds
    )
    assert found == chosen
    assert seconds == {"scoring float32": times[0], "scoring bfloat16, channels-last": times[1]}


@pytest.mark.slow
def test_the_same_computer_chooses_the_same_again():
    first, second = devices(), devices()
    for name in ("training", "training_format", "scoring", "scoring_format", "reason"):
        assert first[name] == second[name]


def test_auto_becomes_what_was_chosen_and_a_named_precision_stays():
    found = Arithmetic("here", "cpu", "bf16", "channels_last", "bf16", "contiguous")
    recipe = preset("cpu").computed_with(found)
    assert (recipe.first.precision, recipe.first.memory_format) == ("bf16", "channels_last")
    assert (recipe.scoring.precision, recipe.scoring.memory_format) == ("bf16", "contiguous")
    fixed = replace(preset("cpu"), first=replace(preset("cpu").first, precision="fp32"))
    assert fixed.computed_with(found).first == fixed.first


def test_the_usable_cores_are_the_fewest_that_any_limit_allows(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "_bound_cores", lambda: 8)
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert hardware.usable_cores() == 8
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert hardware.usable_cores() == 8
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert hardware.usable_cores() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert hardware.usable_cores() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert hardware.usable_cores() == 3


def test_the_older_control_groups_are_read_too(monkeypatch, tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    for quota, cores in (("-1", None), ("50000", 1), ("400000", 4)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
        assert hardware._quota(tmp_path) == cores


def test_the_description_names_what_limits_the_processor(monkeypatch):
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    free = hardware.describe_computer("cpu")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert hardware.describe_computer("cpu") != free
    assert "ATEN_CPU_CAPABILITY=avx2" in hardware.describe_computer("cpu")


@pytest.mark.slow
def test_a_project_that_comes_to_another_computer_is_decided_anew_and_says_so(started, tmp_path):
    heard = []
    with Project.open(started) as project, project.fork(tmp_path / "moved") as moved:
        loop = Loop(moved, preset("cpu"), seed=0, threads=1, emit=heard.append)
        here = children.arithmetic(loop)
        assert not heard, "nothing is decided or said twice on one computer"
        moved.settings.arithmetic = {
            **here.to_json(),
            "machine": "elsewhere",
            "training": "unknown",
        }
        assert children.arithmetic(loop).machine == here.machine
        assert moved.settings.arithmetic["training"] != "unknown"
        assert any("elsewhere" in event.data.get("text", "") for event in heard)


@pytest.mark.slow
def test_a_round_records_its_arithmetic(started):
    with Project.open(started) as project:
        record = Loop(project, preset("cpu"), seed=0).rounds()[0]
    assert record.arithmetic["training"] in ("fp32", "bf16")
    assert record.arithmetic["reason"]


@pytest.mark.parametrize("stages", [3, 5, 7])
@pytest.mark.parametrize("patch", [(512, 512), (640, 448), (128, 128), (56, 40), (256, 16)])
def test_a_trial_has_pixels_enough_for_the_lowest_resolution(patch, stages):
    stride = 2**stages
    sides = arithmetic.trial_sides(patch, stride)
    assert all(side % stride == 0 for side in sides)
    assert all(side <= max(extent, stride) for side, extent in zip(sides, patch, strict=True))
    if all(extent >= 2 * stride for extent in patch):
        assert all(side >= 2 * stride for side in sides)


def test_a_network_for_large_slices_is_timed(monkeypatch):
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from torch import nn

    network = PlainConvUNet(
        1,
        8,
        [2] * 8,
        nn.Conv2d,
        3,
        [1] + [2] * 7,
        2,
        2,
        2,
        norm_op=nn.InstanceNorm2d,
        nonlin=nn.LeakyReLU,
        deep_supervision=True,
    )
    monkeypatch.setattr(arithmetic, "_network", lambda nnunet: (network, 1, (512, 512)))
    assert arithmetic.Trial(None, "cpu").training("fp32", "contiguous") > 0

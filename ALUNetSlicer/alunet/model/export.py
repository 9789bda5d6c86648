"""The trained model as a zip file for nnU-Net's own installer: whoever has nnU-Net alone can
predict with it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from alunet.model.classes import fit, known_numbers, numbers_of
from alunet.model.environment import CONFIGURATION, PLANS, Folders
from alunet.model.stored import load_tensors
from alunet.storage.files import atomic_path

TRAINER = "nnUNetTrainer"
"""The stock trainer that builds the network: the dropout modules of ours are in the plan."""

_README = """\
# {name}

A 2D segmentation network, trained with ALUNet on {cases} partly annotated images (round {round}).
Install it with nnU-Net (version 2.8 or newer; no other software is needed), then segment images of
the same kind:

    nnUNetv2_install_pretrained_model_from_zip {file}
    nnUNetv2_predict -d {dataset} -c {configuration} -f 0 -i IMAGES -o SEGMENTATIONS

Name the images CASE_0000{ending}, the further channels CASE_0001{ending} and so on: {channels}.
Labels: {labels}. For images of another format change "file_ending" in dataset.json.
Where it comes from and how well it does on the test cases is in alunet.json. A training can go on
from these weights, but not from the state of the optimizer, which is not here.
"""


def dataset_name(name: str) -> str:
    """nnU-Net's name for the data set of a project: a number from 500 to 999 by its name, to
    meet no other, and it.
    """
    number = 500 + int(hashlib.sha256(name.encode()).hexdigest(), 16) % 500
    return f"Dataset{number}_{re.sub('[^A-Za-z0-9]+', '_', name).strip('_') or 'ALUNet'}"


def export_model(
    nnunet: Path, weights: Path, file: Path, ending: str, mirroring: bool, about: dict[str, Any]
) -> None:
    """Write plan, data set, fingerprint and checkpoint as nnU-Net lays them out; whole, and the
    same bytes each time.

    The ignore label is left out: it is the annotator's, and the network has no output for it. So
    are names and paths of images. The checkpoint holds tensors and plain values alone.

    Args:
        ending: of the images that nnU-Net shall look for.
        mirroring: whether nnU-Net may mirror images while it predicts.
        about: written as alunet.json; `name`, `round` and `cases` (annotated ones) are used here.
    """
    folders, dataset = Folders(nnunet), dataset_name(about["name"])
    stored = load_tensors(weights)
    known = known_numbers(weights, stored)
    described, left = _description(folders, about, ending, known)
    plans = json.loads(folders.plans.read_text(encoding="utf-8")) | {"dataset_name": dataset}
    readme = _README.format(
        **about,
        file=file.name,
        dataset=dataset,
        configuration=CONFIGURATION,
        ending=ending,
        channels=", ".join(described["channel_names"].values()),
        labels=", ".join(f"{value} {label}" for label, value in described["labels"].items()),
    )
    folder = f"{dataset}/{TRAINER}__{PLANS}__{CONFIGURATION}"
    content = {
        "README.md": readme.encode(),
        "alunet.json": _json(about),
        "dataset.json": _json(described),
        "dataset_fingerprint.json": folders.fingerprint.read_bytes(),
        "plans.json": _json(plans),
        "fold_0/checkpoint_final.pth": _checkpoint(
            fit(stored, known, left), plans, described, mirroring
        ),
    }
    with atomic_path(file) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}", (1980, 1, 1, 0, 0, 0)), data)


def _description(
    folders: Folders, about: dict[str, Any], ending: str, known: Sequence[int]
) -> tuple[dict[str, Any], list[int]]:
    """The data set for nnU-Net, and the project's number of each of its classes: the structures
    of now that the model knows.
    """
    dataset = json.loads(folders.dataset_json.read_text(encoding="utf-8"))
    names = [name for name in dataset["labels"] if name != "ignore"]
    pairs = zip(names, numbers_of(dataset), strict=True)
    left = {name: number for name, number in pairs if number in known}
    return {
        "name": about["name"],
        "channel_names": dataset["channel_names"],
        "labels": {name: index for index, name in enumerate(left)},
        "numTraining": about["cases"],
        "file_ending": ending,
        "overwrite_image_reader_writer": dataset["overwrite_image_reader_writer"],
    }, list(left.values())


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _checkpoint(
    weights: Mapping[str, torch.Tensor],
    plans: dict[str, Any],
    dataset: dict[str, Any],
    mirroring: bool,
) -> bytes:
    """What nnU-Net's predictor reads of a checkpoint."""
    checkpoint = {
        "network_weights": dict(weights),
        "init_args": {
            "plans": plans,
            "configuration": CONFIGURATION,
            "fold": 0,
            "dataset_json": dataset,
        },
        "trainer_name": TRAINER,
        "inference_allowed_mirroring_axes": (0, 1) if mirroring else None,
    }
    content = io.BytesIO()
    torch.save(checkpoint, content)
    return content.getvalue()

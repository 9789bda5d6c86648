"""SNOMED CT codes of structures by their names, as far as they are plain."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

TISSUE = ("85756007", "Tissue")
ORGAN = ("123037004", "Body structure")
CHANGED = ("49755003", "Morphologically abnormal structure")
SIDES = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}
SCHEME = "SCT"

_ORGANS = {
    "adrenal gland": "23451007",
    "aorta": "15825003",
    "bladder": "89837001",
    "bone": "272673000",
    "brain": "12738006",
    "breast": "76752008",
    "cerebellum": "113305005",
    "colon": "71854001",
    "duodenum": "38848004",
    "esophagus": "32849002",
    "eye": "81745001",
    "gallbladder": "28231008",
    "heart": "80891009",
    "hippocampus": "5366008",
    "kidney": "64033007",
    "liver": "10200004",
    "lung": "39607008",
    "pancreas": "15776009",
    "prostate": "41216001",
    "rectum": "34402009",
    "small intestine": "30315005",
    "spinal cord": "2748008",
    "spleen": "78961009",
    "stomach": "69695003",
    "thyroid": "69748006",
    "trachea": "44567001",
    "uterus": "35039007",
    "vertebra": "51282000",
}
_TISSUES = {
    "artery": ("51114001", "Artery"),
    "blood vessel": ("59820001", "Blood Vessel"),
    "fat": ("256674009", "Fat"),
    "muscle": ("71616004", "Muscle"),
    "vein": ("29092000", "Vein"),
    "white matter": ("389080008", "White Matter"),
}
_CHANGES = {
    "cyst": ("367643001", "Cyst"),
    "edema": ("79654002", "Edema"),
    "lesion": ("52988006", "Lesion"),
    "mass": ("4147007", "Mass"),
    "metastasis": ("128462008", "Metastasis"),
    "necrosis": ("6574001", "Necrosis"),
    "nodule": ("27925004", "Nodule"),
    "tumor": ("108369006", "Tumor"),
}
_SPELLINGS = {
    "tumour": "tumor",
    "neoplasm": "tumor",
    "cancer": "tumor",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "kidneys": "kidney",
    "lungs": "lung",
    "adrenal": "adrenal gland",
    "urinary bladder": "bladder",
    "gall bladder": "gallbladder",
    "vessel": "blood vessel",
    "vessels": "blood vessel",
    "small bowel": "small intestine",
    "thyroid gland": "thyroid",
}


@dataclass(frozen=True)
class StructureCode:
    """What a structure is, in SNOMED CT: (code, meaning) of category, type, and side if any."""

    category: tuple[str, str]
    type: tuple[str, str]
    side: tuple[str, str] | None = None


def code_for(name: str) -> StructureCode:
    """Return the code of a structure with this name; "Tissue" where the name is not known."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    words = re.sub(r"[\s_.-]+", " ", plain).strip().split(" ")
    side = next((word for word in words if word in SIDES), "")
    rest = " ".join(word for word in words if word != side) if side else " ".join(words)
    rest = _SPELLINGS.get(rest, rest)
    modifier = SIDES.get(side)
    if rest in _ORGANS:
        return StructureCode(ORGAN, (_ORGANS[rest], rest.capitalize()), modifier)
    if rest in _TISSUES:
        return StructureCode(TISSUE, _TISSUES[rest], modifier)
    if rest in _CHANGES:
        return StructureCode(CHANGED, _CHANGES[rest], modifier)
    last = words[-1] if words else ""
    last = _SPELLINGS.get(last, last)
    if last in _CHANGES:  # "liver tumor": what it is counts, where it is stays in the name
        return StructureCode(CHANGED, _CHANGES[last])
    return StructureCode(TISSUE, TISSUE)

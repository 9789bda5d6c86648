"""What a study is: its data, its recipe and its runs; and what may change when the same command
is given again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alunet import query
from alunet.errors import InputError
from alunet.imaging.dataset import DatasetDescription
from alunet.imaging.patients import Patients, by_patient
from alunet.loop import Recipe, preset
from alunet.schema import TILE
from alunet.storage.files import write_json

FOLDS = 5
_VERSION = 1
_GROWING = ("strategies", "rounds", "folds", "seeds")
BY_CASE = "by case"
"""What `Study.fixed` says of a split in which each case is another patient; older studies all
had it.
"""


@dataclass(frozen=True)
class Study:
    """The configuration of a study.

    Attributes:
        fixed: what every run shares and no later call may change: data, labels, split, recipe,
            budget, initial set.
        strategies, rounds, folds, seeds: the runs; later calls may add to them.
    """

    fixed: dict[str, Any]
    strategies: tuple[str, ...]
    rounds: int
    folds: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return str(self.fixed["dataset"]["name"])

    def to_json(self) -> dict[str, Any]:
        """Plain values for `study.json`."""
        runs = {name: getattr(self, name) for name in _GROWING}
        return {"version": _VERSION, "fixed": self.fixed, "runs": runs}

    @classmethod
    def load(cls, file: Path) -> Study:
        """Read `study.json`; raises InputError where it is damaged or of another version."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            runs = content["runs"]
            known = content["version"] == _VERSION
            lists = {name: tuple(runs[name]) for name in _GROWING if name != "rounds"}
            fixed = {
                "split": BY_CASE,
                **content["fixed"],
                "recipe": Recipe.from_json(content["fixed"]["recipe"]).to_json(),
            }
            study = cls(fixed=fixed, rounds=int(runs["rounds"]), **lists)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{file} cannot be read ({error}).", "Use another folder for --out."
            ) from error
        if not known:
            raise InputError(
                f"{file} was written by another version of alunet.", "Use another folder for --out."
            )
        return study


def merge(out: Path, wanted: Study) -> Study:
    """The study in `out` together with the wanted runs.

    Raises:
        InputError: `out` holds something else, or a study with another configuration; the message
            says what differs.
    """
    file = out / "study.json"
    if not file.is_file():
        if out.exists() and (
            not out.is_dir() or any(entry.name != "lock" for entry in out.iterdir())
        ):
            raise InputError(
                f"{out} holds something, but no study.", "Give --out a folder that is new or empty."
            )
        return wanted
    there, now = Study.load(file), json.loads(json.dumps(wanted.fixed))
    played = (out / "runs").exists()
    differences = list(
        _differences(*((fixed if played else _data_part(fixed)) for fixed in (there.fixed, now)))
    )
    if differences:
        raise InputError(
            f"{out} holds a study with another configuration: {'; '.join(differences[:4])}.",
            "Repeat its options to go on, or give another folder for --out.",
        )
    if not played:
        return wanted
    both = {
        name: _union(getattr(there, name), getattr(wanted, name))
        for name in _GROWING
        if name != "rounds"
    }
    return replace(there, rounds=max(there.rounds, wanted.rounds), **both)


def save(out: Path, study: Study) -> None:
    """Write `study.json`, whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "study.json", study.to_json())


def _data_part(fixed: dict[str, Any]) -> dict[str, Any]:
    """What the imported and preprocessed images depend on: all that counts before the first run."""
    kept = {name: fixed[name] for name in ("dataset", "test set")}
    kept["unit"] = fixed.get("unit", TILE)
    return {**kept, "recipe": {name: fixed["recipe"][name] for name in ("dropout", "width")}}


def _union(first: Sequence[Any], second: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys([*first, *second]))


def _differences(there: Any, now: Any, where: str = "") -> Iterable[str]:
    if isinstance(there, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*there, *now]):
            yield from _differences(there.get(key), now.get(key), f"{where} {key}".strip())
    elif there != now:
        yield f"{where} is {_shown(there)} there and {_shown(now)} now"


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)


# --- from options to a study ----------------------------------------------------------------------


def recipe_of(
    name: str, mode: str, epochs: int | None, iterations: int | None, as_published: bool = False
) -> Recipe:
    """The preset, trained on or from scratch, with another length where one is given, or as the
    published code trained.

    Raises:
        InputError: an unknown preset or mode, or a length below 1.
    """
    recipe = replace(preset(name), mode=mode).with_length(epochs, iterations)
    return recipe.as_published() if as_published else recipe


def dataset_identity(description: DatasetDescription) -> dict[str, Any]:
    """What tells one data set from another without opening an image: names, not places."""
    names = "\n".join(name for name, _, _ in description.cases)
    return {
        "name": description.name,
        "number of cases": len(description.cases),
        "case names (hash)": hashlib.sha256(names.encode("utf-8")).hexdigest()[:16],
        "labels": ", ".join(f"{name}={value}" for name, value in description.labels.items()),
        "channels": ", ".join(description.channels),
    }


def folder_name(strategy: str) -> str:
    """A strategy's name as a folder on any system."""
    return re.sub(r"[^A-Za-z0-9._,=-]", "_", strategy)


def check_numbers(
    rounds: int, budget: int, initial: int, jobs: int, seeds: Sequence[int], limit: int | None
) -> None:
    """Raises InputError for numbers that make no study."""
    counts = {"--rounds": rounds, "--budget": budget, "--initial": initial, "--jobs": jobs}
    if limit is not None:
        counts["--limit"] = limit
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} {value} is not possible.", "Give 1 or more.")
    if not seeds:
        raise InputError("There is no seed.", "Give at least one, for instance --seed 0.")
    for seed in seeds:
        if seed < 0:
            raise InputError(f"--seed {seed} is not possible.", "Give 0 or more.")


def check_strategies(strategies: Sequence[str], as_published: bool = False) -> tuple[str, ...]:
    """The strategies in canonical form, each once, or with the options of the published
    experiments' code.

    Raises:
        InputError: there is none, or an unknown one.
    """
    if isinstance(strategies, str):
        raise InputError(
            f"strategies is the text {strategies!r}.", f"Give a list: [{strategies!r}]."
        )
    if not strategies:
        raise InputError(
            "There is no strategy.", "Give at least one, for instance --strategy random."
        )
    spelled = query.as_published if as_published else query.canonical
    return tuple(dict.fromkeys(spelled(strategy) for strategy in strategies))


def splits(
    names: Sequence[str], folds: Sequence[int], patients: Patients | None = None
) -> dict[int, list[str]]:
    """The test cases of each wanted fold, by nnU-Net's own five-fold split of the sorted patients.

    Args:
        names: of the cases.
        folds: wanted.
        patients: of the cases; without, each case is another patient, and the split is nnU-Net's of
            the case names.

    Raises:
        InputError: fewer than 5 patients, no fold, or a fold outside 0..4.
    """
    import numpy as np
    from sklearn.model_selection import KFold

    if not folds:
        raise InputError("There is no fold.", "Give at least one, for instance --fold 0.")
    for fold in folds:
        if not 0 <= fold < FOLDS:
            raise InputError(f"There is no fold {fold}.", f"nnU-Net's folds are 0 to {FOLDS - 1}.")
    groups = by_patient(patients or {name: name for name in names})
    if len(groups) < FOLDS:
        whose = "" if patients is None else f" of {len(groups)} patient{'s' * (len(groups) > 1)}"
        raise InputError(
            f"{len(names)} cases{whose} are too few for {FOLDS} folds.",
            f"Use {FOLDS} or more {'patients' if whose else 'cases'}, or give a labeled test set "
            f"with --test.",
        )
    ordered = np.array(sorted(groups))
    parts = list(KFold(FOLDS, shuffle=True, random_state=12345).split(ordered))
    return {
        fold: sorted(case for name in ordered[parts[fold][1]] for case in groups[str(name)])
        for fold in folds
    }


def check_labelled(description: DatasetDescription, what: str) -> None:
    """Raises InputError unless every case has a reference label: the simulated annotator needs
    them.
    """
    if not description.labels:
        raise InputError(
            f"{what} has no dataset.json, so nothing says what its labels mean.", "Add one."
        )
    missing = [name for name, _, label in description.cases if label is None]
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise InputError(
            f"{len(missing)} of {len(description.cases)} cases of {what} have no label ({shown}).",
            "A simulation reveals reference labels, so every case needs one: add them or leave "
            "these cases out.",
        )


def check_test_set(pool: DatasetDescription, test: DatasetDescription) -> None:
    """Raises InputError unless the test set speaks of the same labels and channels, and shares
    no case name.
    """
    for what, ours, theirs in (
        ("labels", pool.labels, test.labels),
        ("channels", pool.channels, test.channels),
    ):
        if ours != theirs:
            raise InputError(
                f"The test set {test.name} has the {what} {theirs}, {pool.name} has {ours}.",
                f"Both need the same {what}: correct dataset.json.",
            )
    both = {name.casefold() for name, _, _ in pool.cases} & {
        name.casefold() for name, _, _ in test.cases
    }
    if both:
        raise InputError(
            f"{len(both)} case names are in the data set and in the test set, e.g. {min(both)}.",
            "A test case must not be in the pool: leave it out of one, or rename it if it is "
            "another patient.",
        )

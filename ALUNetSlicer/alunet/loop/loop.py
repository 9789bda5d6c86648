"""The loop of specification 1.7 over one project, step by step and from wherever it was stopped.

A round has two halves: `Loop.suggest` chooses its batch, `Loop.learn` trains on what is annotated by then. Between them
somebody labels: a person (`alunet.loop.hand`), or the oracle of a simulation (`Loop.start` and `Loop.advance`).

Each step ends with a file that is there whole or not at all: ``batch.json`` (the query), the annotations,
``learned.json`` (weights and Dice), ``manifest.json`` (the round). A step whose file is there is not repeated. Training
goes on from nnU-Net's last checkpoint. The heavy steps run in child processes, one each, which end with this process.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from alunet import query
from alunet.errors import InputError
from alunet.loop import children, steps
from alunet.loop.oracle import Oracle
from alunet.loop.recipe import Recipe
from alunet.loop.record import RoundRecord, selected
from alunet.model import child, environment, hardware
from alunet.pool import CaseGeometry, Pool
from alunet.project import Project
from alunet.project.choosing import CHOSEN
from alunet.query import Need, Streams
from alunet.schema import Emit, Event, ignore_events
from alunet.storage.files import sha256_file, write_json

INITIAL = "initial"
UNASKED = "unasked"
"""The strategy of a round whose labels nobody suggested."""
Content = dict[str, Any]


class Loop:
    """Active learning on `project`.

    Args:
        recipe: training and scoring, the same for every round.
        seed: of everything random; the same seed gives the same batches.
        device: "auto", "cpu", "cuda" or "mps".
        threads: threads of a child process; None: all cores that this process may use.
        emit: hears the progress.
        cancel: set it from another thread to stop; everything finished stays.
    """

    def __init__(
        self,
        project: Project,
        recipe: Recipe,
        *,
        seed: int,
        device: str = "auto",
        threads: int | None = None,
        emit: Emit = ignore_events,
        cancel: threading.Event | None = None,
    ) -> None:
        self.project, self.recipe, self.seed, self.device = project, recipe, seed, device
        self.threads = threads or hardware.usable_cores()
        self.emit, self.cancel = emit, cancel

    # --- preparation ------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Plan and preprocess what is not yet, and enumerate the pool."""
        project = self.project
        cases = project.cases()
        if not any(case.role == "pool" for case in cases):
            raise InputError("The project has no images to learn from yet.", "Add some: alunet add")
        unseen = [case for case in cases if case.geometry is None]
        planned = environment.Folders(project.nnunet_dir).plans.is_file() and project.get_meta("patch") is not None
        if unseen or not planned:
            entries = [{"name": case.name, "images": [str(image) for image in case.images]} for case in cases]
            pool_names = {case.name for case in project.cases("pool")}
            found = self.run_child(
                "alunet.loop.steps:prepare",
                project.root / "prepare.log",
                plan_cases=[] if planned else [entry for entry in entries if entry["name"] in pool_names],
                cases=entries,
                labels=project.labels,
                channels=list(project.channels),
                dropout=self.recipe.dropout,
                width=self.recipe.width,
            )
            for text in found["geometries"]:
                geometry = CaseGeometry.from_json(text)
                project.set_geometry(geometry.case, geometry)
            project.set_meta("patch", found["patch"])
            project.set_meta("prepare", found["costs"])
        children.arithmetic(self)
        self._enumerate()

    def _enumerate(self) -> None:
        """Make the pool of the cases whose role is "pool", or add those that are not in it yet."""
        project, known = self.project, self.project.pool
        geometries = [case.geometry for case in project.cases("pool") if case.geometry is not None]
        patch = tuple(project.get_meta("patch"))
        if known is not None and known.patch == patch:
            project.set_pool(known.extended([new for new in geometries if new.case not in known.cases]))
        else:
            project.set_pool(Pool.build(geometries, patch))

    # --- rounds -----------------------------------------------------------------------------------------------

    def suggest(self, strategy: str, budget: int) -> Content:
        """The first half of a round: choose `budget` samples with the last model and keep them as the open batch.

        Where the round is open already, its batch is given again. A pool that is exhausted gives an empty batch.

        Args:
            strategy: name and options, like "usimf:eta=10"; without a model one that needs none.

        Returns:
            ``ids``, ``gains``, ``reasons``, ``uncertainty``, ``diagnostics``, ``costs``, ``strategy``, ``budget``.

        Raises:
            InputError: the round was begun with another strategy or budget, or the strategy needs a model and there
                is none yet.
        """
        number = self.current()
        if budget < 1:
            raise InputError(f"A budget of {budget} samples selects nothing.", "Give a budget of at least 1.")
        if number == 0 and not query.parse(strategy).needs <= {Need.TRUTH}:
            free = [info.name for info in query.infos() if not info.needs]
            raise InputError(
                f"'{strategy}' asks a model, and there is none before the first round.",
                f"Begin with one of: {', '.join(free)}.",
            )
        query.parse(strategy)
        return self._begin(number, strategy, budget, lambda folder: self._select(number, strategy, budget, folder))

    def learn(self) -> RoundRecord:
        """The second half of a round: train on everything annotated so far, evaluate, and close the round.

        A round that nobody suggested a batch for is closed too. Suggested samples that are not annotated go back to
        the pool.

        Raises:
            InputError: nothing is annotated.
        """
        if not self.project.annotated_cases():
            raise InputError("Nothing is annotated yet, so there is nothing to learn.", "Annotate a slice first.")
        number, nothing = self.current(), {"ids": [], "gains": [], "reasons": [], "diagnostics": {}, "costs": {}}
        strategy = CHOSEN if self.project.chosen(number) else UNASKED
        batch = self.batch() or self._begin(number, strategy, 0, lambda folder: nothing)
        folder = self._folder(number)
        learned = self._kept(folder / "learned.json", lambda: self._learn(number, folder))
        record = self._record(number, batch, learned)
        record.save(folder / "manifest.json")
        self._settle(number)
        self.emit(Event("step", {"name": "round", "state": "finished", "number": number, "dice": record.dice["mean"]}))
        return record

    def start(self, initial: int) -> RoundRecord:
        """Round 0 of a simulation: label `initial` samples drawn uniformly, train from scratch, evaluate."""
        self.prepare()
        finished = self._finished(0)
        if finished is not None:
            return finished
        size = len(self._pool())
        if not 1 <= initial <= size:
            raise InputError(f"An initial set of {initial} samples is not possible.", f"The pool has {size}.")
        chosen = Streams(self.seed, 0)["init"].choice(size, initial, replace=False)
        batch = {
            "ids": [int(i) for i in chosen],
            "gains": [0.0] * initial,
            "reasons": ["initial set"] * initial,
            "diagnostics": {},
            "costs": {},
        }
        return self._answer(self._begin(0, INITIAL, initial, lambda folder: batch))

    def advance(self, strategy: str, budget: int) -> RoundRecord:
        """The next round of a simulation: choose `budget` samples, label them, train on, evaluate.

        A round that was interrupted is the next round again. After an empty batch the training still takes place, so
        that all strategies are trained equally long.

        Args:
            strategy: name and options, like "usimf:eta=10".
        """
        self.last()
        return self._answer(self.suggest(strategy, budget))

    def _answer(self, batch: Content) -> RoundRecord:
        Oracle(self.project).reveal(np.array(batch["ids"], np.int64), self.current())
        return self.learn()

    def rounds(self) -> list[RoundRecord]:
        """The finished rounds, in order."""
        found = []
        while (record := self._finished(len(found))) is not None:
            found.append(record)
        return found

    def current(self) -> int:
        """Number of the round that is open, or that comes next."""
        return len(self.rounds())

    def batch(self) -> Content | None:
        """What `suggest` gave for the open round; None where no round is open."""
        file = self._folder(self.current()) / "batch.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def folder(self) -> Path:
        """Folder of the round that is open, or that comes next."""
        return self._folder(self.current())

    def last(self) -> int:
        """Number of the last finished round, whose model is the newest; raises InputError where there is none."""
        finished = self.current()
        if finished == 0:
            raise InputError("There is no model yet.", "It comes with round 0: annotate, then learn.")
        return finished - 1

    def weights(self, number: int) -> Path:
        """Where the model of round `number` lies, or will lie."""
        return self._folder(number) / "weights.pth"

    def _final_weights(self, number: int) -> Path:
        """From where the training after round `number` goes on: other weights than the model's, if that is the best."""
        return self.recipe.training(number).final_weights(self.weights(number))

    def _folder(self, number: int) -> Path:
        return self.project.rounds_dir / f"{number:03d}"

    def _finished(self, number: int) -> RoundRecord | None:
        manifest = self._folder(number) / "manifest.json"
        return RoundRecord.load(manifest) if manifest.is_file() else None

    def _begin(self, number: int, strategy: str, budget: int, choose: Callable[[Path], Content]) -> Content:
        """Open a round with the batch that `choose` makes, or with the one it was opened with."""
        kept = self.batch()
        if kept is not None and (kept["strategy"], kept["budget"]) != (strategy, budget):
            raise InputError(
                f"Round {number} was begun with '{kept['strategy']}' and a budget of {kept['budget']}.",
                "Finish it with those, then choose anew.",
            )
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        if number:
            self._settle(number - 1)
        self.project.start_round(number, strategy, {"budget": budget, "seed": self.seed})
        batch = self._kept(folder / "batch.json", lambda: {**choose(folder), "strategy": strategy, "budget": budget})
        self.project.suggest(number, batch["ids"], batch["gains"], batch["reasons"], batch.get("uncertainty"))
        return batch

    def _settle(self, number: int) -> None:
        """What follows from a round's manifest, also where a crash came between."""
        shutil.rmtree(self._folder(number) / "training", ignore_errors=True)  # checkpoints, three times the weights
        record = self._finished(number)
        if record is not None and any(known.number == number for known in self.project.rounds("started")):
            self.project.release()
            self.project.finish_round(number, {"dice": record.dice})

    @staticmethod
    def _kept(file: Path, make: Callable[[], Content]) -> Content:
        """The content of `file`, made and written first where it is missing."""
        if not file.is_file():
            write_json(file, make())
        return json.loads(file.read_text(encoding="utf-8"))

    # --- query ------------------------------------------------------------------------------------------------

    def _select(self, number: int, strategy: str, budget: int, folder: Path) -> Content:
        if not len(self.candidates()):
            return {"ids": [], "gains": [], "reasons": [], "diagnostics": {"exhausted": True}, "costs": {}}
        needs, names = query.parse(strategy).needs, list(self.project.labels)
        arrays = self._question(folder / "question.npz", Need.TRUTH in needs)
        if needs <= {Need.TRUTH}:  # no model, no child process
            costs: dict[str, dict[str, float]] = {}
            with child.step("query", self.emit, costs):
                streams = Streams(self.seed, number)
                batch = steps.ask(strategy, arrays, budget, names, None, streams, "cpu")
            return {**batch, "costs": costs}
        self._pool().save(folder / "pool.npz")
        return self.run_child(
            "alunet.loop.steps:select",
            folder / "query.log",
            pool=str(folder / "pool.npz"),
            question=str(folder / "question.npz"),
            strategy=strategy,
            budget=budget,
            names=names,
            weights=str(self.weights(number - 1)),
            scoring=self.scoring,
            cache=str(self.project.data / "cache"),
            seed=self.seed,
            round_number=number,
            device=self.device,
            threads=self.threads,
        )

    def candidates(self) -> np.ndarray:
        """Ids of the samples that can be suggested, ascending: neither labelled nor skipped."""
        return np.flatnonzero(~(self.project.labelled() | self.project.skipped()))

    def _question(self, file: Path, with_truth: bool) -> dict[str, np.ndarray]:
        """What a strategy is told, also written to `file` for a child process; hidden labels only where it asks."""
        pool, project = self._pool(), self.project
        labelled, ids = project.labelled(), self.candidates()
        shown = None
        if with_truth:
            voxels, border = Oracle(project).counts(project.num_classes)
            shown = voxels[ids], border[ids]
        return steps.write_question(
            file, ids, np.flatnonzero(labelled), pool.case[ids], project.class_voxels(), project.case_voxels(), shown
        )

    # --- training ---------------------------------------------------------------------------------------------

    def _learn(self, number: int, folder: Path) -> Content:
        project = self.project
        annotated = {
            case: {"file": str(project.annotation_file(case)), "slices": count}
            for case, count in project.annotated_cases().items()
        }
        tests = [{"name": case.name, "label": str(case.label)} for case in project.cases("test") if case.label]
        scratch = number == 0 or self.recipe.mode == "scratch"
        entropy = Streams(self.seed, number).sequence("training").generate_state(1)[0]
        return self.run_child(
            "alunet.loop.steps:learn",
            folder / "train.log",
            labels=str(project.root / "nnunet" / "labels"),
            annotated=annotated,
            tests=tests,
            training=asdict(children.recipe_here(self).training(number)),
            scoring=self.scoring,
            weights_in=None if scratch else str(self._final_weights(number - 1)),
            weights_out=str(self.weights(number)),
            seed=int(entropy),
            device=self.device,
            threads=self.threads,
        )

    def run_child(self, function: str, log: Path, **arguments: Any) -> Any:
        """Run `function` ("package.module:name", with `nnunet` as its first argument) in a child process."""
        return children.run(self, function, log, **arguments)

    @property
    def scoring(self) -> Content:
        """How the pool is scored on this computer: `ScoringSettings` in plain values."""
        return asdict(children.recipe_here(self).scoring)

    # --- record -----------------------------------------------------------------------------------------------

    def _record(self, number: int, batch: Content, learned: Content) -> RoundRecord:
        project, costs = self.project, self.project.costs()
        spent = {**batch["costs"], **learned["costs"]}
        return RoundRecord(
            number=number,
            strategy=batch["strategy"],
            seed=self.seed,
            budget=batch["budget"],
            labelled_samples=costs.samples,
            labelled_slices=costs.slices,
            labelled_voxels=costs.voxels,
            fraction=costs.fraction,
            pool_samples=len(self._pool()),
            class_voxels=[int(count) for count in project.class_voxels()],
            dice=self._named(learned["evaluation"]["dice"]),
            selected=selected(batch, project.chosen(number)),
            diagnostics=batch["diagnostics"],
            seconds={name: cost["seconds"] for name, cost in spent.items()},
            peak_memory_mb={name: cost["peak_memory_mb"] for name, cost in spent.items()},
            recipe=self.recipe.to_json(),
            training=learned["training"],
            hashes={
                "weights": learned["training"]["sha256"],
                "final weights": learned["training"].get("final_sha256", learned["training"]["sha256"]),
                "plans": sha256_file(environment.Folders(project.nnunet_dir).plans),
                "pool": self._pool().sha256(),
            },
            device=learned["device"],
            arithmetic=children.arithmetic(self).to_json(),
            threads=self.threads,
        )

    def _named(self, dice: list[float | None]) -> dict[str, float | None]:
        names = [name for name, value in self.project.labels.items() if value > 0]
        table = dict(zip(names, dice or [None] * len(names), strict=True))
        known = [value for value in dice if value is not None]
        return {**table, "mean": float(np.mean(known)) if known else None}

    def _pool(self) -> Pool:
        pool = self.project.pool
        if pool is None:
            raise InputError("The project has no pool yet.", "Prepare it first.")
        return pool

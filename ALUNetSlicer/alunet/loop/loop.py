"""The loop of docs/method.md, 1.7 over one project, step by step and from wherever it was stopped.

A round has two halves: `Loop.suggest` chooses its batch, `Loop.learn` trains on what is annotated
by then. Between them a person labels (`alunet.loop.annotation_loop`), or the oracle of a simulation
(`alunet.simulation.rounds`). `Loop.next_round` does the second half of one round and the first of
the next, for all of them.

The project's database knows the rounds: which is open, what was chosen, what a finished one was
like; ``batch.json`` and ``manifest.json`` are printouts. A training ends with ``learned.json`` (and
what was measured), and is not repeated where that is. It goes on from its last checkpoint. The
heavy steps run in a child process, one for the whole of `next_round`, which ends with this process.
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
from alunet.loop import children
from alunet.loop.choice import check_choice, choose, usual_choice
from alunet.loop.memory import MemoryShares
from alunet.loop.preparation import prepare
from alunet.loop.recipe import Recipe
from alunet.loop.round_record import NextRound, RoundRecord
from alunet.loop.training import make_record, note_weights, start_weights, train
from alunet.model import hardware
from alunet.model.child import Child
from alunet.model.interface import Framework, load_framework
from alunet.project import Project, Round, Suggestion
from alunet.project.rounds import CHOSEN, UNASKED
from alunet.query import Need
from alunet.schema import Emit, Event, ignore_events
from alunet.storage.files import write_json

Content = dict[str, Any]


class Loop:
    """Active learning on `project`.

    Args:
        recipe: training and scoring, the same for every round.
        seed: of everything random; the same seed gives the same batches.
        device: "auto", "cpu", "cuda" or "mps".
        threads: threads of a child process; None: all cores that this process may use.
        framework: makes the models of all rounds; None: the one that is shipped.
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
        framework: Framework | None = None,
        emit: Emit = ignore_events,
        cancel: threading.Event | None = None,
    ) -> None:
        self.project, self.recipe, self.seed, self.device = project, recipe, seed, device
        self.threads = threads or hardware.usable_cores()
        self.framework = framework or load_framework()
        self.emit, self.cancel = emit, cancel
        self.memory_shares: MemoryShares | None = None  # what fitted, where that was found here
        self.child: Child | None = None  # where it stays for several steps
        self.results: Path | None = None  # where that one's training writes

    # --- preparation ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Plan and preprocess what is not yet, and enumerate the pool."""
        prepare(self)

    # --- rounds -----------------------------------------------------------------------------------

    def next_round(
        self,
        strategy: str | None = None,
        budget: int | None = None,
        ahead: int = 0,
        *,
        closes: int | None = None,
    ) -> NextRound:
        """Train on all labels so far and close the round, then choose the next batch.

        Where nothing was annotated since the last training, nothing is trained, and an open batch
        stays. A call that was interrupted goes on where it was.

        Args:
            strategy: name and options, like "usimf:eta=10". None: as in the round before; `spread`
                at first, then `usimf`.
            budget: samples to choose, or all that are left. None: as in the round before, or 100.
            ahead: samples to choose behind them, for people who go on while the model trains.
            closes: number of the round to close. Where that is finished, nothing is trained, so
                that a repeated call does not take up labels that came later.

        Raises:
            InputError: the choice is impossible.
        """
        check_choice(strategy, budget, ahead)
        with children.in_one(self):
            return self._next_round(strategy, budget, ahead, closes)

    def _next_round(
        self, strategy: str | None, budget: int | None, ahead: int, closes: int | None
    ) -> NextRound:
        number, record, released = self.current(), None, 0
        if closes in (None, number) and self.project.rounds.touched():
            released = self._still_open(number)
            record = self.learn()
            self.emit(
                Event("message", {"text": f"Round {number} is learned; choosing the next batch."})
            )
        if self.batch() is None and len(self.candidates()):
            self.suggest(*usual_choice(self.project, strategy, budget), ahead)
        return NextRound(record, released)

    def _still_open(self, number: int) -> int:
        """How many samples of a round's batch are neither annotated nor skipped."""
        entries = self.project.worklist.suggestions(number)
        batch = [entry for entry in entries if entry.in_batch and entry.author is None]
        return sum(entry.state != "labelled" and not entry.skipped for entry in batch)

    def suggest(self, strategy: str, budget: int, ahead: int = 0) -> list[Suggestion]:
        """The first half of a round: choose `budget` samples with the last model and keep them as
        the open batch.

        Where the round has its batch already, that is given again. A pool that is exhausted gives
        an empty batch.

        Args:
            strategy: name and options, like "usimf:eta=10"; without a model one that needs none.
            ahead: samples to choose behind the batch.

        Raises:
            InputError: the round was begun with another strategy or budget, or the strategy needs a
                model and there is none yet.
        """
        number = self.current()
        check_choice(strategy, budget, ahead)
        if number == 0 and not query.parse(strategy).needs <= {Need.TRUTH}:
            free = [info.name for info in query.infos() if not info.needs]
            raise InputError(
                f"'{strategy}' asks a model, and there is none before the first round.",
                f"Begin with one of: {', '.join(free)}.",
            )
        return self.open_round(
            strategy, budget, lambda folder: choose(self, strategy, budget, ahead, folder)
        )

    def open_round(
        self, strategy: str, budget: int, make: Callable[[Path], Content]
    ) -> list[Suggestion]:
        """Open the next round with the batch that `make` gives in its folder, or with the one that
        it has.

        Args:
            budget: samples of the batch proper.
            make: gives ``ids``, ``gains``, ``reasons``, ``uncertainty`` (may be missing),
                ``diagnostics``, ``costs``.

        Raises:
            InputError: the round was begun with another strategy or budget.
        """
        begun = self.project.rounds.begun()
        if begun is not None and begun.query is not None:
            if (begun.strategy, begun.budget) != (strategy, budget):
                raise InputError(
                    f"Round {begun.number} was begun with '{begun.strategy}' and a budget of "
                    f"{begun.budget}.",
                    "Finish it with those, then choose anew.",
                )
            return self.project.worklist.suggestions(begun.number)
        number = self.current()
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        if number:
            self._clear(number - 1)
        self.project.rounds.begin(strategy, budget)
        batch = make(folder)
        # For people to read, and before the database, so that it is there wherever the batch is.
        write_json(folder / "batch.json", {**batch, "strategy": strategy, "budget": budget})
        with self.project.together():
            self.project.worklist.suggest(
                number,
                batch["ids"],
                batch["gains"],
                batch["reasons"],
                batch.get("uncertainty"),
                size=budget,
            )
            self.project.rounds.keep_query(
                number, {name: batch[name] for name in ("diagnostics", "costs")}
            )
        return self.project.worklist.suggestions(number)

    def learn(self) -> RoundRecord:
        """The second half of a round: train on everything annotated so far, evaluate, and close the
        round.

        A round that nobody suggested a batch for is closed too. Suggested samples that are not
        annotated go back to the pool. Labels that come while the model trains belong to the next
        round.

        Raises:
            InputError: nothing is annotated.
        """
        if not self.project.annotations.cases():
            raise InputError(
                "Nothing is annotated yet, so there is nothing to learn.", "Annotate a slice first."
            )
        rounds, number = self.project.rounds, self.current()
        begun = rounds.begun() or rounds.begin(
            CHOSEN if self.project.worklist.chosen(number) else UNASKED, 0
        )
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        self._begin_training(number, folder)
        try:
            learned = self._kept(folder / "learned.json", lambda: self._learn(number, folder))
        except BaseException:
            # also Ctrl-C: what is annotated until the training goes on belongs to it
            rounds.set_training(number, False)
            raise
        record = make_record(self, begun, learned)
        with self.project.together():
            self.project.worklist.release()
            note_weights(self, number, learned["training"])
            rounds.finish(number, asdict(record))
        record.save(folder / "manifest.json")
        self._clear(number)
        self.emit(
            Event(
                "step",
                {"name": "round", "state": "finished", "number": number, "dice": record.mean()},
            )
        )
        return record

    def _begin_training(self, number: int, folder: Path) -> None:
        """Begin the training of a round, or go on with it; without all that has seen what no
        longer counts.
        """
        forgotten, start = self.project.learned.forgotten(), start_weights(self, number)
        lost = start is not None and not self.project.cases.files.is_sound(start, once=True)
        if forgotten or lost:
            shutil.rmtree(folder / "training", ignore_errors=True)
            (folder / "learned.json").unlink(missing_ok=True)
            why = (
                f"The last model learned from {forgotten} samples that no longer count"
                if forgotten
                else f"The weights {start} are missing or damaged"
            )
            self.emit(Event("message", {"text": f"{why}; this training starts anew."}))
        self.project.learned.begin(number, anew=lost)

    def rounds(self) -> list[RoundRecord]:
        """The finished rounds, in order."""
        records = (entry.record for entry in self.project.rounds.finished())
        return [RoundRecord.from_json(record) for record in records if record is not None]

    def current(self) -> int:
        """Number of the round that is open, or that comes next."""
        return self.project.rounds.current()

    def batch(self) -> Round | None:
        """The open round, where a strategy has chosen its batch; else None."""
        begun = self.project.rounds.begun()
        return None if begun is None or begun.query is None else begun

    def folder(self) -> Path:
        """Folder of the round that is open, or that comes next."""
        return self._folder(self.current())

    def last(self) -> int:
        """Number of the last finished round, whose model is the newest; raises InputError where
        there is none.
        """
        finished = self.current()
        if finished == 0:
            raise InputError(
                "There is no model yet.", "It comes with round 0: annotate, then learn."
            )
        return finished - 1

    def weights(self, number: int) -> Path:
        """Where the model of round `number` lies, or will lie."""
        return self._folder(number) / "weights.pth"

    def newest_weights(self) -> Path:
        """Where the newest model is; raises InputError where there is none, or it is damaged."""
        return self.sound_weights(self.last())

    def sound_weights(self, number: int) -> Path:
        """Return where the model of a finished round is, after it was compared with its hash.

        Raises:
            InputError: it is gone or damaged.
        """
        weights = self.weights(number)
        if not weights.is_file():
            raise InputError(
                f"The weights of round {number} are gone: {weights}.",
                "Restore them, or train again.",
            )
        beside = weights.with_name("structures.json")
        hint = "Restore it from a backup, or train the next round, which then starts anew."
        files = self.project.cases.files
        files.check([weights, *([beside] if files.hash_of(beside) else [])], hint)
        return weights

    def _folder(self, number: int) -> Path:
        return self.project.rounds_dir / f"{number:03d}"

    def _clear(self, number: int) -> None:
        """Remove the checkpoints of a finished round's training, three times the weights; also
        after a crash.
        """
        shutil.rmtree(self._folder(number) / "training", ignore_errors=True)

    @staticmethod
    def _kept(file: Path, make: Callable[[], Content]) -> Content:
        """The content of `file`, made and written first where it is missing."""
        if not file.is_file():
            write_json(file, make())
        kept: Content = json.loads(file.read_text(encoding="utf-8"))
        return kept

    # --- query ------------------------------------------------------------------------------------

    def candidates(self) -> np.ndarray:
        """Ids of the samples that can be suggested, ascending: of cases that count, neither
        labelled nor skipped.
        """
        samples = self.project.samples
        return np.flatnonzero(samples.counted() & ~(samples.labelled() | samples.skipped()))

    # --- child processes --------------------------------------------------------------------------

    def _learn(self, number: int, folder: Path) -> Content:
        return train(self, number, folder)

    def run_child(self, function: str, log: Path, **arguments: Any) -> Any:
        """Run `function` ("package.module:name") in a child process, see `children.run`."""
        return children.run(self, function, log, **arguments)

    @property
    def scoring(self) -> Content:
        """How the pool is scored on this computer: `ScoringSettings` in plain values."""
        return asdict(children.recipe_here(self).scoring)

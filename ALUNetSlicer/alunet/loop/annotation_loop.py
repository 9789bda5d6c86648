"""The loop by hand: a person labels what is suggested, in any tool, and asks for the next round.

This is all that a way in needs (a terminal, a service, 3D Slicer); each call can be repeated after
a crash and goes on from what is on disk. Seed, recipe and device belong to the project and are
given once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.label_file import Meaning
from alunet.loop import children, label_folder, labelling, taking_back
from alunet.loop.choice import check_choice, usual_choice
from alunet.loop.forecast import Forecast, forecast
from alunet.loop.label_folder import FolderTaken, Which
from alunet.loop.labelling import IMPORTED, Taken
from alunet.loop.loop import Loop
from alunet.loop.proposal_files import describe
from alunet.loop.proposals import propose
from alunet.loop.recipe import Recipe, check_seconds
from alunet.loop.round_record import NextRound
from alunet.loop.setup import Setup
from alunet.loop.slices import pool_case, samples_of_slices
from alunet.loop.steps import written_length
from alunet.loop.worklist import RoundWorklist, make_worklist, save_worklist
from alunet.project import Project, RoundState
from alunet.project.rounds import CHOSEN
from alunet.schema import Emit, Status, ignore_events


class AnnotationLoop:
    """Active learning on `project` with the labels of people.

    Args:
        project: made by `create`.
        device: instead of the project's.
        emit: hears the progress.
        cancel: set it from another thread to stop; everything finished stays.

    Raises:
        InputError: the project belongs to a simulation.
    """

    def __init__(
        self,
        project: Project,
        *,
        device: str | None = None,
        emit: Emit = ignore_events,
        cancel: threading.Event | None = None,
    ) -> None:
        settings = project.settings.annotation
        if settings is None:
            raise InputError(
                f"The project {project.root} belongs to a simulation.",
                "Create a project for annotation.",
            )
        self.project, self.setup = project, Setup(**settings)
        self._seconds: float | None = None
        place = device or self.setup.device
        self.loop = Loop(
            project,
            self.setup.recipe(),
            seed=self.setup.seed,
            device=place,
            emit=emit,
            cancel=cancel,
        )

    def plan(self) -> None:
        """Plan and preprocess what is not yet, and add it to the pool."""
        self.loop.prepare()

    # --- the batch --------------------------------------------------------------------------------

    def suggest(
        self, strategy: str | None = None, budget: int | None = None, ahead: int = 0
    ) -> RoundWorklist:
        """Choose the round's batch, or give the one that is open; with proposals where there is a
        model.

        Args:
            strategy, budget, ahead: see `Loop.next_round`.

        Raises:
            InputError: the choice is impossible, another batch is open, or there is nothing to
                choose.
        """
        check_choice(strategy, budget, ahead)
        with children.in_one(self.loop):
            return self._suggest(strategy, budget, ahead)

    def _suggest(self, strategy: str | None, budget: int | None, ahead: int) -> RoundWorklist:
        self.plan()
        self._forget_skipped()
        begun, batch = self.project.rounds.begun(), self.loop.batch()
        if batch is not None:
            self.loop.suggest(
                strategy or batch.strategy, batch.budget if budget is None else budget
            )
        elif begun is not None and begun.state is RoundState.TRAINING:
            raise InputError(
                f"The training of round {begun.number} was stopped.", "Finish it first."
            )
        elif not len(self.loop.candidates()):
            raise InputError("Every sample of the pool is annotated or skipped.", "Add cases.")
        else:
            self.loop.suggest(*usual_choice(self.project, strategy, budget), ahead)
        self._propose()
        return self._saved()

    def _forget_skipped(self) -> None:
        """Let an open batch of which every slice was skipped be chosen anew, without these."""
        worklist = self.worklist()
        if (
            worklist is not None
            and worklist.items
            and all(item.status is Status.SKIPPED for item in worklist.items)
        ):
            self.project.rounds.forget_query(worklist.number)

    def worklist(self) -> RoundWorklist | None:
        """The open batch as it is now, or None; before a strategy has chosen it is what people
        chose.
        """
        begun = self.project.rounds.begun()
        if begun is None or (
            begun.query is None and not self.project.worklist.suggestions(begun.number)
        ):
            return None
        strategy = CHOSEN if begun.query is None else begun.strategy
        return make_worklist(self.project, self.loop.folder(), begun.number, strategy, begun.budget)

    def _saved(self) -> RoundWorklist:
        """The open batch, whose manifest says the same."""
        worklist = self.worklist()
        if worklist is None:
            raise InputError("No batch is open.", "Let one be suggested.")
        return save_worklist(self.project, worklist)

    def _propose(self) -> None:
        """Segment the slices of the open batch by the newest model, those that are not yet."""
        if self.loop.current() == 0:
            return
        samples = [
            suggestion.sample
            for suggestion in self.project.worklist.suggestions(self.loop.current())
        ]
        costs = propose(self.loop, samples)
        if costs:
            self.project.rounds.add_costs(self.loop.current(), costs)

    # --- labels -----------------------------------------------------------------------------------

    def annotate(
        self,
        case: str,
        file: Path,
        *,
        slices: Sequence[int] = (),
        all_slices: bool = False,
        drawn_slices: bool = False,
        author: str = "annotator",
        seconds: float | None = None,
        ignore: int | None = None,
        meaning: Meaning | None = None,
    ) -> Taken:
        """Store labels from an image file, see `alunet.loop.labelling.annotate`; by default what
        is suggested.
        """
        number = self.project.rounds.of_new_labels()
        taken = labelling.annotate(
            self.project,
            case,
            file,
            slices=slices,
            all_slices=all_slices,
            drawn_slices=drawn_slices,
            suggested=self._suggested(),
            round=number,
            author=author,
            seconds=seconds,
            ignore=ignore,
            meaning=meaning,
        )
        self.follow()
        return taken

    def annotate_folder(
        self,
        folder: Path,
        which: Which,
        *,
        author: str = IMPORTED,
        ignore: int | None = None,
        meaning: Meaning | None = None,
    ) -> FolderTaken:
        """Store the labels of a folder, see `alunet.loop.label_folder.annotate_folder`; by default
        what is suggested.
        """
        taken = label_folder.annotate_folder(
            self.project,
            folder,
            replace(which, suggested=self._suggested()),
            round=self.project.rounds.of_new_labels(),
            author=author,
            ignore=ignore,
            meaning=meaning,
            emit=self.loop.emit,
        )
        self.follow()
        return taken

    def _suggested(self) -> list[int]:
        """Samples of the open batch that are not skipped."""
        entries = self.project.worklist.suggestions(self.loop.current())
        return [entry.sample for entry in entries if not entry.skipped]

    def skip(self, case: str, slices: Sequence[int], *, undo: bool = False) -> int:
        """Never suggest these slices again, or undo that; returns how many samples that concerns.

        Raises:
            InputError: there is no such slice, or one of them is annotated already.
        """
        found = pool_case(self.project, case)
        labelled, samples = self.project.samples.labelled(), []
        for number in slices:
            own = [i for i in samples_of_slices(self.project, found, [number]) if not labelled[i]]
            if not own:
                raise InputError(
                    f"Slice {number} of {case} is annotated already.", "There is nothing to skip."
                )
            samples += own
        self.project.samples.skip(samples, undo=undo)
        self.follow()
        return len(set(samples))

    def structures_changed(self) -> None:
        """Bring what lies beside the open batch up to date: its manifest, and what the values of
        its proposals mean.
        """
        describe(self.loop.folder(), self.project.cases.structures)
        self.follow()

    def take_back(
        self,
        case: str,
        slices: Sequence[int] = (),
        *,
        all_slices: bool = False,
        undo: bool = False,
        author: str,
    ) -> list[str]:
        """Take the annotations of slices back, or undo that; see `TakingBack`.

        Args:
            slices: voxel indices along the slice axis.
            all_slices: all slices of the case to which that applies.

        Returns:
            What was done and what follows, sentences for people.

        Raises:
            InputError: there is no such case or slice, or nothing to take back or to undo.
        """
        says = taking_back.take_back(
            self.project, case, slices, all_slices=all_slices, undo=undo, author=author
        )
        self.follow()
        return says

    def follow(self) -> None:
        """Bring the manifest of the open batch up to date."""
        if self.worklist() is not None:
            self._saved()

    # --- the next round ---------------------------------------------------------------------------

    def train_for(self, seconds: float) -> None:
        """Train the coming round for about so long; a training that was stopped at another length
        begins anew.

        Raises:
            InputError: less than a second, or more than a week.
        """
        check_seconds(seconds)
        self._seconds = seconds

    def forecast(self, strategy: str | None = None, budget: int | None = None) -> Forecast | None:
        """Return what the next round will take; None where that is not known yet.

        Args:
            strategy, budget: see `Loop.next_round`.
        """
        loop = self.loop
        return forecast(self.project, self._recipe(), loop.rounds(), loop.threads, strategy, budget)

    def _recipe(self) -> Recipe:
        """The recipe of the coming training, whose time may be its own."""
        usual, begun = self.loop.recipe, written_length(self.loop.folder())
        seconds = begun["seconds"] if self._seconds is None and begun else self._seconds
        return usual if seconds is None else usual.for_seconds(seconds)

    def next_round(
        self,
        strategy: str | None = None,
        budget: int | None = None,
        ahead: int = 0,
        *,
        closes: int | None = None,
    ) -> NextRound:
        """Do `Loop.next_round`, and segment the slices of the new batch.

        The training takes the time that was asked for (`train_for`), else the one that it was begun
        with, else the project's.

        Raises:
            InputError: the choice is impossible.
        """
        check_choice(strategy, budget, ahead)
        with children.in_one(self.loop):
            return self._next_round(strategy, budget, ahead, closes)

    def _next_round(
        self, strategy: str | None, budget: int | None, ahead: int, closes: int | None
    ) -> NextRound:
        self.plan()
        usual = self.loop.recipe
        self.loop.recipe = self._recipe()
        try:
            self._forget_skipped()
            done = self.loop.next_round(strategy, budget, ahead, closes=closes)
        finally:
            self.loop.recipe, self._seconds = usual, None
        if self.loop.batch() is None:
            return done
        self._propose()
        return replace(done, worklist=self._saved())

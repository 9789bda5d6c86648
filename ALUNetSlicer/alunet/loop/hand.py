"""The loop by hand: a person labels what is suggested, in any tool, and asks for the next round.

This is all that a way in needs (a terminal, a service, 3D Slicer); each call can be repeated after a crash and goes on
from what is on disk. Seed, recipe and device belong to the project and are given once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alunet import query
from alunet.errors import InputError
from alunet.imaging.reading import EXACT_ENDING
from alunet.loop import labelling, outputs
from alunet.loop.labelling import Taken
from alunet.loop.loop import UNASKED, Loop
from alunet.loop.recipe import Recipe, check_seconds, preset
from alunet.loop.record import RoundRecord
from alunet.loop.steps import written_length
from alunet.loop.worklist import Worklist, make_worklist, proposal_file, save_worklist
from alunet.model.environment import resolve_device
from alunet.project import Project
from alunet.project.choosing import CHOSEN
from alunet.schema import Emit, Event, ignore_events

FIRST_STRATEGY, LATER_STRATEGY, BUDGET = "spread", "usimf", 100


@dataclass(frozen=True)
class Setup:
    """What is chosen once for a project.

    Attributes:
        preset: recipe of training and scoring: "quick", "cpu", "gpu" or "paper".
        epochs, iterations: another length of every training than the preset's.
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        train_for: seconds that the training of a round may take; None: the preset's, where it has such a time.
    """

    preset: str = "cpu"
    epochs: int | None = None
    iterations: int | None = None
    seed: int = 0
    device: str = "auto"
    train_for: float | None = None

    def recipe(self) -> Recipe:
        """Training and scoring of all rounds; raises InputError for values that cannot be."""
        recipe, steps = preset(self.preset), self.epochs is not None or self.iterations is not None
        if steps and self.train_for is not None:
            message = f"A training time ({self.train_for:g} s) is given beside epochs or iterations."
            raise InputError(message, "Give one or the other.")
        if steps:
            return recipe.with_length(self.epochs, self.iterations)
        seconds = self.train_for if self.train_for is not None else recipe.train_for
        return recipe if seconds is None else recipe.for_seconds(seconds)


def create(root: Path, *, name: str, labels: dict[str, int], channels: Sequence[str], setup: Setup) -> Project:
    """Make a project and open it; one that was made just so is opened as it is.

    Raises:
        InputError: something about it is impossible, or another project is there.
    """
    setup.recipe()
    if setup.seed < 0:
        raise InputError(f"{setup.seed} cannot be a seed.", "Give a whole number from 0 on.")
    if setup.device != "auto":
        resolve_device(setup.device)
    try:
        return Project.create(root, name=name, labels=labels, channels=channels, meta={"loop": asdict(setup)})
    except InputError:
        if not (Path(root) / "project.db").is_file():
            raise
        project = Project.open(root)
        asked = (name, sorted(labels, key=labels.__getitem__), list(channels), asdict(setup))
        kept = asdict(Setup(**project.get_meta("loop", {})))
        if (project.name, list(project.labels), project.channels, kept) == asked:
            return project
        project.close()
        raise


@dataclass(frozen=True)
class NextRound:
    """What `Hand.next_round` did.

    Attributes:
        record: of the round that was learned now; None where nothing had been annotated since the last one.
        released: suggested samples that nobody annotated; they are in the pool again. What people chose is not.
        worklist: the next batch; None where every sample is annotated or skipped.
    """

    record: RoundRecord | None
    released: int
    worklist: Worklist | None


class Hand:
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
        settings = project.get_meta("loop")
        if settings is None:
            raise InputError(f"The project {project.root} belongs to a simulation.", "Make one with: alunet init")
        self.project, self.setup = project, Setup(**settings)
        self._seconds: float | None = None
        place = device or self.setup.device
        self.loop = Loop(
            project, self.setup.recipe(), seed=self.setup.seed, device=place, emit=emit, cancel=cancel
        )

    def plan(self) -> None:
        """Plan and preprocess what is not yet, and add it to the pool."""
        self.loop.prepare()

    # --- the batch --------------------------------------------------------------------------------------------

    def suggest(self, strategy: str | None = None, budget: int | None = None) -> Worklist:
        """Choose the round's batch, or give the one that is open; with proposals where there is a model.

        Args:
            strategy: name and options. Without: that of the round before; `spread` at first, then `usimf`.
            budget: samples to choose. Without: as in the round before, or 100; no more than there are.

        Raises:
            InputError: the choice is impossible, or another batch is open.
        """
        self.plan()
        batch, open_ = self.loop.batch(), self.worklist()
        if open_ is not None and open_.items and open_.count("skipped") == len(open_.items):
            # Nobody wants any of it: choose anew, without these. What people chose alone has no such file.
            (self.loop.folder() / "batch.json").unlink(missing_ok=True)
            batch = None
        if batch is None:
            self._check_choice(strategy, budget)
            batch = self.loop.suggest(*self._choice(strategy, budget))
        elif batch["strategy"] in (UNASKED, CHOSEN):
            raise InputError(f"Round {self.loop.current()} is learning, and was stopped.", "Type: alunet next-round")
        else:
            batch = self.loop.suggest(strategy or batch["strategy"], batch["budget"] if budget is None else budget)
        self._propose()
        return self._saved()

    def worklist(self) -> Worklist | None:
        """The open batch as it stands, or None; before the strategy was asked it is what people chose."""
        batch, number = self.loop.batch(), self.loop.current()
        if batch is None and any(entry.author is not None for entry in self.project.suggestions(number)):
            batch = {"strategy": CHOSEN, "budget": 0}
        if batch is None or batch["strategy"] == UNASKED:
            return None
        return make_worklist(self.project, self.loop.folder(), number, batch["strategy"], batch["budget"])

    def _saved(self) -> Worklist:
        """The open batch, whose manifest says the same."""
        worklist = self.worklist()
        if worklist is None:
            raise InputError("No batch is open.", "Type: alunet suggest")
        return save_worklist(self.project, worklist)

    def _choice(self, strategy: str | None, budget: int | None) -> tuple[str, int]:
        records = self.loop.rounds()
        earlier = [record for record in records if record.number > 0 and record.strategy not in (UNASKED, CHOSEN)]
        usual = earlier[-1].strategy if earlier else LATER_STRATEGY if records else FIRST_STRATEGY
        budgets = [record.budget for record in records if record.budget]
        left = len(self.loop.candidates())
        return strategy or usual, min(budgets[-1] if budgets else BUDGET, left) if budget is None else budget

    def _check_choice(self, strategy: str | None, budget: int | None) -> None:
        """Refuse a choice before anything long is done."""
        left = len(self.loop.candidates())
        if strategy is not None:
            query.parse(strategy)
        if budget is not None and budget < 1:
            raise InputError(f"A budget of {budget} samples selects nothing.", "Give a budget of at least 1.")
        if left == 0:
            raise InputError("Every sample of the pool is annotated or skipped.", "Add cases: alunet add")
        if budget is not None and budget > left:
            raise InputError(f"A budget of {budget} is beyond the pool: {left} are left.", f"Give {left} or less.")

    def _propose(self) -> None:
        """Segment the cases of the open batch by the newest model, those that are not yet."""
        if self.loop.current() == 0:
            return
        folder = self.loop.folder()
        samples = [suggestion.sample for suggestion in self.project.suggestions(self.loop.current())]
        names = dict.fromkeys(self.project.pool.case_name(sample) for sample in samples)
        missing = [name for name in names if not proposal_file(folder, name).is_file()]
        if missing:
            outputs.predict(self.loop, missing, folder / "proposals", EXACT_ENDING)

    # --- labels -----------------------------------------------------------------------------------------------

    def annotate(
        self,
        case: str,
        file: Path,
        *,
        slices: Sequence[int] = (),
        all_slices: bool = False,
        author: str = "annotator",
        seconds: float | None = None,
    ) -> Taken:
        """Store labels from an image file, see `alunet.loop.labelling.annotate`; by default what is suggested."""
        number = self.loop.current()
        suggested = [entry.sample for entry in self.project.suggestions(number) if not entry.skipped]
        taken = labelling.annotate(
            self.project, case, file, slices=slices, all_slices=all_slices, suggested=suggested,
            round=number, author=author, seconds=seconds,
        )  # fmt: skip
        self._follow()
        return taken

    def skip(self, case: str, slices: Sequence[int], *, undo: bool = False) -> int:
        """Never suggest these slices again, or undo that; returns how many samples that concerns.

        Raises:
            InputError: there is no such slice, or one of them is annotated already.
        """
        found = labelling.pool_case(self.project, case)
        labelled, samples = self.project.labelled(), []
        for number in slices:
            own = [i for i in labelling.samples_of_slices(self.project, found, [number]) if not labelled[i]]
            if not own:
                raise InputError(f"Slice {number} of {case} is annotated already.", "There is nothing to skip.")
            samples += own
        self.project.skip(samples, undo=undo)
        self._follow()
        return len(set(samples))

    def _follow(self) -> None:
        """Bring the manifest of the open batch up to date."""
        if self.worklist() is not None:
            self._saved()

    # --- the next round ---------------------------------------------------------------------------------------

    def train_for(self, seconds: float) -> None:
        """Train the coming round for about so long; a training that was stopped at another length begins anew.

        Raises:
            InputError: less than a second, or more than a week.
        """
        check_seconds(seconds)
        self._seconds = seconds

    def learn(self) -> RoundRecord:
        """Train on all labels so far and close the round, see `Loop.learn`.

        It takes the time that was asked for (`train_for`), else the one that its training was begun with, else the
        project's.
        """
        usual, begun = self.loop.recipe, written_length(self.loop.folder())
        seconds = begun["seconds"] if self._seconds is None and begun else self._seconds
        if seconds is not None:
            self.loop.recipe = usual.for_seconds(seconds)
        try:
            return self.loop.learn()
        finally:
            self.loop.recipe, self._seconds = usual, None

    def next_round(self, strategy: str | None = None, budget: int | None = None) -> NextRound:
        """Train on all labels so far, evaluate the test cases, and suggest the next batch.

        Where nothing was annotated since the last training, the open batch is given again.

        Args:
            strategy, budget: of the next batch, see `suggest`.

        Raises:
            InputError: nothing is annotated at all, or the choice is impossible.
        """
        number, record, released = self.loop.current(), None, 0
        if self.project.touched_since(number):
            if len(self.loop.candidates()):
                self._check_choice(strategy, budget)
            self.plan()
            suggested = [entry for entry in self.project.suggestions(number) if entry.author is None]
            released = sum(entry.state != "labelled" and not entry.skipped for entry in suggested)
            record = self.learn()
        elif number == 0:
            raise InputError("Nothing is annotated yet, so there is nothing to learn.", "Type: alunet annotate")
        if not len(self.loop.candidates()) and self.loop.batch() is None:
            return NextRound(record, released, None)
        if record is not None:
            self.loop.emit(Event("message", {"text": f"Round {number} is learned; choosing the next batch."}))
        return NextRound(record, released, self.suggest(strategy, budget))

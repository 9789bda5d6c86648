"""The runs of a study and the order in which they are played: first what they share, then each
strategy's own way.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from alunet.errors import AlunetError, Cancelled, EngineError
from alunet.loop import Loop, Recipe, RoundRecord
from alunet.project import Project
from alunet.schema import Emit, Event
from alunet.simulation.config import Study, folder_name
from alunet.simulation.report import run_folder
from alunet.simulation.rounds import play_first_round, play_round
from alunet.simulation.tables import INITIAL

_GO_ON = "Everything finished is kept: the same command goes on from here."


@dataclass(frozen=True)
class RunSettings:
    """How each run is played, the same for all.

    Attributes:
        threads: of one run; `jobs` runs are played at a time.
    """

    recipe: Recipe
    budget: int
    initial: int
    rounds: int
    device: str
    threads: int
    jobs: int


@dataclass(frozen=True)
class Run:
    """One run; the strategy `initial` is round 0, which the others of its fold and seed start
    from.
    """

    fold: int
    seed: int
    strategy: str

    def __str__(self) -> str:
        return f"fold {self.fold}, seed {self.seed}, {self.strategy}"


class ExperimentGrid:
    """Plays all runs of `study`, `settings.jobs` at a time, each in a thread with projects of its
    own.

    Args:
        folder: where the runs' projects lie.
        data: the open project that they share images with.
        tests: names of the test cases by fold.
        finished: called after every finished round, from the run's thread.
        cancel: set when Ctrl-C is pressed; ends the child processes.
    """

    def __init__(
        self,
        folder: Path,
        data: Project,
        study: Study,
        tests: dict[int, list[str]],
        settings: RunSettings,
        finished: Callable[[], None],
        emit: Emit,
        cancel: threading.Event,
    ) -> None:
        self._folder, self._data, self._study, self._tests = folder, data, study, tests
        self._settings, self._finished, self._emit, self._cancel = settings, finished, emit, cancel
        self._failed: dict[Run, AlunetError] = {}
        self._done: set[Run] = set()
        self._rounds_done, self._count = 0, threading.Lock()

    def play(self) -> None:
        """Play what is not finished yet.

        Raises:
            EngineError, InputError: a run failed; the others were played to their end.
            Cancelled, KeyboardInterrupt: somebody wants it to stop; all child processes have ended.
        """
        self._announce()
        waiting = [
            Run(fold, seed, strategy)
            for seed in self._study.seeds
            for fold in self._study.folds
            for strategy in (INITIAL, *self._study.strategies)
        ]
        with ThreadPoolExecutor(self._settings.jobs, thread_name_prefix="run") as pool:
            try:
                self._schedule(pool, waiting)
            except BaseException:
                # Ctrl-C, or a defect: the child processes must end, else the threads never do
                self._cancel.set()
                raise
        self._raise_failures()

    def _schedule(self, pool: ThreadPoolExecutor, waiting: list[Run]) -> None:
        running: dict[Future[None], Run] = {}
        while waiting or running:
            for run in [run for run in waiting if self._is_ready(run)][
                : self._settings.jobs - len(running)
            ]:
                waiting.remove(run)
                if run.strategy == INITIAL:
                    # here, because a project's database belongs to the thread that opened it
                    self._begin(run)
                running[pool.submit(self._play, run)] = run
            ended, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in ended:
                self._settle(running.pop(future), future)
            waiting[:] = [run for run in waiting if self._initial(run) not in self._failed]

    def _is_ready(self, run: Run) -> bool:
        return run.strategy == INITIAL or self._initial(run) in self._done

    @staticmethod
    def _initial(run: Run) -> Run:
        return Run(run.fold, run.seed, INITIAL)

    def _settle(self, run: Run, future: Future[None]) -> None:
        try:
            future.result()
            self._done.add(run)
        except Cancelled:
            raise
        except AlunetError as error:
            self._failed[run] = error
            self._say(run, Event("error", {"message": error.message, "hint": error.hint}))

    def _raise_failures(self) -> None:
        if not self._failed:
            return
        run, error = next(iter(self._failed.items()))
        if len(self._failed) > 1:
            count = f"{len(self._failed)} runs failed, the first"
            raise EngineError(f"{count} ({run}): {error.message}", f"{error.hint} {_GO_ON}".strip())
        raise type(error)(
            f"A run failed ({run}): {error.message}", f"{error.hint} {_GO_ON}".strip()
        )

    # --- one run, in its own thread ---------------------------------------------------------------

    def _play(self, run: Run) -> None:
        root = self._root(run)
        with Project.open(root) as project:
            loop = Loop(
                project,
                self._settings.recipe,
                seed=run.seed,
                device=self._settings.device,
                threads=self._settings.threads,
                emit=lambda event: self._say(run, event),
                cancel=self._cancel,
            )
            if run.strategy == INITIAL:
                self._play_initial(run, loop)
            else:
                self._play_strategy(run, loop)

    def _play_initial(self, run: Run, loop: Loop) -> None:
        self._round(run, 0, loop.rounds(), lambda: play_first_round(loop, self._settings.initial))
        for strategy in self._study.strategies:
            root = self._root(Run(run.fold, run.seed, strategy))
            if not root.exists():
                loop.project.fork(root).close()

    def _play_strategy(self, run: Run, loop: Loop) -> None:
        finished = loop.rounds()
        for number in range(1, self._settings.rounds + 1):
            self._round(
                run, number, finished, lambda: play_round(loop, run.strategy, self._settings.budget)
            )

    def _round(
        self, run: Run, number: int, finished: list[RoundRecord], play: Callable[[], RoundRecord]
    ) -> None:
        if self._cancel.is_set():
            raise Cancelled("Stopped.", _GO_ON)
        reused = number < len(finished)
        if not reused:
            self._say(run, Event("step", {"name": "round", "state": "started", "number": number}))
        record = finished[number] if reused else play()
        if reused:
            data = {"name": "round", "state": "reused", "number": number, "dice": record.mean()}
            self._say(run, Event("step", data))
        else:
            self._finished()
        with self._count:
            self._rounds_done += 1
        self._announce()

    def _announce(self) -> None:
        runs = len(self._study.folds) * len(self._study.seeds)
        total = runs * (1 + self._settings.rounds * len(self._study.strategies))
        data = {
            "phase": "study",
            "done": self._rounds_done,
            "total": total,
            "unit": "rounds",
            "seconds_left": None,
        }
        self._emit(Event("progress", {**data, "jobs": self._settings.jobs}))

    def _say(self, run: Run, event: Event) -> None:
        """Pass an event on with the name of its run."""
        self._emit(Event(event.kind, {**event.data, **vars(run)}, event.time))

    # --- projects ---------------------------------------------------------------------------------

    def _root(self, run: Run) -> Path:
        return run_folder(self._folder, run.fold, run.seed) / folder_name(run.strategy)

    def _begin(self, run: Run) -> None:
        """Make the project of round 0, on the shared images, unless it is there."""
        root = self._root(run)
        if root.exists():
            return
        part, data = root.with_name(f"{root.name}.part"), self._data
        shutil.rmtree(part, ignore_errors=True)
        with Project.create(
            part,
            name=data.name,
            labels=data.labels,
            channels=data.channels,
            data=data.root,
            unit=data.settings.unit,
        ) as project:
            project.cases.set_role(self._tests[run.fold], "test")
            project.settings.patch, project.settings.arithmetic = (
                data.settings.patch,
                data.settings.arithmetic,
            )
        part.rename(root)

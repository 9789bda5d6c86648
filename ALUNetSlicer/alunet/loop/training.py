"""The training of a round: what it is given, and the record of what it gave."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alunet.loop import children
from alunet.loop.memory import shares_of
from alunet.loop.round_record import RoundRecord, effort_in, measured, selected
from alunet.project import Round
from alunet.query import Streams
from alunet.schema import Event
from alunet.storage.files import sha256_file

if TYPE_CHECKING:
    from alunet.loop.loop import Loop


def train(loop: Loop, number: int, folder: Path) -> dict[str, Any]:
    """Train a round on everything that is annotated, and evaluate; see `steps.learn`."""
    project = loop.project
    recipe = children.recipe_here(loop)
    settings = recipe.first if project.rounds.anew(number) else recipe.training(number)
    annotated = {
        case: {"file": str(project.annotations.maps.sound_file(case)), "slices": count}
        for case, count in project.annotations.cases().items()
    }
    for own in project.cases.all():
        if own.name in annotated:
            project.cases.files.check_case(own.name, own.images)
        elif own.role == "test" and own.label is not None:
            project.cases.files.check_case(own.name, [*own.images, own.label])
    for case, voxels in project.annotations.unseen_voxels().items():
        text = f"{case}: {voxels:,} drawn voxels are where its image is 0: no training sees them."
        loop.emit(Event("message", {"text": text}))
    tests = [
        {"name": case.name, "label": str(case.label), "silent": list(case.silent)}
        for case in project.cases.all("test")
        if case.label
    ]

    def heard(event: Event) -> None:
        # labels that came between the start and this moment were read, too
        if (event.data.get("name"), event.data.get("state")) == ("refresh labels", "finished"):
            project.learned.note()

    learned: dict[str, Any] = loop.run_child(
        "alunet.loop.steps:learn",
        folder / "train.log",
        heard=heard,
        labels=str(project.training_labels_dir),
        annotated=annotated,
        tests=tests,
        structures={name: value for name, value in project.labels.items() if value > 0},
        training=asdict(settings),
        scoring=loop.scoring,
        weights_in=str(start) if (start := start_weights(loop, number)) else None,
        weights_out=str(loop.weights(number)),
        seed=int(Streams(loop.seed, number).sequence("training").generate_state(1)[0]),
        device=loop.device,
        threads=loop.threads,
    )
    return learned


def start_weights(loop: Loop, number: int) -> Path | None:
    """Return the final weights of the round before, from which a training starts; None where it
    starts from scratch.

    They are not its model, if that is the best checkpoint.
    """
    if number == 0 or loop.recipe.mode == "scratch" or loop.project.rounds.anew(number):
        return None
    return loop.recipe.training(number - 1).final_weights(loop.weights(number - 1))


def note_weights(loop: Loop, number: int, trained: dict[str, Any]) -> None:
    """Note the hashes of the weights of a round, within the caller's transaction.

    Args:
        trained: what the record says of the training.
    """
    model, files = loop.weights(number), loop.project.cases.files
    files.note(model, None, trained["sha256"])
    final = loop.recipe.training(number).final_weights(model)
    if final != model:
        files.note(final, None, trained["final_sha256"])
    beside = model.with_name("structures.json")  # which structures the outputs are
    if beside.is_file():
        files.note(beside)


def make_record(loop: Loop, begun: Round, learned: dict[str, Any]) -> RoundRecord:
    """Describe a round whose training is done.

    Args:
        learned: what `train` gave.
    """
    project, costs = loop.project, loop.project.annotations.costs()
    query = begun.query or {"diagnostics": {}, "costs": {}}
    spent = {**query["costs"], **learned["costs"]}
    effort = effort_in(loop.folder())
    return RoundRecord(
        number=begun.number,
        strategy=begun.strategy,
        seed=loop.seed,
        budget=begun.budget,
        labelled_samples=costs.samples,
        labelled_slices=costs.slices,
        labelled_voxels=costs.voxels,
        fraction=costs.fraction,
        pool_samples=int(project.samples.counted().sum()),
        class_voxels=[int(count) for count in project.annotations.class_voxels()],
        metrics=measured(project.labels, learned["evaluation"]),
        selected=selected(
            project.worklist.suggestions(begun.number), project.worklist.chosen(begun.number)
        ),
        diagnostics=query["diagnostics"],
        seconds={name: cost["seconds"] for name, cost in spent.items()},
        peak_memory_mb={name: cost["peak_memory_mb"] for name, cost in spent.items()},
        recipe=loop.recipe.to_json(),
        training=learned["training"],
        hashes={
            "weights": learned["training"]["sha256"],
            "final weights": learned["training"].get("final_sha256", learned["training"]["sha256"]),
            "plans": sha256_file(loop.framework.plan_file(project.nnunet_dir)),
            "pool": project.pool.sha256(),
        },
        device=learned["device"],
        arithmetic=children.arithmetic(loop).to_json(),
        threads=loop.threads,
        tests=sorted(learned["evaluation"].get("cases") or {}),
        anew=project.rounds.anew(begun.number),
        memory_shares=shares_of(loop).shares,
        effort=None if effort is None else effort.to_json(),
    )

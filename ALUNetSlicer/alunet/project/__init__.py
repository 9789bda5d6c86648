"""The project folder: images, annotations, rounds, and the database that knows about them."""

from alunet.project.annotations import Costs
from alunet.project.project import Case, Project
from alunet.project.rounds import Round, RoundState
from alunet.project.samples import Suggestion

__all__ = ["Case", "Costs", "Project", "Round", "RoundState", "Suggestion"]

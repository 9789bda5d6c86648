"""The project folder: images, annotations, rounds, and the database that knows about them."""

from alunet.project.annotations import Costs
from alunet.project.journal import Round
from alunet.project.project import Case, Project
from alunet.project.samples import Suggestion

__all__ = ["Case", "Costs", "Project", "Round", "Suggestion"]

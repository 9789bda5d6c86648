"""The project folder: images, annotations, rounds, and the database that knows about them."""

from alunet.project.annotated import Costs
from alunet.project.case_table import Case
from alunet.project.project import Project
from alunet.project.rounds import Round, RoundState
from alunet.project.suggestions import Suggestion

__all__ = ["Case", "Costs", "Project", "Round", "RoundState", "Suggestion"]

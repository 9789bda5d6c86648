"""The project folder: images, annotations, rounds, and the database that knows about them."""

from .annotations import Costs, Suggestion
from .dataset import DatasetDescription, read_dataset_description
from .journal import Round
from .project import Case, Project

__all__ = ["Case", "Costs", "DatasetDescription", "Project", "Round", "Suggestion", "read_dataset_description"]

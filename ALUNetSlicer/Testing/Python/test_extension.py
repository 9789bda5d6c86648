"""The extension's files: CMake lists them all, their folders hardly depend on each other, and
Slicer can read them.
"""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import re
import sys
import unittest
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import ALUNetSlicerLib
from ALUNetSlicerLib.shell import module

MODULE = Path(ALUNetSlicerLib.__file__).resolve().parents[1]
ROOT = MODULE.parent
LIBRARY = MODULE / "ALUNetSlicerLib"
ARROWS = 30
"""At most so many dependencies between two folders of the Slicer side."""


def imported(file: Path) -> Iterator[str]:
    """Dotted names of all that a file of the Slicer side imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names
            )


def arrows() -> set[tuple[str, str]]:
    """Pairs of folders of which the first imports from the second."""
    found = set()
    for file in sorted(LIBRARY.rglob("*.py")):
        folder = file.relative_to(LIBRARY).parts[0]
        names = [name.split(".") for name in imported(file)]
        found |= {
            (folder, name[1])
            for name in names
            if name[0] == "ALUNetSlicerLib" and name[1] != folder
        }
    return found


class FoldersTest(unittest.TestCase):
    """The Slicer side is a few folders that hardly depend on each other."""

    def test_every_file_is_in_a_folder_and_imports_by_full_names(self):
        self.assertEqual([file.name for file in LIBRARY.glob("*.py")], ["__init__.py"])
        for file in sorted(LIBRARY.rglob("*.py")):
            self.assertEqual(
                [name for name in imported(file) if name.startswith(".")], [], file.name
            )

    def test_of_the_engine_it_imports_the_words_alone(self):
        """A room that is added to the engine is forbidden, too, before the import contract names
        it.
        """
        for file in [MODULE / "ALUNetSlicer.py", *sorted(LIBRARY.rglob("*.py"))]:
            engine = {name for name in imported(file) if name.split(".")[0] == "alunet"}
            self.assertEqual(
                {name for name in engine if not f"{name}.".startswith("alunet.schema.")},
                set(),
                file.name,
            )

    def test_there_are_few_arrows_between_folders(self):
        folders = {file.parent.name for file in LIBRARY.glob("*/__init__.py")}
        self.assertLessEqual({end for arrow in arrows() for end in arrow}, folders)
        self.assertLessEqual(len(arrows()), ARROWS, sorted(arrows()))

    def test_no_folder_depends_on_itself_by_way_of_others(self):
        below: dict[str, set[str]] = {}
        for folder, other in arrows():
            below.setdefault(folder, set()).add(other)
        # raises a CycleError that names the circle
        list(graphlib.TopologicalSorter(below).static_order())

    def test_a_reload_forgets_every_file_of_every_folder(self):
        files = {file.relative_to(MODULE).with_suffix("") for file in LIBRARY.rglob("*.py")}
        names = {".".join(file.parts).removesuffix(".__init__") for file in files}
        before = {name: importlib.import_module(name) for name in names}
        with patch.dict(sys.modules):
            module.forget()
            ours = ("ALUNetSlicerLib", "alunet")
            self.assertEqual([name for name in sys.modules if name.split(".")[0] in ours], [])
            for name in names:
                self.assertIsNot(importlib.import_module(name), before[name])


@unittest.skipUnless(
    (MODULE / "CMakeLists.txt").is_file(), "an installed extension has no CMakeLists.txt"
)
class ExtensionTest(unittest.TestCase):
    def listed(self) -> set[str]:
        """What CMake installs, by the patterns and names of its file."""
        text = (
            (MODULE / "CMakeLists.txt")
            .read_text(encoding="utf-8")
            .replace("${MODULE_NAME}", "ALUNetSlicer")
        )
        found = set(re.findall(r"^  ([^\s*]+\.(?:py|ui|png|txt))$", text, re.MULTILINE))
        for folder in re.findall(r"^  (\S+)/\*\.py$", text, re.MULTILINE):
            found |= {
                file.relative_to(MODULE).as_posix() for file in (MODULE / folder).rglob("*.py")
            }
        return found - set(re.findall(r"list\(REMOVE_ITEM \w+ (\S+)\)", text))

    def test_every_file_is_installed_and_every_listed_file_is_there(self):
        files = {MODULE / "ALUNetSlicer.py"}
        for folder in ("ALUNetSlicerLib", "alunet"):
            files |= set((MODULE / folder).rglob("*.py"))
        files |= set((MODULE / "Testing" / "Python").glob("*.py")) - {
            MODULE / "Testing" / "Python" / "conftest.py"
        }
        for name in ("dicom_files.py", "planned_project.py"):  # the tests in Slicer use them, too
            files.add(MODULE / "Testing" / name)
        files |= {file for file in (MODULE / "Resources").rglob("*") if file.is_file()}
        self.assertEqual(self.listed(), {file.relative_to(MODULE).as_posix() for file in files})

    def test_the_page_about_the_house_names_every_folder_and_files_that_are_there(self):
        text = (
            (ROOT / "docs" / "architecture.md")
            .read_text(encoding="utf-8")
            .partition("## The Slicer side")[2]
        )
        rows = re.findall(r"^\| `(\w+)/` \| .+ \| (.+) \|$", text, re.MULTILINE)
        self.assertEqual(
            {folder for folder, _ in rows},
            {file.parent.name for file in LIBRARY.glob("*/__init__.py")},
        )
        for _, files in rows:
            for name in re.findall("`(.+?)`", files):
                self.assertTrue((LIBRARY / name).is_file(), name)
        self.assertIn(f"between folders: {len(arrows())}, in no circle", text)

    def test_the_catalog_entry_names_the_extension_of_the_cmake_project(self):
        entry = json.loads((ROOT / "ALUNetSlicer.json").read_text(encoding="utf-8"))
        self.assertEqual(entry["category"], "Active Learning")
        self.assertTrue({"$schema", "scm_url"} <= set(entry))
        self.assertIn(
            "project(ALUNetSlicer)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
        )

    def test_the_form_is_a_qmrmlwidget_whose_names_occur_once(self):
        form = ElementTree.parse(MODULE / "Resources" / "UI" / "ALUNetSlicer.ui").getroot()
        self.assertEqual(form.find("widget").get("class"), "qMRMLWidget")
        names = [widget.get("name") for widget in form.iter("widget")]
        self.assertEqual(len(names), len(set(names)))
        kinds = ("QPushButton", "QCheckBox", "QComboBox", "QLineEdit", "QSpinBox", "QDoubleSpinBox")
        for widget in form.iter("widget"):
            if widget.get("class") in kinds:
                tips = [
                    part for part in widget.findall("property") if part.get("name") == "toolTip"
                ]
                self.assertTrue(tips, f"{widget.get('name')} says nothing of itself")

    def test_every_control_of_the_form_is_used_by_a_test_of_the_panel(self):
        form = ElementTree.parse(MODULE / "Resources" / "UI" / "ALUNetSlicer.ui").getroot()
        kinds = {
            "QPushButton",
            "QRadioButton",
            "QCheckBox",
            "QComboBox",
            "QLineEdit",
            "QSpinBox",
            "QDoubleSpinBox",
            "QTableWidget",
            "QListWidget",
            "ctkCollapsibleButton",
        }
        controls = {
            widget.get("name") for widget in form.iter("widget") if widget.get("class") in kinds
        }
        tests = [
            file.read_text(encoding="utf-8")
            for file in (MODULE / "Testing" / "Python").glob("*panel*.py")
        ]
        used = re.findall(
            r'self\.(?:click|type|turn|choose|pick|tick|fold)\("(\w+)"', "\n".join(tests)
        )
        self.assertEqual(controls - set(used), set())

    def test_what_is_translated_is_literal_text(self):
        """Slicer's tools find it by reading; what is put in is named, so that a translation can
        move it.
        """
        for file in sorted(LIBRARY.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == "_"
                ):
                    text = node.args[0]
                    where = f"{file.name}, line {node.lineno}"
                    self.assertIsInstance(text, ast.Constant, where)
                    self.assertNotRegex(text.value, r"%[sd]|\{[0-9]*\}", where)

    def test_the_slicer_side_names_no_strategy(self):
        """It offers what the engine has, so that a strategy that is added by one file is
        offered, too.
        """
        known = set()
        for file in (MODULE / "alunet" / "query" / "strategies").glob("*.py"):
            known |= set(
                re.findall(r'@register\(\s*"([a-z0-9-]+)"', file.read_text(encoding="utf-8"))
            )
        self.assertTrue(known, "the registry was found")
        for file in sorted((MODULE / "ALUNetSlicerLib").rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    self.assertNotIn(node.value, known, f"{file.name}, line {node.lineno}")

"""The extension's files: what CMake lists is what lies in the folders, and what Slicer reads is well-formed."""

from __future__ import annotations

import ast
import json
import re
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import ALUNetSlicerLib

MODULE = Path(ALUNetSlicerLib.__file__).resolve().parents[1]
ROOT = MODULE.parent


@unittest.skipUnless((MODULE / "CMakeLists.txt").is_file(), "an installed extension has no CMakeLists.txt")
class ExtensionTest(unittest.TestCase):
    def listed(self) -> set[str]:
        text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", "ALUNetSlicer")
        return set(re.findall(r"^  (\S+\.(?:py|ui|png|txt))$", text, re.MULTILINE))

    def test_every_file_is_listed_and_every_listed_file_is_there(self):
        files = {MODULE / "ALUNetSlicer.py"}
        for folder in ("ALUNetSlicerLib", "alunet"):
            files |= set((MODULE / folder).rglob("*.py"))
        files |= set((MODULE / "Testing" / "Python").glob("*.py")) - {MODULE / "Testing" / "Python" / "conftest.py"}
        files.add(MODULE / "Testing" / "planned_project.py")  # the tests in Slicer use it, too
        files |= {file for file in (MODULE / "Resources").rglob("*") if file.is_file()}
        self.assertEqual(self.listed(), {file.relative_to(MODULE).as_posix() for file in files})

    def test_the_catalog_entry_names_the_extension_of_the_cmake_project(self):
        entry = json.loads((ROOT / "ALUNetSlicer.json").read_text(encoding="utf-8"))
        self.assertEqual(entry["category"], "Active Learning")
        self.assertTrue({"$schema", "scm_url"} <= set(entry))
        self.assertIn("project(ALUNetSlicer)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))

    def test_the_form_is_a_qmrmlwidget_whose_names_occur_once(self):
        form = ElementTree.parse(MODULE / "Resources" / "UI" / "ALUNetSlicer.ui").getroot()
        self.assertEqual(form.find("widget").get("class"), "qMRMLWidget")
        names = [widget.get("name") for widget in form.iter("widget")]
        self.assertEqual(len(names), len(set(names)))
        kinds = ("QPushButton", "QCheckBox", "QComboBox", "QLineEdit", "QSpinBox", "QDoubleSpinBox")
        for widget in form.iter("widget"):
            if widget.get("class") in kinds:
                tips = [part for part in widget.findall("property") if part.get("name") == "toolTip"]
                self.assertTrue(tips, f"{widget.get('name')} says nothing of itself")

    def test_every_control_of_the_form_is_used_by_a_test_of_the_panel(self):
        form = ElementTree.parse(MODULE / "Resources" / "UI" / "ALUNetSlicer.ui").getroot()
        kinds = {"QPushButton", "QRadioButton", "QCheckBox", "QComboBox", "QLineEdit", "QSpinBox", "QDoubleSpinBox",
                 "QTableWidget", "QListWidget", "ctkCollapsibleButton"}  # fmt: skip
        controls = {widget.get("name") for widget in form.iter("widget") if widget.get("class") in kinds}
        tests = [file.read_text(encoding="utf-8") for file in (MODULE / "Testing" / "Python").glob("*panel*.py")]
        used = re.findall(r'self\.(?:click|type|turn|choose|pick|tick|fold)\("(\w+)"', "\n".join(tests))
        self.assertEqual(controls - set(used), set())

    def test_what_is_translated_is_literal_text(self):
        """Slicer's tools find it by reading; what is put in is named, so that a translation can move it."""
        for file in sorted((MODULE / "ALUNetSlicerLib").rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                    text = node.args[0]
                    where = f"{file.name}, line {node.lineno}"
                    self.assertIsInstance(text, ast.Constant, where)
                    self.assertNotRegex(text.value, r"%[sd]|\{[0-9]*\}", where)

    def test_the_strategies_of_the_panel_are_those_of_the_engine(self):
        from ALUNetSlicerLib.panel import rounds

        folder = MODULE / "alunet" / "query" / "strategies"
        known = set()
        for file in folder.glob("*.py"):
            known |= set(re.findall(r'@register\(\s*"([a-z0-9-]+)"', file.read_text(encoding="utf-8")))
        named = {name for name, _ in (*rounds.FIRST, *rounds.LATER) if name}
        self.assertTrue(known, "the registry was found")
        self.assertLessEqual(named, known)
        simulated = {"full", "random-fg33", "random-fg66"}  # these look at labels that nobody has drawn yet
        self.assertEqual(known - named - simulated, set())

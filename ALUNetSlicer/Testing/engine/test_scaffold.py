"""The house itself: what a newcomer finds, and the rules that hold it together."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ENGINE = ROOT / "ALUNetSlicer" / "alunet"
MODULES = sorted(ENGINE.rglob("*.py"))
SLICER_SIDE = ROOT / "ALUNetSlicer" / "ALUNetSlicerLib"
HEAVY = (
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "torch",
    "nnunetv2",
    "SimpleITK",
    "numba",
    "typer",
    "rich",
)

sys.path.insert(0, str(ROOT / "Scripts"))
import check_types  # noqa: E402
import demo  # noqa: E402
import environment  # noqa: E402


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ENGINE.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module", ["alunet", "alunet.errors", "alunet.schema", "alunet.simulation"]
)
def test_importing_loads_nothing_heavy(module):
    loaded = run_python(
        f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert loaded == "[]"


def test_showing_a_project_loads_nothing_that_computes():
    """What `alunet status` and the service import before they open a project."""
    computes = ("torch", "nnunetv2", "scipy", "sklearn", "numba", "pandas", "matplotlib", "pydicom")
    loaded = run_python(
        "import sys, alunet.loop.status, alunet.project; "
        f"print([name for name in {computes} if name in sys.modules])"
    )
    assert loaded == "[]"


def test_simulate_is_loaded_on_first_use():
    shown = run_python(
        "import alunet; print(alunet.simulate.__module__, callable(alunet.simulate))"
    )
    assert shown == "alunet.simulation.study True"


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import alunet

    with pytest.raises(AttributeError, match="simulat3"):
        _ = alunet.simulat3


FLOOR_0 = [
    "errors.py",
    *(f"schema/{file.name}" for file in sorted((ENGINE / "schema").glob("*.py"))),
]


@pytest.mark.parametrize("name", FLOOR_0)
def test_floor_0_needs_the_standard_library_alone(name):
    imported = set()
    for node in ast.walk(ast.parse((ENGINE / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= set(sys.stdlib_module_names) | {"alunet"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ENGINE).as_posix())
def test_a_file_stays_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_a_class_name_is_defined_once_on_both_sides():
    defined: dict[str, list[str]] = {}
    for path in [*MODULES, *sorted(SLICER_SIDE.rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                place = path.relative_to(ENGINE.parent).as_posix()
                defined.setdefault(node.name, []).append(place)
    assert {"Job", "JobProgress"} <= set(defined)  # the engine's, and the Slicer side's
    assert {name: places for name, places in defined.items() if len(places) > 1} == {}


def test_the_icon_is_a_png_of_128_by_128():
    content = (ROOT / "ALUNetSlicer" / "Resources" / "Icons" / "ALUNetSlicer.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (128, 128)


def test_the_extension_promises_no_module_that_is_not_there():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    code = "\n".join(line.split("#")[0] for line in text.splitlines())
    for folder in re.findall(r"add_subdirectory\((\w+)\)", code):
        assert (ROOT / folder / "CMakeLists.txt").exists()


def test_every_dependency_is_pinned():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = set(re.findall(r'^  "([A-Za-z0-9-]+)[>=]', project, flags=re.MULTILINE))
    pins = (ROOT / "Scripts" / "constraints.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==", pins, flags=re.MULTILINE))
    assert {"torch", "nnunetv2", "pytest"} <= {name.lower() for name in wanted} <= pinned


def test_another_python_is_refused_in_one_line(monkeypatch):
    for version in ((3, 9, 18), (3, 14, 0)):
        monkeypatch.setattr(sys, "version_info", version)
        with pytest.raises(environment.SetupError, match=r"3\.10 to 3\.13") as caught:
            environment.check_python()
        assert "\n" not in str(caught.value)


def test_the_environment_is_remade_when_what_it_holds_changes(monkeypatch):
    known = environment.wanted(gpu=False)
    assert known == environment.wanted(gpu=False)
    assert known != environment.wanted(gpu=True)
    monkeypatch.setattr(environment, "CONSTRAINTS", ROOT / "LICENSE")
    assert known != environment.wanted(gpu=False)


def test_a_cpu_build_of_torch_is_looked_for_first(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    sources = [arguments for _, arguments in environment.cpu_sources("2.13.0")]
    assert "--no-index" in sources[0]
    assert "torch==2.13.0+cpu" in sources[1]
    assert not any("torchvision" in word for word in sources[2])
    monkeypatch.setattr(sys, "platform", "darwin")
    assert [arguments for _, arguments in environment.cpu_sources("2.13.0")] == [["torch==2.13.0"]]


def test_the_demo_takes_its_defaults_only_where_nothing_is_said():
    assert demo.with_defaults([])[:4] == ["--strategy", "random", "--strategy", "usimc"]
    options = demo.with_defaults(["--strategy", "entropy", "--rounds=1"])
    assert options.count("--strategy") == 1
    assert "--rounds" not in options
    own, passed_on = demo.parse(["--data", "my data", "--rounds", "5", "--gpu"])
    assert (own.data, own.gpu, passed_on) == (Path("my data"), True, ["--rounds", "5"])


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ([], "3"),
        (["--durations", "9"], "3"),
        (["ALUNetSlicer/Testing/engine"], "3"),
        (
            ["ALUNetSlicer/Testing/engine/test_scaffold.py::test_simulate_is_loaded_on_first_use"],
            None,
        ),
        (["-k", "pool"], None),
        (["-kpool"], None),
        (["-n", "2"], None),
        (["--pdb"], None),
    ],
)
def test_the_tests_run_on_all_cores_unless_few_are_chosen(monkeypatch, options, number):
    found = importlib.util.spec_from_file_location("run_all_tests", ROOT / "Scripts" / "test.py")
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    monkeypatch.setattr(script, "usable_cores", lambda: 3)
    said = script.processes(options)
    assert said[said.index("--dist") + 1] == "loadfile"
    assert (said[said.index("-n") + 1] if "-n" in said else None) == number


FOUND = """\
ALUNetSlicer/alunet/pool.py:7: error: Incompatible return value type  [return-value]
ALUNetSlicer/alunet/pool.py:7: note: This is why
ALUNetSlicer/alunet/loop/loop.py:1: error: Missing type arguments for generic type "list"  [type-arg]
ALUNetSlicer/alunet/loop/steps.py:2: error: Missing type arguments for generic type "ndarray"  [type-arg]
ALUNetSlicer\\alunet\\loop\\steps.py:3: error: Returning Any  [no-any-return]
"""  # noqa: E501 - as mypy writes it


@pytest.mark.parametrize(
    ("allowed", "failures", "hints"),
    [
        ({"pool": 1, "loop": 2}, [], []),
        ({"pool": 1, "loop": 3}, [], ["loop: 2 type errors, 3 allowed"]),
        ({"pool": 1, "loop": 1}, ["loop: 2 type errors, 1 allowed"], []),
        ({"pool": 0, "loop": 2}, FOUND.splitlines()[:2], []),
        ({"loop": 2, "model": 4}, FOUND.splitlines()[:2], ["model: 0 type errors, 4 allowed"]),
    ],
)
def test_type_errors_may_not_grow_and_a_strict_room_has_none(allowed, failures, hints):
    wrong, fewer = check_types.compare(check_types.by_room(FOUND), allowed)
    assert [line.split(". ")[0] for line in wrong] == failures
    assert [line.split(". ")[0] for line in fewer] == hints


def test_every_room_has_a_number_of_type_errors():
    rooms = {
        path.stem
        for path in ENGINE.iterdir()
        if not path.stem.startswith("_") and (path.is_dir() or path.suffix == ".py")
    }
    assert set(json.loads(check_types.ALLOWED.read_text(encoding="utf-8"))) == rooms


def test_a_check_of_types_that_cannot_run_fails(monkeypatch, capsys):
    monkeypatch.setattr(check_types, "COMMAND", ("-m", "no_such_mypy"))
    assert check_types.main() == 1
    assert "no_such_mypy" in capsys.readouterr().out

"""The command `alunet`, as a person meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import alunet
from alunet import cli

ENGINE = Path(alunet.__file__).parents[1]


def command(*words, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "alunet", *map(str, words)],
        cwd=ENGINE,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100", **environment},
    )
    return done.returncode, done.stdout, done.stderr


def test_help_teaches_with_an_example_and_loads_nothing_heavy():
    heavy = ("numpy", "pandas", "torch", "nnunetv2", "matplotlib", "SimpleITK")
    script = (
        "import sys; sys.argv = ['alunet', '--help']; from alunet.cli import main; code = main();"
        f"print(code, [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ENGINE, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "alunet phantom" in done.stdout


@pytest.mark.parametrize("name", [entry.name for entry in cli.app.registered_commands])
def test_each_command_explains_itself_with_an_example(name):
    code, out, _ = command(name, "--help")
    assert code == 0
    assert f"alunet {name}" in out.split("\n", 3)[3] or "--strategy" in out


def test_version():
    assert command("--version")[:2] == (0, f"alunet {alunet.__version__}\n")


def test_strategies_for_people_and_for_programs():
    code, out, _ = command("strategies")
    assert code == 0
    for word in (
        "usimf",
        "usimc",
        "random-fg66",
        "hidden labels",
        "Monte-Carlo dropout",
        "MIDL 2024",
        "eta=1",
    ):
        assert word in out
    code, out, _ = command("strategies", "--json")
    table = {entry["name"]: entry for entry in json.loads(out)}
    assert table["random"]["needs"] == []
    assert table["usimf"]["options"]["eta"] == 1.0
    assert {"title", "summary", "source"} <= table["full"].keys()


def test_phantom_writes_a_data_set(tmp_path):
    folder = tmp_path / "my phäntom"
    code, out, _ = command("phantom", folder, "--cases", 2)
    assert (code, out) == (0, f"2 cases in {folder}\n")
    assert (folder / "dataset.json").is_file()
    code, out, err = command("phantom", folder)
    assert (code, out) == (2, "")
    assert err.startswith("alunet: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere", "--strategy", "random"], "There is no folder nowhere."),
        (["nowhere", "--strategy", "usimg"], "Did you mean 'usim"),
        (["nowhere", "--strategy", "usimf:eta=high"], "usimf:eta cannot be 'high'."),
        (["nowhere", "--strategy", "random", "--budget", "0"], "--budget 0 is not possible."),
        (["nowhere", "--strategy", "random", "--preset", "fast"], "Unknown preset 'fast'."),
    ],
)
def test_a_mistake_takes_one_line_that_names_it(tmp_path, words, expected):
    code, out, err = command("simulate", *words, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.startswith("alunet: ")
    assert expected in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_option_is_a_usage_error(tmp_path):
    code, _, err = command("simulate", tmp_path)
    assert code == 2
    assert "--strategy" in err
    assert "Traceback" not in err


def test_an_unexpected_error_takes_one_line_and_the_log_tells_the_rest(monkeypatch, capsys):
    def fail(**_):
        raise RuntimeError("all is lost\nand more")

    monkeypatch.delenv("ALUNET_DEBUG", raising=False)
    monkeypatch.setattr(cli, "_asked", lambda: fail)
    assert cli.main() == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "RuntimeError: all is lost" in line
    log = Path(line.rsplit(" ", 1)[1].strip())
    assert "Traceback" in log.read_text(encoding="utf-8")
    log.unlink()


def test_debug_shows_the_traceback(monkeypatch, capsys):
    def fail(**_):
        raise RuntimeError("all is lost")

    monkeypatch.setenv("ALUNET_DEBUG", "1")
    monkeypatch.setattr(cli, "_asked", lambda: fail)
    assert cli.main() == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_130(monkeypatch, capsys):
    def fail(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_asked", lambda: fail)
    assert cli.main() == 130
    assert capsys.readouterr().err.strip() == "alunet: Stopped."

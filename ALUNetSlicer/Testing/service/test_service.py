"""The door of the service: token, addresses, one shape for every error, one service a root."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from running import Service

from alunet import query
from alunet.loop import PRESETS
from alunet.model.child import with_source
from alunet.schema import API


def run(*options, seconds=60):
    command = [sys.executable, "-m", "alunet", "serve", *map(str, options)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=with_source(),
        timeout=seconds,
    )


def test_the_strategies_are_those_of_the_registry(common):
    """A strategy that is added by one file is offered everywhere."""
    found = {info["name"]: info for info in common.ok("GET", "/strategies")}
    assert sorted(found) == query.names()
    assert list(found)[:2] == ["usimf", "spread"], "what a panel offers first"
    assert {name for name, info in found.items() if info["first"]} == {
        "fixed-interval",
        "full",
        "random",
        "spread",
    }
    assert {name for name, info in found.items() if info["simulation"]} == {
        "full",
        "random-fg33",
        "random-fg66",
    }
    assert all(info["title"] and info["summary"] for info in found.values())


def test_health(common):
    health = common.ok("GET", "/health")
    assert health["api"] == API and health["disk_free"] > 0 and health["memory_free"] > 0
    assert health["jobs_running"] == 0 and "torch" in health["versions"]
    assert health["device"] == "cpu" and health["devices"] == [], "it was told so"


def test_the_device_is_looked_for(tmp_path):
    service = Service(tmp_path / "root", "--device", "auto")
    for _ in range(600):
        if (health := service.ok("GET", "/health"))["device"] != "unknown":
            break
        time.sleep(0.1)
    service.stop()
    assert health["device"] in ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}]
)
@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/nothing", "/projects/x/events"])
def test_nothing_is_said_without_the_token(common, header, path):
    answer = requests.get(common.url + path, headers=header, timeout=10)
    assert answer.status_code == 401 and answer.json()["code"] == "unauthorized"
    assert (
        answer.headers["X-ALUNet-Api"] == str(API)
        and answer.headers["WWW-Authenticate"] == "Bearer"
    )


def test_the_token_is_kept_where_only_its_owner_can_read(common):
    for name in ("token", "service.json"):
        file = common.root / ".alunet" / name
        assert common.token in file.read_text(encoding="utf-8")
        if os.name != "nt":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_a_token_that_others_can_read_is_refused(tmp_path):
    file = tmp_path / "token"
    file.write_text("x" * 40, encoding="ascii")
    file.chmod(0o644)
    done = run("--root", tmp_path / "root", "--token-file", file)
    assert done.returncode == 2 and "chmod 600" in done.stderr and not done.stdout


def test_a_public_address_needs_tls_or_an_explicit_flag(tmp_path):
    done = run("--root", tmp_path / "root", "--host", "0.0.0.0")
    assert done.returncode == 2 and "--allow-insecure-http" in done.stderr and not done.stdout


def test_the_same_command_finds_the_service_that_runs(common):
    done = run("--root", common.root)
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[0]) == common.announced


def test_an_idle_service_ends(tmp_path):
    done = run("--root", tmp_path / "root", "--idle", "0.03")
    assert done.returncode == 0
    assert not (tmp_path / "root" / ".alunet" / "service.json").exists()


def test_a_project_is_made_once(common):
    request = {"name": "Leber – é", "labels": ["liver"], "channels": ["CT"], "seed": 3}
    made = common.ok("POST", "/projects", 201, json=request)
    assert common.ok("POST", "/projects", 200, json=request) == made
    assert made["labels"] == {"background": 0, "liver": 1}
    common.refused("POST", "/projects", 409, "exists", json={**request, "labels": ["kidney"]})
    assert made in common.ok("GET", "/projects")
    status = common.ok("GET", f"/projects/{made['id']}")["status"]
    assert (status["step"], status["train_for"]) == ("add", PRESETS["cpu"].train_for)
    common.refused("POST", "/projects", 409, "exists", json={**request, "train_for": 60})
    common.refused("POST", "/projects", 409, "exists", json={**request, "unit": "slice"})
    timed = {**request, "name": "timed", "train_for": 60}
    found = common.ok("POST", "/projects", 201, json=timed)
    assert common.ok("POST", "/projects", 200, json=timed) == found
    assert common.ok("GET", f"/projects/{found['id']}")["status"]["train_for"] == 60


def test_a_time_beyond_all_numbers_is_refused(common):
    """JSON of Python's own kind, which other programs do not write."""
    about = '"name": "x", "labels": ["liver"], "channels": ["CT"], "train_for"'
    project = common.project("beyond")
    for time_ in ("NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400):
        headers = {"Content-Type": "application/json"}
        body = f"{{{about}: {time_}}}"
        common.refused("POST", "/projects", 400, "bad_request", data=body, headers=headers)
        body = f'{{"kind": "round", "options": {{"train_for": {time_}}}}}'
        common.refused(
            "POST", f"/projects/{project}/jobs", 400, "bad_request", data=body, headers=headers
        )


def test_a_project_that_was_removed_and_made_again_is_another_one(common):
    request = {"name": "Again", "labels": ["liver"], "channels": ["CT"]}
    first = common.ok("POST", "/projects", 201, json=request)
    shutil.rmtree(common.root / first["id"])
    second = common.ok("POST", "/projects", 201, json=request)
    assert second["id"] != first["id"]
    common.refused("GET", f"/projects/{first['id']}", 404, "not_found")


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"labels": []},
        {"labels": ["a", "a"]},
        {"channels": []},
        {"channels": [""]},
        {"preset": "huge"},
        {"epochs": 0},
        {"train_for": 0},
        {"train_for": 1e9},
        {"train_for": "5m"},
        {"unit": "volume"},
        {"train_for": 60, "epochs": 2},
        {"train_for": 60, "iterations": 2},
        {"seed": -1},
        {"labels": "liver"},
    ],
)
def test_projects_that_cannot_be(common, change):
    before = common.ok("GET", "/projects")
    request = {"name": "bad", "labels": ["liver"], "channels": ["CT"], **change}
    common.refused("POST", "/projects", 400, "bad_request", json=request)
    assert common.ok("GET", "/projects") == before


PATHS = ["/projects/..", "/projects/%2e%2e", "/projects/.alunet", "/projects/x%2f..%2fy", "/nix"]


@pytest.mark.parametrize("path", PATHS)
def test_paths_stay_inside_the_root(common, path):
    session = requests.Session()
    request = requests.Request(
        "GET", common.url + path, headers={"Authorization": f"Bearer {common.token}"}
    ).prepare()
    request.url = common.url + path
    answer = session.send(request, timeout=10)
    assert answer.status_code == 404 and answer.json()["code"] == "not_found"


def test_bodies_are_bounded_and_wrong_methods_are_told(common):
    headers = {"Content-Type": "application/json"}
    common.refused("POST", "/projects", 413, "too_large", data=b"[" * (1 << 19), headers=headers)
    common.refused("POST", "/projects", 400, "bad_request", data=b"{", headers=headers)
    common.refused("PUT", "/projects", 405, "not_allowed")


def test_the_description_names_every_address(common):
    description = common.ok("GET", "/openapi.json")
    assert {"/v1/health", "/v1/projects", "/v1/projects/{project}/worklist"} <= set(
        description["paths"]
    )


def test_the_page_of_requests_is_what_the_service_says():
    script = Path(__file__).parents[3] / "Scripts" / "api.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr

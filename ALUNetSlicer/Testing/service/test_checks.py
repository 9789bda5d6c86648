"""A service looks by itself whether its projects are what was stored."""

from __future__ import annotations

import time
from types import SimpleNamespace

from alunet.project import Project, checking
from alunet.serve.checks import Checks
from alunet.serve.projects import Projects
from alunet.serve.settings import ServiceSettings


def wait(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_each_project_is_checked_once_in_a_while_when_nothing_else_is_to_do(tmp_path):
    Project.create(
        tmp_path / "p-1", name="p", labels={"background": 0, "a": 1}, channels=["MRI"]
    ).close()
    projects, work = Projects(ServiceSettings(tmp_path, "token")), SimpleNamespace(busy=True)

    def checked() -> float | None:
        with projects.open("p-1") as project:
            found = project.settings.checked
        return None if found is None else found["moment"]

    checks = Checks(projects, 3600.0, lambda: work.busy, look=0.02)
    try:
        time.sleep(0.3)
        assert checked() is None, "a job has the computer"
        work.busy = False
        wait(lambda: checked() is not None)
        first = checked()
        time.sleep(0.3)
        assert checked() == first, "the hour is not over"
        with projects.open("p-1") as project:
            assert project.settings.checked["damages"] == 0
            project.settings.checked = {**project.settings.checked, "moment": first - 7200}
        wait(lambda: checked() > first)
    finally:
        checks.close()


def test_no_error_ends_the_checks_and_health_names_it(tmp_path, monkeypatch):
    """A root that cannot be listed for a while, and a project whose check is a defect."""
    Project.create(
        tmp_path / "p-1", name="p", labels={"background": 0, "a": 1}, channels=["MRI"]
    ).close()
    projects, causes = Projects(ServiceSettings(tmp_path, "token")), ["root", "project"]
    listed, done = projects.ids, []

    def ids() -> list[str]:
        if causes[:1] == ["root"]:
            causes.pop(0)
            raise OSError("the disk is gone")
        return listed()

    def check(project: Project, emit: object) -> object:
        if causes:
            causes.pop(0)
            raise ZeroDivisionError("a defect")
        done.append(project.name)
        return checking.check(project, emit)

    monkeypatch.setattr(projects, "ids", ids)
    monkeypatch.setattr("alunet.serve.checks.check", check)
    checks, said = Checks(projects, 3600.0, lambda: False, look=0.02), set()
    try:
        wait(lambda: said.update(checks.stuck()) or done)
    finally:
        checks.close()
    assert "The check of the projects fails: OSError: the disk is gone." in said
    assert "The check of the projects fails: ZeroDivisionError: a defect." in said

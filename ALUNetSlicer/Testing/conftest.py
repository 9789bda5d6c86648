"""What all tests share: one thread, a home of their own, and the real images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before numpy and torch are loaded: two busy threads on a shared small machine are slower than one.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "Agg"

import processes  # noqa: E402
import pytest  # noqa: E402
import small_disks  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
processes.name_this_run()

LONGEST = (
    "test_kills",
    "test_installation",
    "test_simulation",
    "test_jobs",
    "test_training",
    "test_loop",
    "test_panel",
    "test_submit",
    "test_hand",
    "test_service_kills",
    "test_model_outputs",
    "test_rounds",
    "test_console",
)
"""Files that start first, where the tests run in several processes: the processes end at about
the same time.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and mark a test that asks for the real images `real`."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker("real")


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that a test does reaches the person's home folder or their nnU-Net folders."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "HOME",
            "USERPROFILE",
            "APPDATA",
            "LOCALAPPDATA",
            "XDG_CONFIG_HOME",
            "XDG_CACHE_HOME",
        ):
            patch.setenv(name, str(home))
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_process_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a file of tests leaves running is ended, and fails the file's last test."""
    yield
    if (asking := sys.modules.get("alunet.imaging.asking")) is not None:
        asking.stop()  # the next file of tests starts it again
    left = processes.end(tmp_path_factory.getbasetemp())
    if left:
        pytest.fail("Processes were left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images: the variable ALUNET_DATA, or `shared/data` beside the repository.

    Where it is missing the test is skipped with that reason; with CI=true it fails, so that a
    machine which should have the images cannot pass without them.
    """
    folder = Path(os.environ.get("ALUNET_DATA") or ROOT.parent / "shared" / "data")
    if folder.is_dir():
        return folder
    reason = (
        f"no real images in {folder}: set ALUNET_DATA to the folder that holds Task04_Hippocampus"
    )
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own in memory, of 16 MiB or what a test's indirect parameter says."""
    try:
        with small_disks.mounted(tmp_path / "small disk", getattr(request, "param", 16)) as disk:
            yield disk
    except small_disks.NoMount as reason:
        pytest.skip(str(reason))


@pytest.fixture
def fill(small_disk: Path) -> Callable[[int], Path]:
    """Fills the small disk up to so many KiB; returns the file to remove."""
    return lambda left: small_disks.fill(small_disk, left)

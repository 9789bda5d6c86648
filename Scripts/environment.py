"""The environment `.venv` in the checkout: made once, then found ready in an instant.

The other scripts call `ensure()`. It needs nothing but Python and pip, and keeps the full output of
pip in `.venv/install.log`. What is installed follows pyproject.toml, in the versions of
Scripts/constraints.txt.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = VENV / "install.log"
STAMP = VENV / "alunet-stamp.txt"
CONSTRAINTS = ROOT / "Scripts" / "constraints.txt"
OLDEST, NEWEST = (3, 10), (3, 13)
# PyTorch's own package indexes: on PyPI, Linux has the CUDA build alone and Windows the CPU build
# alone.
TORCH_INDEX = "https://download.pytorch.org/whl/"


class SetupError(Exception):
    """The environment cannot be made; the text says what to do."""


def ensure(gpu: bool = False) -> Path:
    """Make `.venv` where it is missing or out of date.

    Args:
        gpu: install the CUDA build of torch even where no NVIDIA GPU is found.

    Returns:
        The Python interpreter of the environment.

    Raises:
        SetupError: the running Python is unsupported, or an installation failed.
    """
    check_python()
    gpu = gpu or has_gpu()
    python = venv_executable("python")
    fingerprint = wanted(gpu)
    if python.exists() and STAMP.exists() and STAMP.read_text(encoding="utf-8") == fingerprint:
        return python
    started = time.monotonic()
    print(f"Preparing {VENV} with Python {platform.python_version()}", flush=True)
    make_venv(python)
    step(2, "PyTorch for " + ("an NVIDIA GPU" if gpu else "the CPU"))
    install_torch(python, gpu)
    step(3, "ALUNet and what it needs")
    pip(python, "install", "--constraint", CONSTRAINTS, "--editable", f"{ROOT}[dev]")
    STAMP.write_text(fingerprint, encoding="utf-8")
    print(f"The environment is ready after {time.monotonic() - started:.0f} s.", flush=True)
    return python


def check_python() -> None:
    """Raise SetupError where the running Python is not supported."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        known = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
        raise SetupError(
            f"This is Python {platform.python_version()}; ALUNet needs Python {known}. "
            "Start the script with one of those, for example: python3.12 " + " ".join(sys.argv)
        )


def has_gpu() -> bool:
    """Whether an NVIDIA driver answers on this machine."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "GPU" in listed.stdout


def usable_cores() -> int:
    """Return the number of cores that this process may use, within the limits of its container."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such limit
        return cores


def venv_executable(name: str) -> Path:
    """Path of a program in the environment."""
    return VENV / "Scripts" / f"{name}.exe" if os.name == "nt" else VENV / "bin" / name


def wanted(gpu: bool) -> str:
    """Fingerprint of the right environment: versions, build of torch, place (its programs hold
    its path).
    """
    parts = [str(ROOT), platform.python_version(), "gpu" if gpu else "cpu"]
    parts += [path.read_text(encoding="utf-8") for path in (ROOT / "pyproject.toml", CONSTRAINTS)]
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()


def clean_environment() -> dict[str, str]:
    """The environment variables for programs in `.venv`: packages from elsewhere stay out."""
    removed = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_USER", "PIP_REQUIRE_VIRTUALENV")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    return {**kept, "PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def step(number: int, title: str) -> None:
    """Announce one of the three steps."""
    print(f"[{number}/3] {title}", flush=True)


def make_venv(python: Path) -> None:
    """Create the environment with pip, unless one of this very Python and place is there
    already.
    """
    step(1, "The environment")
    place = VENV / "alunet-place.txt"
    identity = f"{ROOT}\n{platform.python_version()}\n{sys.base_prefix}\n"
    if python.exists() and place.exists() and place.read_text(encoding="utf-8") == identity:
        return
    if VENV.exists():
        shutil.rmtree(VENV)
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)],
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    if made.returncode:
        make_venv_without_ensurepip(python)
    place.write_text(identity, encoding="utf-8")


def make_venv_without_ensurepip(python: Path) -> None:
    """Where Python comes without `ensurepip`, let its own pip install pip in the environment."""
    bare = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)]
    seed = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "pip"]
    for command in (bare, seed):
        done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
        if done.returncode:
            raise SetupError(
                "This Python cannot make an environment: install its venv module "
                "(Debian and Ubuntu: apt install python3-venv) or pip 22.3 or newer, then start "
                "again."
            )


def pinned(package: str) -> str:
    """The version of a package in the constraints."""
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        if line.startswith(package + "=="):
            return line.split("==")[1].split(";")[0].strip()
    raise SetupError(f"{CONSTRAINTS} pins no {package}; take the file from the repository again.")


def installed_torch(python: Path) -> str:
    """Version of torch in the environment, with its build ("2.13.0+cpu"), or an empty text."""
    code = "import importlib.metadata as m; print(m.version('torch'))"
    done = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, env=clean_environment()
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def install_torch(python: Path, gpu: bool) -> None:
    """Install torch from the first source with the right build: the wrong one costs gigabytes or
    the GPU.

    Its dependencies come with ALUNet's own, under the same constraints.
    """
    version = pinned("torch")
    present, _, build = installed_torch(python).partition("+")
    if present == version and not (gpu and build == "cpu"):
        return
    sources = gpu_sources(version) if gpu else cpu_sources(version)
    for note, arguments in sources:
        if note:
            print(f"      {note}", flush=True)
        try:
            pip(python, "install", "--force-reinstall", "--no-deps", *arguments)
            return
        except SetupError:
            if arguments is sources[-1][1]:
                raise


def cpu_sources(version: str) -> list[tuple[str, list[str]]]:
    """Where a CPU build of torch may come from, best first: a note for the person and arguments of
    pip.

    torchvision is a dependency of a dependency and never imported; it comes along where its builds
    are told apart in the same way.
    """
    default = [f"torch=={version}"]
    if sys.platform == "darwin":
        return [("", default)]
    pair = [f"torch=={version}+cpu", f"torchvision=={pinned('torchvision')}+cpu"]
    hurry = ["--retries", "1", "--timeout", "15"]
    return [
        ("", ["--no-index", *default]),  # a wheel in the person's own find-links
        ("", ["--index-url", TORCH_INDEX + "cpu", *hurry, *pair]),
        ("PyTorch's CPU packages cannot be reached: the larger default build is taken.", default),
    ]


def gpu_sources(version: str) -> list[tuple[str, list[str]]]:
    """Where a CUDA build of torch comes from."""
    if sys.platform == "win32":
        return [("", ["--index-url", TORCH_INDEX + "cu130", f"torch=={version}+cu130"])]
    return [("", [f"torch=={version}"])]


def pip(python: Path, *arguments: str | Path) -> None:
    """Run pip in the environment, with one line of progress here and everything in the log.

    Raises:
        SetupError: with the last lines of pip.
    """
    command = [str(python), "-m", "pip", *map(str, arguments)]
    tail: list[str] = []
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**clean_environment(), "PYTHONUTF8": "1"},
        ) as process,
    ):
        for line in process.stdout or ():
            log.write(line)
            tail = [*tail, line.rstrip()][-8:]
            show(line.strip())
    show("")
    if process.returncode:
        words = "\n  ".join(tail)
        raise SetupError(f"pip failed; its last words, of which {LOG} has all:\n  {words}")


def show(line: str) -> None:
    """Overwrite the line of progress; where nobody watches, only what takes long is printed."""
    telling = line.startswith(("Collecting", "Downloading", "Processing", "Building", "Installing"))
    if line and not telling:
        return
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        text = f"      {line}"[:width].ljust(width) if line else " " * width + "\r"
        print(f"\r{text}", end="", flush=True)
    elif line.startswith("Installing collected"):
        print(f"      installing {line.count(',') + 1} packages", flush=True)


def main() -> int:
    """Make the environment and say where it is."""
    try:
        print(ensure(gpu="--gpu" in sys.argv[1:]))
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Put this version of the engine on another computer: over ssh, without root, from the source at
hand.

The source goes to ``~/.local/share/alunet/engine-VERSION`` there, and its own
`Scripts/environment.py` makes an environment beside it. Started again it goes on where it was;
other versions stay as they are.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

from alunet.agent.connections.links import Access
from alunet.agent.connections.ssh import HOME, Ssh, SshError, explain
from alunet.agent.connections.target import Target
from alunet.errors import InputError

_PARTS = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "Scripts/environment.py",
    "Scripts/constraints.txt",
)
_SCRIPT = f"""
set -e
mkdir -p "{HOME}"
cd "{HOME}"
rm -rf incoming
mkdir incoming
tar xzf - -C incoming
rm -rf ALUNetSlicer Scripts
mv incoming/* .
rmdir incoming
for python in ${{1:-python3.12 python3.13 python3.11 python3.10 python3}}; do
  if "$python" -c \
    'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    exec "$python" -u Scripts/environment.py </dev/null
  fi
done
echo "alunet: no Python 3.10 to 3.13"
exit 3
"""
_NO_PYTHON, _SSH_FAILED = 3, 255


def bootstrap(target: Target, access: Access, tell: Callable[[str], None]) -> None:
    """Make the engine ready on the host of an ssh target.

    Args:
        access: `python` is the interpreter there to make the environment with; without it one is
            looked for.
        tell: gets lines of progress for a person.

    Raises:
        InputError: the target is not ssh, or no source is at hand.
        SshError: no way there, or the host cannot do it; the message carries its last words.
    """
    if target.kind != "ssh":
        raise InputError(f"{target.name} is not reached by ssh.", "Write it like ssh://me@gpu-box.")
    ssh = Ssh(target, access.ssh_options)
    content = packed_source(source())
    tell(f"Sending the source to {target.host} ({len(content) / 2**20:.1f} MiB).")
    _install(ssh, content, access.python, tell)
    version = ssh.run(f'exec "{HOME}/.venv/bin/python" -m alunet --version').strip()
    tell(f"{version} is ready on {target.host}.")


def source() -> Path:
    """Folder of the source that this agent runs from; raises InputError where it is not
    complete.
    """
    root = Path(__file__).resolve().parents[3]
    missing = [part for part in _PARTS if not (root / part).is_file()]
    if missing:
        raise InputError(
            f"The source beside this agent is not complete: {missing[0]} is missing.",
            "Use a checkout.",
        )
    return root


def packed_source(root: Path) -> bytes:
    """What a host needs of the source, as a tar.gz."""
    package = root / "ALUNetSlicer" / "alunet"
    files = [root / part for part in _PARTS] + sorted(package.rglob("*.py"))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for file in files:
            archive.add(file, file.relative_to(root).as_posix(), filter=_anonymous)
    return packed.getvalue()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def _install(ssh: Ssh, content: bytes, python: str, tell: Callable[[str], None]) -> None:
    """Send the source and make the environment; its lines are told as they come."""
    last: deque[str] = deque(maxlen=8)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with ssh.start(_SCRIPT, [python], "-o", "ClearAllForwardings=yes", **pipes) as process:
        if process.stdin is None or process.stdout is None:
            raise SshError("ssh", "ssh has no pipes.", "This is a defect; please report it.")
        try:
            process.stdin.write(content)
            process.stdin.close()
        except BrokenPipeError:
            pass  # ssh ended; its words say why
        for line in process.stdout:
            words = line.decode("utf-8", "replace").rstrip()
            last.append(words)
            tell(f"  {words}")
    if process.returncode == _NO_PYTHON:
        hint = "Install one there without root (conda, uv), and name it: --python /path/to/python3"
        raise SshError("no_python", f"{ssh.target.host} has no Python 3.10 to 3.13.", hint)
    if process.returncode == _SSH_FAILED:
        raise explain(ssh.target, "\n".join(last))
    if process.returncode:
        reason = next(
            (words.strip() for words in reversed(last) if words.strip()), "no reason given"
        )
        hint = (
            f"All of it stands there in {HOME.replace('$HOME', '~')}/.venv/install.log. Start "
            f"again: it goes on."
        )
        raise SshError(
            "install", f"The engine cannot be installed on {ssh.target.host}: {reason}", hint
        )

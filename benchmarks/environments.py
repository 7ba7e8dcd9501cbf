"""Environments of other products, each in a folder of its own under `.bench`, from hashed requirements."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".bench"
_LONGEST = 900  # seconds to download and install one


def environment(name: str) -> Path | None:
    """The Python of the peer `name`, whose packages are in `peers/requirements-NAME.txt`; made where it is missing or
    its requirements have changed. None, with the reason on stderr, where it cannot be made: there is no network."""
    wanted = (HERE / "peers" / f"requirements-{name}.txt").read_bytes()
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / "made-from.txt"
    if stamp.exists() and stamp.read_bytes() == wanted:
        return python
    print(f"installing {name} into {folder} …", file=sys.stderr, flush=True)
    uv = Path(sys.executable).with_name("uv")
    make = [[uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder]]
    requirements = HERE / "peers" / f"requirements-{name}.txt"
    make.append([uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", requirements])
    for command in make:
        try:
            subprocess.run([str(part) for part in command], check=True, timeout=_LONGEST)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            return None
    stamp.write_bytes(wanted)
    return python

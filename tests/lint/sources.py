# SPDX-License-Identifier: GPL-2.0-or-later
"""What the checks share: the files of the repository, and how a check ends."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SKIP = 77  # Meson's exit code for a skipped test


def tracked():
    """Paths relative to the root, as git knows them; without git, all but build/ and dot folders."""
    try:
        done = subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"],
            capture_output=True, check=True)
        names = done.stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, below, files in os.walk(ROOT):
            below[:] = [d for d in below if not d.startswith(".") and d not in ("build", "__pycache__")]
            names += [os.path.relpath(os.path.join(folder, f), ROOT) for f in files]
    return sorted(n for n in names if n and (ROOT / n).is_file() and not (ROOT / n).is_symlink())


def c_files():
    return [n for n in tracked() if n.endswith((".c", ".h"))]


def text_of(name):
    """The text of a file, or None when it is not text."""
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def skip(missing):
    print(f"SKIP: needs {missing}; run tools/setup")
    sys.exit(SKIP)


def finish(findings, looked_at):
    for line in findings:
        print(line)
    print(f"{len(findings)} findings in {looked_at}")
    sys.exit(1 if findings else 0)

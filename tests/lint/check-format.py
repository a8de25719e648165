#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""clang-format agrees with every C file."""

import os
import shutil
import subprocess

import sources


def main():
    # Versions differ in details, so one decides: that of Debian 12.
    tool = shutil.which("clang-format-14")
    if tool is None:
        sources.skip("clang-format-14")
    files = sources.c_files()
    done = subprocess.run([tool, "--dry-run", "-Werror", "--style=file", *files], cwd=sources.ROOT,
                          capture_output=True, text=True, check=False,
                          env={**os.environ, "LC_ALL": "C.UTF-8"})
    findings = [line for line in done.stderr.splitlines() if ": error:" in line]
    if done.returncode != 0 and not findings:
        findings = done.stderr.splitlines() or [f"{tool} ended with {done.returncode}"]
    sources.finish(findings, f"{len(files)} files; tools/dev format corrects them")


main()

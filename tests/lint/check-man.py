#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""check-man.py BUILD-DIR: each program at the top of the build folder has a manual page that formats
without a warning and names every option of its --help."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import sources

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def programs_in(folder):
    return sorted(str(p) for p in pathlib.Path(folder).iterdir()
                  if p.is_file() and os.access(p, os.X_OK) and p.read_bytes()[:4] == b"\x7fELF")


def page_of(program):
    found = sorted((sources.ROOT / "docs" / "man").glob(f"{program}.[1-8]"))
    return found[0] if found else None


def plain(text):
    """roff text with the escapes that hide an option taken away."""
    text = re.sub(r"\\f(\[[^\]]*\]|.)", "", text)
    return text.replace("\\-", "-").replace("\\(hy", "-").replace("\\&", "")


def format_warnings(page):
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
                          env={**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"})
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines or ([f"man ended with {done.returncode}"] if done.returncode != 0 else [])


def check(path):
    name = pathlib.Path(path).name
    page = page_of(name)
    if page is None:
        return [f"{name}: no docs/man/{name}.1 or .8"]
    where = page.relative_to(sources.ROOT)
    findings = [f"{where}: {line}" for line in format_warnings(page)]
    try:
        done = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=20, check=False,
                              stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return findings + [f"{name} --help does not end"]
    if done.returncode != 0 or not done.stdout:
        return findings + [f"{name} --help ends with {done.returncode} and prints nothing to read"]
    page_text = plain(page.read_text(encoding="utf-8"))
    known = set(OPTION.findall(page_text))
    findings += [f"{where}: does not name {option}, which --help does"
                 for option in sorted(set(OPTION.findall(done.stdout)) - known)]
    return findings


def main():
    if shutil.which("man") is None:
        sources.skip("man")
    programs = programs_in(sys.argv[1])
    findings = [] if programs else [f"no program in {sys.argv[1]}; build first"]
    for path in programs:
        findings += check(path)
    sources.finish(findings, f"{len(programs)} programs")


main()

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""cppcheck finds nothing; what it gets wrong is suppressed here, each with its reason."""

import os
import shutil
import subprocess
import sys
import tempfile

import sources

SUPPRESS = (
    "missingInclude", "missingIncludeSystem", "unmatchedSuppression", "normalCheckLevelMaxBranches",
    "unknownMacro",  # GLib's declaring macros without the library's configuration
    "preprocessorErrorDirective",  # headers of libraries are not read
    # g_assert() ends the program, which the analysis of values does not always see
    "nullPointerRedundantCheck", "assertWithSideEffect",
    "invalidPrintfArgType_uint",  # the compilers' -Wformat=2 knows the real types
    "invalidPointerCast",  # tables of fields by offset
    "invalidFunctionArg",  # thinks that mmap() of anonymous memory may not be given -1
    "readdirCalled",  # readdir() is safe on a stream of one's own, readdir_r() is deprecated
    "arrayIndexThenCheck",  # NULL-terminated arrays are one longer than their bound
    "memleak:vtpm/attester/fore-attester.c",  # g_thread_pool_push() takes the job over
    "uninitvar:forecast/fore-features.c",  # written in an inner loop over the same index
)


def main():
    # Each version finds other things, and is wrong about others: that of Debian 12 decides.
    if shutil.which("cppcheck") is None or " 2.10" not in subprocess.run(
            ["cppcheck", "--version"], capture_output=True, text=True, check=False).stdout:
        sources.skip("cppcheck 2.10")
    files = [n for n in sources.c_files() if n.endswith(".c")]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="fore-cppcheck-") as listing:
        listing.write("\n".join(files))
        listing.flush()
        done = subprocess.run(
            ["cppcheck", "--quiet", "--std=c11", "--language=c", "--enable=warning,portability",
             "--library=gtk", "--library=posix", "--inline-suppr", "--error-exitcode=1",
             f"-j{os.cpu_count() or 1}", "-I", ".", "-D_GNU_SOURCE", '-DFORE_VERSION="x"',
             "--template={file}:{line}: {severity}: {message} [{id}]", f"--file-list={listing.name}",
             *[f"--suppress={s}" for s in SUPPRESS], *sys.argv[1:]],
            cwd=sources.ROOT, capture_output=True, text=True, check=False)
    findings = [line for line in done.stderr.splitlines() if ": " in line]
    if done.returncode not in (0, 1):
        findings.append(f"cppcheck ended with {done.returncode}: {done.stdout[-300:]}")
    sources.finish(findings, f"{len(files)} files")


main()

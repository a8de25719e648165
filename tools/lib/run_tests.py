# SPDX-License-Identifier: GPL-2.0-or-later
"""The body of tools/test: builds, runs the suites through meson, counts single tests from what meson
recorded, and ends with one line of totals."""

import argparse
import dataclasses
import fnmatch
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build"
SUITES = ("unit", "agent", "qtest", "e2e", "fuzz", "lint")
MESON = "/usr/bin/meson"
BUDGET_S = 25 * 60
TAP = re.compile(r"^\s*(not )?ok\b\s*\d*\s*(?:-\s*)?([^#]*?)\s*(?:#\s*(SKIP|TO" r"DO)\b\s*(.*))?$", re.I)
ASAN_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "LSAN_OPTIONS": f"suppressions={ROOT / 'tests' / 'lsan.supp'}:print_suppressions=0",
    "G_SLICE": "always-malloc",
}


@dataclasses.dataclass
class Totals:
    passed: int = 0
    failed: list = dataclasses.field(default_factory=list)
    skipped: list = dataclasses.field(default_factory=list)
    times: list = dataclasses.field(default_factory=list)


def say(text):
    print(text, flush=True)


def run(*argv, env=None, log=None):
    """Runs a command in the root.  With a log its output goes there, and the end of it here when it fails."""
    full = {**os.environ, **(env or {})}
    if log is None:
        return subprocess.run(argv, cwd=ROOT, env=full, check=False).returncode
    with open(log, "wb") as out:
        code = subprocess.run(argv, cwd=ROOT, env=full, stdout=out, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, check=False).returncode
    if code != 0:
        say(f"--- the end of {log}")
        lines = pathlib.Path(log).read_text(errors="replace").splitlines()
        errors = [line for line in lines[:-40] if re.search(r"\b(error|ERROR|FAILED)\b", line)]
        say("\n".join(errors[:60] + lines[-40:]))
    return code


def configured(build, *options, env=None):
    """A configured build folder; build/deps may be in it already."""
    if (build / "build.ninja").exists():
        return 0
    build.mkdir(parents=True, exist_ok=True)
    return run(MESON, "setup", str(build), str(ROOT), *options, env=env, log=build / "setup.log")


def build_all(build, *options, env=None):
    return (configured(build, *options, env=env) or
            run("ninja", "-k", "0", "-C", str(build), env=env, log=build / "ninja.log"))


# --- counting ---

def allowed_skips():
    """Lines "PATTERN  # why", matched against "program test-path"."""
    lines = (ROOT / "tests" / "allowed-skips").read_text().splitlines()
    return [line.split("#", 1)[0].strip() for line in lines if line.split("#", 1)[0].strip()]


def tap_points(text):
    """(ok, name, skip reason or None) of each point; only lines at the left edge, no nested ones."""
    for line in text.splitlines():
        match = TAP.match(line)
        if match and (line.startswith("ok") or line.startswith("not ok")):
            skip = (match[4] or "no reason given") if (match[3] or "").upper() == "SKIP" else None
            yield not match[1], match[2] or "unnamed", skip


def note_skip(totals, name, reason, allowed):
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed):
        totals.skipped.append(f"{name}: {reason}")
    else:
        totals.failed.append(f"{name}: unexpected skip: {reason}")


def count_program(totals, record, prefix, allowed):
    """One line of meson's log: a program, of one or many tests."""
    program = prefix + record["name"].split(" / ")[-1].split(":")[-1].strip()
    output = record.get("stdout", "") or ""
    points = list(tap_points(output))
    failed_before = len(totals.failed)

    if record["result"] == "SKIP" and not points:
        lines = [line for line in output.splitlines() if line.strip()]
        note_skip(totals, program, lines[-1] if lines else "no reason given", allowed)
        return
    for ok, name, skip in points:
        if skip is not None:
            note_skip(totals, f"{program} {name}", skip, allowed)
        elif ok:
            totals.passed += 1
        else:
            totals.failed.append(f"{program} {name}")
    if record["result"] not in ("OK", "SKIP") and len(totals.failed) == failed_before:
        totals.failed.append(f"{program}: {record['result']}")  # a crash, a timeout, a missing plan
    elif not points:
        totals.passed += 1


def run_suites(totals, build, suites, base, prefix="", env=None, timeout_factor=1):
    log = build / "meson-logs" / f"{base}.json"
    log.unlink(missing_ok=True)
    argv = [MESON, "test", "-C", str(build), "--no-rebuild", "--logbase", base, "--print-errorlogs",
            "-t", str(timeout_factor)]
    for suite in suites:
        argv += ["--suite", suite]
    code = run(*argv, env=env, log=build / f"{base}.log")
    before = totals.passed + len(totals.failed) + len(totals.skipped)
    if log.exists():
        allowed = allowed_skips()
        for line in log.read_text(errors="replace").splitlines():
            count_program(totals, json.loads(line), prefix, allowed)
    if totals.passed + len(totals.failed) + len(totals.skipped) == before:
        totals.failed.append(f"{prefix}{' '.join(suites)}: meson ran no test (exit code {code})")


# --- the steps ---

def step(totals, name, function, *args, **kwargs):
    start, before = time.monotonic(), (totals.passed, len(totals.failed))
    say(f"==> {name}")
    result = function(*args, **kwargs)
    seconds = time.monotonic() - start
    totals.times.append((name, seconds))
    say(f"    {name}: {totals.passed - before[0]} passed, {len(totals.failed) - before[1]} failed, "
        f"{seconds:.0f} s")
    return result


def must_build(totals, name, code):
    """A build is one check: it compiles without a warning."""
    if code == 0:
        totals.passed += 1
    else:
        totals.failed.append(name)
    return code == 0


def sanitizers(totals, full):
    build = BUILD / "asan"
    code = build_all(build, "-Db_sanitize=address,undefined", "-Db_lundef=false", "--buildtype=debug",
                     "-Doptimization=1")
    if not must_build(totals, "asan: build", code):
        return
    run_suites(totals, build, ["unit", "agent"], "test-asan", "asan:", ASAN_ENV, 4)
    if full:
        for exe in sorted((build / "tests" / "fuzz").glob("fuzz-*")):
            if exe.is_file() and os.access(exe, os.X_OK):
                corpus = ROOT / "tests" / "fuzz" / "corpus" / exe.name.removeprefix("fuzz-")
                code = run(str(exe), str(corpus), "1000000", env=ASAN_ENV, log=build / f"{exe.name}.log")
                must_build(totals, f"asan:{exe.name}: a million mutations", code)


def many_quotes(totals):
    """A leaked handle shows after three quotes, a leaked session after 64, other things much later."""
    code = run(str(BUILD / "tests" / "unit" / "test-tpm"), "-m", "slow", "-p", "/attest/attack",
               log=BUILD / "many-quotes.log")
    must_build(totals, "100,000 quotes without a leaked session or handle", code)


def clang(totals):
    code = build_all(BUILD / "clang", env={"CC": "clang"})
    must_build(totals, "clang: build with -Werror", code)


def summary(totals):
    say("")
    for name, seconds in totals.times:
        say(f"{seconds:7.0f} s  {name}")
    total = sum(seconds for _, seconds in totals.times)
    say(f"{total:7.0f} s  in all (goal: {BUDGET_S} s on 2 cores)")
    for line in totals.skipped:
        say(f"skipped: {line}")
    for line in totals.failed:
        say(f"FAILED: {line}")
    say(f"{totals.passed} passed, {len(totals.failed)} failed, {len(totals.skipped)} skipped")
    return 1 if totals.failed or totals.passed == 0 else 0


def main():
    parser = argparse.ArgumentParser(prog="tools/test")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--setup-seconds", type=float, default=0)
    parser.add_argument("suites", nargs="*", metavar="SUITE", choices=[*SUITES, "asan", "clang", []])
    args = parser.parse_args()
    wanted = args.suites or [*SUITES, "asan", "clang"]
    totals = Totals()
    totals.times.append(("set-up", args.setup_seconds))
    plain = [s for s in SUITES if s in wanted]
    if plain:
        ok = step(totals, "build (gcc)", lambda: must_build(totals, "build (gcc)", build_all(BUILD)))
        if ok and "e2e" in plain:
            ok = step(totals, "guest image", lambda: must_build(
                totals, "guest image", run("tools/guest-image", log=BUILD / "guest-image.log")))
        for suite in plain if ok else []:
            step(totals, suite, run_suites, totals, BUILD, [suite], f"test-{suite}")
    if args.full and "unit" in plain:
        step(totals, "many quotes", many_quotes, totals)
    if "asan" in wanted:
        step(totals, "asan (unit, agent)", sanitizers, totals, args.full)
    if "clang" in wanted:
        step(totals, "clang", clang, totals)
    return summary(totals)


sys.exit(main())

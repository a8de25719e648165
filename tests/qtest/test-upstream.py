#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own plugins count the same as ours, side by side in one QEMU: insn, mem and hotpages, built from the source
of the installed QEMU (tools/setup --upstream-plugins), on the known-answer ROM and in a Linux guest.

  test-upstream.py FOLDER-OF-ROMS

insn and mem count inline, each instruction by itself.  hotpages prints all pages but the last of its order, so two of it run with
orders of which the last differ, and the union is all.
"""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "lib"))
import forebench  # noqa: E402
import forelab  # noqa: E402

OURS = os.environ.get("FORE_PLUGIN", str(ROOT / "build/qemu-plugin/libforesee-profiler.so"))
UPSTREAM = ROOT / "build/deps/upstream"
STATE_IDLE = 2
# Ours counts a block when it is entered; one that a page fault leaves in its middle counts whole.  2.4e-6 here.
LEFT_EARLY = 1e-4


class Skip(Exception):
    """What is missing on this machine."""


def check(condition, message):
    if not condition:
        raise AssertionError(message)


@functools.cache
def upstream():
    """Why QEMU's plugins cannot be had, or None; builds them when they are not there."""
    done = subprocess.run([ROOT / "tools/setup", "--quiet", "--upstream-plugins"], capture_output=True, text=True,
                          check=False)
    if done.returncode == 0:
        return None
    return f"QEMU's own plugins cannot be built: {' '.join((done.stderr or done.stdout).split())[-200:]}"


def options(folder, page, hotpages):
    """Values of -plugin: ours and upstream's.  A library that is loaded twice shares its counters, so each gets a
    copy of its own."""
    chosen = [("libinsn", "inline=true"), ("libmem", "inline=true,track=r"), ("libmem", "inline=true,track=w"),
              ("libmem", "inline=true,track=rw")]
    if hotpages:
        chosen += [("libhotpages", "sortby=address"), ("libhotpages", "sortby=writes")]
    values = [f"{OURS},page={page},profile=lean"]
    for i, (library, argument) in enumerate(chosen):
        copy = folder / f"{i}-{library}.so"
        shutil.copy(UPSTREAM / f"{library}.so", copy)
        values.append(f"{copy},{argument}")
    return values


def read_log(path):
    """What upstream's plugins printed at the end: {"insns": [by vCPU], "mem": [r, w, rw], "pages": {address: (reads,
    writes)}}; plugins end in an order of QEMU's, so mem's three are told apart by their size."""
    text = path.read_text()
    mem = sorted(int(n) for n in re.findall(r"mem accesses: (\d+)", text))
    check(len(mem) == 3, f"three counts of mem expected: {text}")
    pages = {a: (int(r), int(w)) for a, r, w in re.findall(r"^(0x\w+), 0x\w+, (\d+), 0x\w+, (\d+)$", text, re.M)}
    return {"insns": [int(n) for n in re.findall(r"cpu \d+ insns: (\d+)", text)], "mem": mem, "pages": pages}


def agrees(what, ours, theirs, more):
    """@ours is @theirs, or above it by at most the share @more."""
    check(theirs <= ours <= theirs * (1 + more), f"{what}: {ours} here, {theirs} upstream")


def compare(found, vcpus, more):
    insns = [v["insns"] for v in vcpus]
    loads, stores = sum(v["loads"] for v in vcpus), sum(v["stores"] for v in vcpus)
    print(f"# instructions {insns}, loads {loads}, stores {stores}; upstream: {found['insns']}, {found['mem']}")
    check(len(insns) == len(found["insns"]), f"{len(insns)} vCPUs here, {len(found['insns'])} upstream")
    for i, (ours, theirs) in enumerate(zip(insns, found["insns"])):
        agrees(f"instructions of vCPU {i}", ours, theirs, more)
    fewer, larger, _ = found["mem"]
    agrees("the fewer of loads and stores", min(loads, stores), fewer, more)
    agrees("the more of loads and stores", max(loads, stores), larger, more)


def run_rom(folder, rom, vcpus):
    page, log = folder / "page", folder / "plugin.log"
    argv = [forelab.QEMU, "-M", "q35", "-m", "64M", "-accel", "tcg", "-cpu", "max", "-smp", vcpus, "-display", "none",
            "-nodefaults", "-bios", rom, "-d", "plugin", "-D", log,
            "-chardev", f"socket,id=qmp,path={folder}/qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control"]
    for value in options(folder, page, True):
        argv += ["-plugin", value]
    with forelab.Lab(folder) as lab:
        process = lab.spawn(argv, folder / "qemu.log")
        forelab.wait_socket(folder / "qmp", process, 60)
        qmp = forelab.Qmp(folder / "qmp")
        while True:  # until all have done their work and halted; each command is a round trip
            qmp.execute("query-status")
            check(process.running(), f"QEMU ended: {process.log_tail()}")
            seen = forelab.read_page(page)
            if len(seen) == vcpus and all(v["state"] == STATE_IDLE and v["syscalls"] > 0 for v in seen):
                break
        qmp.execute("quit")
        process.wait(30)
        qmp.close()
    return read_log(log), forelab.read_page(page)


def check_rom(roms, vcpus):
    with tempfile.TemporaryDirectory(prefix="fore-up-") as name:
        found, seen = run_rom(pathlib.Path(name), roms / "known.bin", vcpus)
    compare(found, seen, 0)
    reads = sum(r for r, _ in found["pages"].values())
    writes = sum(w for _, w in found["pages"].values())
    loads, stores = sum(v["loads"] for v in seen), sum(v["stores"] for v in seen)
    # An access that reads and writes at once is a load and a store with us, and a write with hotpages.
    both = loads + stores - found["mem"][2]
    print(f"# pages {found['pages']}, at once {both}")
    check(writes == stores, f"{stores} stores, upstream's hotpages says {writes}")
    check(reads == loads - both, f"{loads} loads, {both} of them with a store, upstream's hotpages says {reads}")


def check_linux():
    if not forebench.ROOT.joinpath("build/deps/kernel/vmlinuz").exists():
        raise Skip("no build/deps/kernel: run tools/setup")
    with tempfile.TemporaryDirectory(prefix="fore-up-") as name, forelab.Lab(name) as lab:
        folder, image = pathlib.Path(name), forebench.build_image()
        state = forebench.snapshot(lab, image)
        with forebench.WorkGuest(lab, "run", image, options(folder, folder / "page", False), state) as guest:
            for command in ("integer 2", "syscalls 5", "processes 5", "shell /real/gzip -c /tmp/text >/dev/null"):
                guest.measure(command)
            guest.qmp.execute("stop")
        compare(read_log(folder / "run/plugin.log"), forelab.read_page(folder / "page"), LEFT_EARLY)


def main():
    roms = pathlib.Path(sys.argv[1])
    claims = [("rom-on-one-vcpu", lambda: check_rom(roms, 1)), ("rom-on-four-vcpus", lambda: check_rom(roms, 4)),
              ("linux-guest", check_linux)]
    print(f"1..{len(claims)}")
    for number, (name, function) in enumerate(claims, 1):
        name = f"/qtest/upstream/{name}"
        try:
            if upstream():
                raise Skip(upstream())
            function()
            print(f"ok {number} {name}")
        except Skip as missing:
            print(f"ok {number} {name} # SKIP {missing}")
        except Exception:  # pylint: disable=broad-except
            # A claim fails for whatever reason; the next one is tried all the same.
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()), end="")
            print(f"not ok {number} {name}")


main()

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin in QEMUs other than the installed one: of other guests (aarch64, riscv64) of the same version, and of
Debian 12's own version, which it was not built for.

The packages come from the system's own apt sources and are unpacked into build/deps/qemu, not installed.  Guests are a
few instructions written here as words; the comments say what they are and count.
"""

import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PLUGIN = os.environ.get("FORE_PLUGIN", str(ROOT / "build/qemu-plugin/libforesee-profiler.so"))
CACHE = ROOT / "build/deps/qemu"
IDLE = 2
DEADLINE_S = 60
# offsets in a block of the page: docs/wire-format.md
WORDS = {"insns": 48, "blocks": 56, "loads": 64, "stores": 72, "syscalls": 80, "conditional": 88, "privileged": 160}
VALID = {"loads": 2, "syscalls": 4, "branches": 6, "mix": 7, "signature": 10, "numbers": 11, "spaces": 12,
         "working set": 13}


class Skip(Exception):
    """What is missing on this machine."""


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def run(*argv, **more):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=300, **more)


def installed_version():
    done = run("dpkg-query", "-W", "-f", "${Version}", "qemu-system-x86")
    if done.returncode != 0:
        raise Skip("QEMU is not installed from a package")
    return done.stdout.strip()


def unpack(package, version, program):
    """The program out of a package of that version, fetched once."""
    folder = CACHE / f"{package}_{re.sub(r'[^0-9A-Za-z.+~-]', '_', version)}"
    path = folder / "usr/bin" / program
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fore-deb-") as temporary:
            done = run("apt-get", "download", f"{package}={version}", cwd=temporary)
            found = list(pathlib.Path(temporary).glob("*.deb"))
            if done.returncode != 0 or not found:
                raise Skip(f"package {package} {version} cannot be fetched")
            unpacked = run("dpkg-deb", "-x", found[0], folder)
            check(unpacked.returncode == 0, unpacked.stderr)
    if "not found" in run("ldd", path).stdout:
        raise Skip(f"{program}: a library that it needs is not installed")
    return path


# --- guests ---

def branch_riscv(funct3, left, right, offset):
    """A conditional branch: RISC-V unprivileged ISA, 2.5.2."""
    at = offset & 0x1fff
    return (at >> 12 & 1) << 31 | (at >> 5 & 0x3f) << 25 | right << 20 | left << 15 | funct3 << 12 | \
        (at >> 1 & 0xf) << 8 | (at >> 11 & 1) << 7 | 0x63


AARCH64 = (
    0xd2a80403, 0xf2810003,  # 2: x3 = 0x40200800, the vectors
    0xd518c003,              # 1: msr vbar_el1, x3
    0xd2a82000, 0xd2807d01,  # 2: x0 = 0x41000000, x1 = 1000
    0xf9400002, 0xf9000402,  # 1000 each: ldr x2, [x0]; str x2, [x0, #8]
    0xf1000421, 0x54ffffa1,  # 1000 each: subs x1, x1, #1; b.ne
    0xd2800808, 0xd2800641,  # 2: x8 = 64, x1 = 50
    0xd4000001,              # 50: svc #0, and 50 of eret
    0xf1000421, 0x54ffffc1,  # 50 each: subs, b.ne
    0xd503207f, 0x17ffffff,  # 1: wfi
)
AARCH64_START = 0x40200000  # QEMU puts the device tree at the start of memory
AARCH64_VECTOR = 0x800 + 0x200  # an exception of EL1 with its own stack
RISCV64 = (
    0x00100297, 0x3e800313,            # 2: t0 = pc + 1 MiB, t1 = 1000
    0x0002b383, 0x0072b423,            # 1000 each: ld t2, 0(t0); sd t2, 8(t0)
    0xfff30313, branch_riscv(1, 6, 0, -12),  # 1000 each: addi t1, t1, -1; bnez t1
    0x00000e17, 0x02ce0e13,            # 2: t3 = pc + 44, the handler
    0x305e1073,                        # 1: csrw mtvec, t3
    0x04000893, 0x03200313,            # 2: a7 = 64, t1 = 50
    0x00000073,                        # 50: ecall
    0xfff30313, branch_riscv(1, 6, 0, -8),   # 50 each
    0x10500073, 0x0000006f,            # 1: wfi
    0x00000013,                        # a gap: the handler is on a multiple of four
    0x34102ef3, 0x004e8e93,            # 50 each: csrr t4, mepc; addi t4, t4, 4
    0x341e9073, 0x30200073,            # 50 each: csrw mepc, t4; mret
)

def blob(words, extra=()):
    data = bytearray(b"".join(struct.pack("<I", w) for w in words))
    for at, word in extra:
        data.extend(bytes(at + 4 - len(data)))
        struct.pack_into("<I", data, at, word)
    return bytes(data)


def read_page(path):
    data = pathlib.Path(path).read_bytes()
    state = struct.unpack_from("<I", data, 5124)[0]
    counters = {name: struct.unpack_from("<Q", data, 5120 + at)[0] for name, at in WORDS.items()}
    mask = struct.unpack_from("<Q", data, 40)[0]
    numbers = struct.unpack_from("<512Q", data, 1024)
    return state, counters, {name for name, bit in VALID.items() if mask >> bit & 1}, numbers


def wait_for_end(process, page):
    """Until the guest halts: nobody tells, the page shows it."""
    deadline = time.monotonic() + DEADLINE_S
    while not os.path.exists(page) or read_page(page)[0] != IDLE or read_page(page)[1]["syscalls"] < 50:
        check(process.poll() is None, f"QEMU ended: {process.stderr.read() if process.poll() is not None else ''}")
        check(time.monotonic() < deadline, f"no end after {DEADLINE_S} s")
        time.sleep(0.01)


def known_answer(program, machine, code, address, level):
    """The page of a guest that ran to its end: (counters, valid fields, system calls by number)."""
    with tempfile.TemporaryDirectory(prefix="fore-target-") as folder:
        page, image = f"{folder}/page", pathlib.Path(folder, "code")
        image.write_bytes(code)
        argv = [program, *machine, "-display", "none", "-nodefaults", "-m", "64M", "-monitor", "stdio",
                "-device", f"loader,file={image},addr={address:#x},cpu-num=0,force-raw=on",
                "-plugin", f"{PLUGIN},page={page},interval=10,profile={level}"]
        with subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_for_end(process, page)
                process.communicate("quit\n", timeout=60)
            finally:
                process.kill()
        return read_page(page)[1:]


def check_counters(got, want):
    for name, value in want.items():
        check(got[name] == value, f"{name}: {got[name]}, must be {value}; all: {got}")


def test_aarch64():
    program = unpack("qemu-system-arm", installed_version(), "qemu-system-aarch64")
    code = blob(AARCH64, [(AARCH64_VECTOR, 0xd69f03e0)])
    want = {"insns": 5 + 4 * 1000 + 2 + 50 * 4 + 1, "loads": 1000, "stores": 1000, "syscalls": 50,
            "conditional": 1050, "privileged": 1}
    counters, valid, numbers = known_answer(program, ["-M", "virt", "-cpu", "max"], code, AARCH64_START, "standard")
    check_counters(counters, want)
    check(numbers[64] == 50 and sum(numbers) == 50, f"system calls by number: {numbers[64]} of {sum(numbers)}")
    check(valid == {"loads", "syscalls", "branches", "mix", "signature", "numbers"}, f"valid: {valid}")
    counters, valid, _ = known_answer(program, ["-M", "virt", "-cpu", "max"], code, AARCH64_START, "lean")
    check(counters["insns"] == want["insns"], f"insns at level lean: {counters}")
    check(valid == {"syscalls", "branches", "mix", "signature"}, f"valid at level lean: {valid}")


def test_riscv64():
    program = unpack("qemu-system-riscv", installed_version(), "qemu-system-riscv64")
    # The last 1: QEMU leaves the block at WFI, in its middle, and it counts whole, with the jump behind.
    want = {"insns": 2 + 4 * 1000 + 5 + 50 * 7 + 1 + 1, "loads": 1000, "stores": 1000, "syscalls": 50,
            "conditional": 1050}
    machine = ["-M", "virt", "-bios", "none"]
    counters, _, numbers = known_answer(program, machine, blob(RISCV64), 0x80000000, "standard")
    check_counters(counters, want)
    check(numbers[64] == 50, f"system calls by number: {numbers[64]}")


def test_debian_12():
    listed = run("apt-cache", "madison", "qemu-system-x86").stdout
    versions = [v for v in re.findall(r"\| *(\S+) *\|", listed) if re.match(r"1:7\.2\+", v)]
    if not versions:
        raise Skip("these apt sources do not offer QEMU 7.2")
    program = unpack("qemu-system-x86", versions[0], "qemu-system-x86_64")
    with tempfile.TemporaryDirectory(prefix="fore-target-") as folder:
        done = run(program, "-S", "-M", "none", "-display", "none", "-nodefaults",
                   "-plugin", f"{PLUGIN},page={folder}/page", "-monitor", "stdio", input="quit\n")
        left = os.listdir(folder)
    lines = [x for x in done.stderr.splitlines() if "plugin" in x]
    check(done.returncode == 1, f"QEMU {versions[0]} ended with {done.returncode}: {done.stderr}")
    check(len(lines) == 1 and re.search(r"Could not load plugin .*undefined symbol: qemu_plugin_", lines[0]),
          f"its message: {done.stderr}")
    check(not left, f"it left {left} behind")


TESTS = (
    ("/qtest/targets/aarch64-counts-what-is-neutral", test_aarch64),
    ("/qtest/targets/riscv64-counts-what-is-neutral", test_riscv64),
    ("/qtest/targets/qemu-of-another-api-refuses-in-one-line", test_debian_12),
)


def main():
    print(f"TAP version 13\n1..{len(TESTS)}")
    failed = 0
    for i, (name, function) in enumerate(TESTS, 1):
        try:
            function()
            print(f"ok {i} {name}")
        except Skip as why:
            print(f"ok {i} {name} # SKIP {why}")
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            failed += 1
            print("\n".join(f"# {line}" for line in traceback.format_exc().splitlines()))
            print(f"not ok {i} {name}: {str(error).splitlines()[0]}")
        sys.stdout.flush()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

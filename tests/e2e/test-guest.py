#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The demonstration guest alone, without foreseed and without a SEA: what the full path stands on."""

import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import e2e  # noqa: E402
from e2e import check, claim  # noqa: E402
from forelab import MIB, LabError  # noqa: E402

SETTLE_REPORTS = 10  # reports of 200 ms each after the guest's kernel has answered a hot-plug


def reports_after(guest, count):
    """The next @count reports: the guest's own clock is what passes, not a sleep here."""
    first = guest.truth.reports.mark()
    guest.truth.wait(lambda r: guest.truth.reports.mark() >= first + count, 30, f"{count} reports", after=first)
    return guest.truth.reports.items[first:first + count]


@claim("boots-within-60-seconds")
def _(bench):
    check(bench.boot_s < e2e.BOOT_LIMIT_S, f"booted in {bench.boot_s:.1f} s")


@claim("truth-channel-answers-after-a-restore")
def _(bench):
    guest = bench.guest()
    report = guest.truth.wait(lambda r: True, 10)
    check(report["phase"] == "stopped" and report["online"] == 1, f"unexpected report {report}")
    check(300 * MIB < report["mem_total_bytes"] <= 512 * MIB, f"MemTotal {report['mem_total_bytes']}")


@claim("unknown-command-is-refused-by-name")
def _(bench):
    guest = bench.guest()
    for command in ("reboot now", "start 1", "start 1 0", "start 1 1 99999", "hog 0", "start 1 5000"):
        try:
            guest.truth.command(command)
        except LabError as e:
            check(command in str(e) and ("known:" in str(e) or "CYCLES" in str(e)), f"unhelpful: {e}")
        else:
            raise AssertionError(f"'{command}' was accepted")


@claim("hot-plugged-vcpu-stays-offline-without-a-grant")
def _(bench):
    guest = bench.guest()
    guest.add_vcpu()
    guest.truth.wait(lambda r: r["present"] == 2, 20, "the guest's kernel to see the vCPU")
    check(guest.vcpus_plugged() == 2, "QEMU does not count the vCPU")
    online = {r["online"] for r in reports_after(guest, SETTLE_REPORTS)}
    check(online == {1}, f"online counts {online} while nobody brought the vCPU online")


@claim("requested-memory-arrives-offline")
def _(bench):
    guest = bench.guest()
    before = guest.truth.wait(lambda r: True, 10)["mem_total_bytes"]
    guest.request_memory(256 * MIB)
    guest.qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", 20, 0, lambda e: e["data"]["size"] > 0)
    totals = {r["mem_total_bytes"] for r in reports_after(guest, SETTLE_REPORTS)}
    check(guest.memory_plugged() == 256 * MIB, f"the guest took {guest.memory_plugged()} bytes of 256 MiB")
    # What describes the new pages is taken from memory that is online: at most 1/64.
    check(all(before - 4 * MIB <= t <= before for t in totals), f"MemTotal went from {before} to {totals}")


@claim("memory-that-was-never-online-is-given-back")
def _(bench):
    guest = bench.guest()
    guest.request_memory(128 * MIB)
    guest.qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", 20, 0, lambda e: e["data"]["size"] == 128 * MIB)
    after = guest.qmp.events.mark()
    guest.request_memory(0)
    guest.qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", 30, after, lambda e: e["data"]["size"] == 0)


@claim("tampering-leaves-a-measurement")
def _(bench):
    guest = bench.guest()
    check("/tmp/evil" in guest.truth.command("tamper-ima"), "no program was run")
    check("PCR 8" in guest.truth.command("tamper-pcr"), "no PCR was extended")


@claim("hog-shows-in-the-demand-and-ends-by-itself")
def _(bench):
    guest = bench.guest()
    guest.truth.command("hog 1")
    guest.truth.wait(lambda r: r["demand_vcpus"] > 1.0, 10, "the hog's demand")
    guest.truth.wait(lambda r: r["demand_vcpus"] < 0.2, 10, "the hog's end")


@claim("a-cycle-is-idle-preparation-burst")
def _(bench):
    guest = bench.guest()
    page = bench.page if bench.page.exists() else None
    counts = {}

    def remember(phase):
        if page:
            vcpu = e2e.forelab.read_page(page)[0]
            counts[phase] = (e2e.forelab.now_ns(), vcpu["syscalls"], vcpu["insns"])

    start = guest.truth.reports.mark()
    guest.truth.command("start 7 1")
    for phase in ("idle", "preparation", "burst", "done"):
        guest.truth.wait(lambda r, p=phase: r["phase"] == p, 40, f"phase {phase}", after=start)
        remember(phase)
    seen = guest.truth.reports.items[start:]
    order = [r["phase"] for i, r in enumerate(seen) if i == 0 or seen[i - 1]["phase"] != r["phase"]]
    check([p for p in order if p != "stopped"] == ["idle", "preparation", "burst", "done"], f"phases {order}")
    burst = [r for r in seen if r["phase"] == "burst"]
    check(all(2.5 <= r["demand_vcpus"] <= 2.7 for r in burst), f"demand {burst[0]['demand_vcpus']}")
    check(all(r["demand_mem_bytes"] > r["mem_total_bytes"] for r in burst), "the burst fits without more memory")
    check(max(r["arena_bytes"] for r in burst) > 100 * MIB, "the arena was not touched")
    check(min(r["mem_available_bytes"] for r in burst) > 32 * MIB, "the arena took what it must leave")
    if page:
        rates = {p: (counts[q][1] - counts[p][1]) / ((counts[q][0] - counts[p][0]) / 1e9)
                 for p, q in (("idle", "preparation"), ("preparation", "burst"), ("burst", "done"))}
        print(f"# system calls a second by the profile page: { {p: round(v) for p, v in rates.items()} }")
        check(rates["preparation"] > 3 * rates["idle"], f"the preparation does not show in the page: {rates}")
    # What the arena held is free again.
    guest.truth.wait(lambda r: r["arena_bytes"] == 0 and r["mem_available_bytes"] > 256 * MIB, 30, "memory given back")


@claim("profile-page-counts-the-guest")
def _(bench):
    guest = bench.guest()
    if not bench.page.exists():
        raise e2e.Skip("libforesee-profiler.so is not built")
    first = e2e.forelab.read_page(bench.page)
    reports_after(guest, 5)
    second = e2e.forelab.read_page(bench.page)
    check(len(first) == len(second) == 1, f"{len(second)} vCPUs in the page, 1 in the guest")
    for field in ("insns", "loads", "stores", "syscalls"):
        check(second[0][field] > first[0][field], f"{field} did not grow: {second[0][field]}")


@claim("poweroff-ends-qemu-in-order")
def _(bench):
    guest = bench.guest()
    guest.truth.command("poweroff")
    check(guest.process.wait(20) == 0, f"QEMU: {guest.process.log_tail()}")


def main():
    for program in ("qemu-system-x86_64", "swtpm", "busybox"):
        if not shutil.which(program):
            return e2e.skip_all(f"{program} is not installed; run tools/setup")
    if not (e2e.ROOT / "build/deps/kernel/vmlinuz").exists():
        return e2e.skip_all("no guest kernel in build/deps/kernel; run tools/setup")
    with tempfile.TemporaryDirectory(prefix="fore-image-") as image:
        workload = e2e.BUILD / "guest-image/fore-workload"
        subprocess.run([e2e.ROOT / "tools/guest-image", "--no-sea", "--out", image]
                       + (["--workload", workload] if workload.exists() else []), check=True, stdout=sys.stderr)
        return e2e.main("guest", pathlib.Path(image))


if __name__ == "__main__":
    sys.exit(main())

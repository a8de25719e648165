# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job on a real guest: record, learn, attest, hot-plug ahead of demand, refuse after tampering, release.

  tools/demo [--accel tcg|kvm] [--keep] [--out DIR] [--observe CYCLES] [--bursts N] [--seed N]

Boots a guest with the profiler and a vTPM, enrols it, records it in observe, trains the forecaster, lets bursts come in
enforce, runs the same schedule with the reactive rule alone, tampers with the guest and shows the next growth denied, then
the release after the load.  Writes build/demo/summary.json and build/demo/timeline.svg.  --keep leaves everything running
and says what to try.  About ten minutes under TCG on two cores.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import foredraw
import forelab
import forestack

ROOT = forelab.ROOT

POLICY = dict(mode="observe", max_vcpus=4, max_memory="1280MiB", utilisation_vcpu="1.0", utilisation_memory="0.9",
              shrink_hold="8s", cooldown="1s", denial_hold="5s", quantile="p95")
TRAIN_SEED = 11
MIB = 1 << 20


def step(what, argv):
    """One command of the set-up; its output is shown only when it fails."""
    print(f"demo: {what}", flush=True)
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\ndemo: {what} failed")


def set_up():
    """Programs and the guest image; the packages are there already (tools/demo)."""
    build = ROOT / "build"
    if not (build / "build.ninja").exists():
        step("configuring", ["/usr/bin/meson", "setup", build, ROOT])
    step("building", ["ninja", "-C", build])
    step("making the guest image", [ROOT / "tools/guest-image", "--sea", build / "foresee-sea", "--workload",
                                    build / "guest-image/fore-workload"])


class Teller:
    """The timeline on the terminal; seconds since the demo began."""

    def __init__(self):
        self.start_ns = time.monotonic_ns()
        self.lines = []
        self._lock = threading.Lock()

    def at(self, ns):
        return (ns - self.start_ns) / 1e9

    def say(self, text, ns=None):
        stamp = self.at(ns or time.monotonic_ns())
        with self._lock:
            print(f"{stamp:7.1f} s  {text}", flush=True)
            self.lines.append((stamp, text))


class Observer:
    """What QEMU shows over its own second monitor: plugged vCPUs and memory, polled five times a second.

    Plugging a vCPU under TCG has no event of its own, so it is asked for; memory's event comes at most once a second.
    """

    def __init__(self, guest):
        self.guest = guest
        self.samples = []  # (host_ns, vcpus plugged, memory plugged bytes)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.2):
            try:
                vcpus, mem = self.guest.vcpus_plugged(), self.guest.memory_plugged()
            except (forelab.LabError, OSError):
                return  # the guest ends before its observer
            self.samples.append((time.monotonic_ns(), vcpus, mem))

    def first(self, after_ns, predicate):
        return next((s for s in list(self.samples) if s[0] >= after_ns and predicate(s)), None)

    def close(self):
        self._stop.set()
        self._thread.join(5)


# --- measuring ---

def bursts_of(reports):
    """[(cycle, host_ns of its first report, of its last)]"""
    found = {}
    for r in reports:
        if r["phase"] == "burst":
            first, _ = found.get(r["cycle"], (r["host_ns"], 0))
            found[r["cycle"]] = (first, r["host_ns"])
    return [(cycle, *span) for cycle, span in sorted(found.items())]


def provisioning(reports):
    """Under-provisioned seconds and slack over a run, from the guest's truth alone.

    Slack: capacity that demand did not use, as a share of demand; mean of vCPU seconds and byte seconds.
    """
    under = 0.0
    spare = {"vcpu": 0.0, "mem": 0.0}
    demand = {"vcpu": 0.0, "mem": 0.0}
    for a, b in zip(reports, reports[1:]):
        dt = (b["host_ns"] - a["host_ns"]) / 1e9
        if a["online"] < a["demand_vcpus"] or a["mem_total_bytes"] < a["demand_mem_bytes"]:
            under += dt
        for key, have, want in (("vcpu", a["online"], a["demand_vcpus"]),
                                ("mem", a["mem_total_bytes"], a["demand_mem_bytes"])):
            spare[key] += max(0.0, have - want) * dt
            demand[key] += want * dt
    parts = {k: spare[k] / demand[k] if demand[k] else 0.0 for k in spare}
    return under, sum(parts.values()) / 2, parts


def measure_bursts(teller, reports, events, observer):
    """One record a burst and resource: when it was forecast, attested, plugged, online, and needed."""
    out = []
    previous_end = reports[0]["host_ns"]
    for cycle, demand_ns, end_ns in bursts_of(reports):
        peak = max((r for r in reports if r["phase"] == "burst" and r["cycle"] == cycle),
                   key=lambda r: r["demand_vcpus"])
        before = next(r for r in reports if r["host_ns"] >= previous_end)
        for resource, key, want in (("vcpu", "online", peak["demand_vcpus"]),
                                    ("mem", "mem_total_bytes", peak["demand_mem_bytes"])):
            online = next((r for r in reports if r["host_ns"] > previous_end and r[key] >= want), None)
            enough = None
            if online:  # the newest time before the burst's end at which it became enough and stayed so
                span = [r for r in reports if previous_end < r["host_ns"] <= end_ns]
                enough = None
                for r in span:
                    if r[key] >= want:
                        enough = enough or r
                    else:
                        enough = None
            # The last growth that was begun before it became enough is the one that made it so.
            planned = [e for e in events if e["event"] == "LEDGER" and e["data"]["resource"] == resource and
                       e["data"]["state"] in ("attesting", "plugging") and e["data"]["to"] > e["data"]["from"] and
                       previous_end < e["host_ns"] <= (enough["host_ns"] if enough else end_ns)]
            verdicts = [e for e in events if e["event"] == "VERDICT" and e["data"]["affirmed"] and planned and
                        e["data"]["plan"] == planned[-1]["data"]["plan"]]
            plug = observer.first(previous_end, (lambda s, w=want: s[1] >= w) if resource == "vcpu" else
                                  (lambda s, w=want, b=before: s[2] + b["mem_total_bytes"] >= w))
            at = lambda ns: round(teller.at(ns), 3) if ns else None
            out.append({"cycle": cycle, "resource": resource, "demand_at": at(demand_ns),
                        "forecast_at": at(next(e["host_ns"] for e in planned if e["data"]["plan"] ==
                                                    planned[-1]["data"]["plan"])) if planned else None,
                        "attested_at": at(verdicts[0]["host_ns"]) if verdicts else None,
                        "plugged_at": at(plug[0]) if plug else None,
                        "online_at": at(enough["host_ns"]) if enough else None,
                        "lead_s": round((demand_ns - enough["host_ns"]) / 1e9, 3) if enough else None,
                        "from": min(r[key] for r in reports if previous_end <= r["host_ns"] <= demand_ns), "to": enough[key] if enough else max(
                            r[key] for r in reports if previous_end < r["host_ns"] <= end_ns)})
        previous_end = end_ns
    return out


def in_time(bursts):
    """How many bursts had both resources online before their demand, of how many."""
    cycles = {}
    for b in bursts:
        cycles.setdefault(b["cycle"], []).append(b["lead_s"] is not None and b["lead_s"] > 0)
    return sum(all(v) for v in cycles.values()), len(cycles)


class Run:
    """One run of the schedule: its reports and foreseed's events meanwhile."""

    def __init__(self, demo, name, seed, cycles):
        self.name, self.seed, self.cycles = name, seed, cycles
        self.demo = demo
        truth, events = demo.guest.truth, demo.events
        first, mark = truth.reports.mark(), events.mark()
        truth.command(f"start {seed} {cycles}")
        told = -1
        while True:
            r = truth.wait(lambda r, t=told: r["phase"] == "done" or (r["phase"] == "burst" and r["cycle"] > t), 120,
                           "the next burst")
            if r["phase"] == "done":
                break
            told = r["cycle"]
            demo.teller.say(f"{name}: burst {told + 1}/{cycles}: demand {r['demand_vcpus']:.1f} vCPUs, "
                            f"{r['demand_mem_bytes'] / MIB:.0f} MiB; online {r['online']}, "
                            f"{r['mem_total_bytes'] / MIB:.0f} MiB", r["host_ns"])
        self.reports = truth.reports.items[first:truth.reports.mark()]
        self.events = events.waiter.items[mark:events.mark()]
        self.under_s, self.slack, self.slack_parts = provisioning(self.reports)
        self.bursts = measure_bursts(demo.teller, self.reports, self.events, demo.observer)


class Demo:
    def __init__(self, options):
        self.options = options
        self.teller = Teller()
        self.out = pathlib.Path(options.out)
        self.runs = {}

    def say(self, text, ns=None):
        self.teller.say(text, ns)

    def bring_up(self):
        self.say("starting host TPM, attestation manager, attester and host agent")
        self.stack = forestack.Stack(self.lab).start()
        self.say(f"booting the guest: 1 vCPU, 512 MiB, profiler plugin, vTPM ({self.options.accel})")
        self.guest = self.stack.guest("demo", accel=self.options.accel)
        boot_s = self.guest.wait_boot(120)
        self.say(f"guest is up after {boot_s:.1f} s")
        self.observer = Observer(self.guest)
        self.stack.add(self.guest, **POLICY)
        self.stack.wait_state(self.guest, "ok", 60)
        self.say("its agent (SEA) reports over TLS 1.3 on virtio-serial")
        self.stack.enrol(self.guest)
        self.say("vTPM and host TPM enrolled; present PCR values learned, signed by the policy key, in force")
        self.events = forestack.Events(self.stack)

    def attest_now(self):
        verdict = self.stack.foresee("attest", "demo")
        self.say("attestation: " + verdict["verdict"] + ": " +
                 ", ".join(f"{n['id']} {n['verdict']}" for n in verdict["nodes"]))

    def record_and_train(self):
        self.say(f"observe: recording {self.options.observe} cycles of the workload")
        Run(self, "observe", TRAIN_SEED, self.options.observe)
        self.say("training the LSTM on what was recorded")
        start = time.monotonic()
        self.training = self.stack.foresee("train", "demo", timeout_s=300)
        self.train_s = time.monotonic() - start
        self.say(f"trained in {self.train_s:.1f} s: {self.training['model']}")

    def enforce(self, name, forecaster):
        self.stack.set(self.guest, mode="enforce", forecaster=forecaster)
        self.guest.truth.wait(lambda r: r["online"] == 1, 120, "one vCPU online, where each run begins")
        self.say(f"enforce, forecaster={forecaster}: {self.options.bursts} bursts")
        run = Run(self, name, self.options.seed, self.options.bursts)
        self.runs[name] = run
        hit, of = in_time(run.bursts)
        self.say(f"{name}: capacity online before the demand in {hit} of {of} bursts; under-provisioned "
                 f"{run.under_s:.1f} s, slack {run.slack:.2f}")

    def tamper(self):
        """Grow, tamper, ask for more: denied, and nothing is lost; then the load ends and it is released."""
        truth = self.guest.truth
        self.stack.set(self.guest, forecaster="lstm", max_vcpus=3)
        self.tamper_first = truth.reports.mark()
        truth.command(f"start {self.options.seed} 3")
        held = truth.wait(lambda r: r["phase"] == "burst" and r["online"] >= 3, 120, "a burst with 3 vCPUs")
        self.say(f"guest has {held['online']} vCPUs; tampering: PCR 8 is extended in the guest, then it asks for more")
        mark = self.events.mark()
        truth.command("tamper-pcr")
        self.stack.set(self.guest, max_vcpus=6)
        truth.command("hog 20")
        event = self.events.wait("VERDICT", 60, mark, lambda d: not d["affirmed"])
        self.denied = [{"at": round(self.teller.at(event["host_ns"]), 3), "reason": event["data"]["reason"],
                        "had": held["online"]}]
        self.say(f"growth DENIED: {event['data']['reason']}", event["host_ns"])
        after = truth.wait(lambda r: r["host_ns"] > event["host_ns"] + 2e9, 10, "report after the denial")
        self.denied[0]["kept"] = after["online"]
        self.say(f"the guest keeps what it had: {after['online']} vCPUs online")
        truth.command("stop")
        less = truth.wait(lambda r: r["online"] < after["online"], 120, "a release after the load")
        event = self.events.wait("LEDGER", 60, mark, lambda d: d["state"] == "released" and d["resource"] == "vcpu")
        self.say(f"the load is over: released to {less['online']} vCPUs", event["host_ns"])
        self.released = [{"at": round(self.teller.at(e["host_ns"]), 3), **{k: e["data"][k] for k in
                         ("resource", "from", "to")}} for e in self.events.of("LEDGER")
                         if e["data"]["state"] == "released"]

    def summary(self):
        vm = self.stack.show(self.guest)
        counters = {}
        for c in forelab.read_page(self.guest.page):
            for key in ("insns", "loads", "stores", "syscalls"):
                counters[key] = counters.get(key, 0) + c[key]
        f, r = self.runs["foresee"], self.runs["reactive"]
        versions = {"foresee": self.stack.foresee("status")["version"],
                    "qemu": self.guest.qmp.execute("query-version")["package"],
                    "kernel": (ROOT / "build/deps/kernel/version").read_text().strip(),
                    "host": os.uname().release}
        return {"bursts": f.bursts, "reactive_bursts": r.bursts,
                "under_provisioned_s": {"foresee": round(f.under_s, 3), "reactive": round(r.under_s, 3)},
                "slack": {"foresee": round(f.slack, 4), "reactive": round(r.slack, 4)},
                "slack_parts": {"foresee": f.slack_parts, "reactive": r.slack_parts},
                "in_time": {"foresee": in_time(f.bursts), "reactive": in_time(r.bursts)},
                "attestation": [{"at": round(self.teller.at(e["host_ns"]), 3), "affirmed": e["data"]["affirmed"],
                                 "reason": e["data"]["reason"]} for e in self.events.of("VERDICT")],
                "denied": self.denied, "released": self.released,
                "plugin": {"records": vm["sources"]["page"]["records"], "counters": counters},
                "sea": {"reports": vm["sources"]["sea"]["records"]},
                "training": {"seconds": round(self.train_s, 2), "model": self.training["model"]},
                "accel": self.options.accel, "seed": self.options.seed, "versions": versions}

    def judge(self, s):
        """The demo's own promises; what is not kept is said and ends it with status 1."""
        hit, of = s["in_time"]["foresee"]
        ratio = s["slack"]["foresee"] / s["slack"]["reactive"]
        checks = [
            (hit >= 0.8 * of, f"online before the demand in {hit} of {of} bursts (at least 4 in 5)"),
            (s["under_provisioned_s"]["foresee"] < s["under_provisioned_s"]["reactive"],
             f"under-provisioned {s['under_provisioned_s']['foresee']:.1f} s, reactive "
             f"{s['under_provisioned_s']['reactive']:.1f} s"),
            (ratio <= 1.3, f"slack {ratio:.2f} times the reactive run's (at most 1.3)"),
            (bool(s["denied"]) and s["denied"][0]["kept"] >= s["denied"][0]["had"],
             "growth after tampering denied, nothing taken away"),
            (bool(s["released"]), "capacity released after the load")]
        for good, text in checks:
            print(f"  {'ok  ' if good else 'MISS'}  {text}")
        return all(good for good, _ in checks)

    def run(self):
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        work = self.out / "work"
        work.mkdir()
        with forelab.Lab(work) as self.lab:
            self.bring_up()
            self.attest_now()
            self.record_and_train()
            self.enforce("foresee", "lstm")
            self.enforce("reactive", "reactive")
            self.tamper()
            s = self.summary()
            (self.out / "summary.json").write_text(json.dumps(s, indent=2) + "\n", encoding="utf-8")
            with open(self.out / "events.jsonl", "w", encoding="utf-8") as out:
                for e in self.events.waiter.items:
                    out.write(json.dumps(e) + "\n")
            foredraw.timeline(self.out / "timeline.svg", self)
            print(f"\nsummary: {self.out}/summary.json\npicture: {self.out}/timeline.svg\n")
            good = self.judge(s)
            if self.options.keep:
                self.keep()
            self.events.close()
            self.observer.close()
        return 0 if good else 1

    def keep(self):
        foresee = f"{self.stack.program('foresee')} --socket {self.stack.control}"
        print(f"\nStill running.  Try:\n  {foresee} vm show demo\n  {foresee} forecast demo\n  {foresee} explain demo\n"
              f"  {foresee} ledger\n  {foresee} events -f\n  {foresee} attest demo\nCtrl-C ends it.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


def main():
    p = argparse.ArgumentParser(prog="tools/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--accel", choices=("tcg", "kvm"), default="tcg")
    p.add_argument("--keep", action="store_true", help="leave everything running at the end")
    p.add_argument("--out", default=str(ROOT / "build/demo"), help="where the results go (build/demo)")
    p.add_argument("--observe", type=int, default=6, metavar="CYCLES", help="cycles to record before training (6)")
    p.add_argument("--bursts", type=int, default=6, metavar="N", help="bursts in each run (6)")
    p.add_argument("--seed", type=int, default=7, help="of the schedule (7); training uses another")
    p.add_argument("--no-setup", action="store_true", help="packages, programs and guest image are there already")
    options = p.parse_args()
    if not options.no_setup:
        set_up()
    try:
        return Demo(options).run()
    except forelab.LabError as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

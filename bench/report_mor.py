#!/usr/bin/env python3
"""Table of a merge-on-read run beside its targets, CPU seconds (median of the phases of a kind, then lowest and highest) and peak memory.
python3 report_mor.py results.jsonl"""
import json, sys, statistics as st
PHASES = [  # phase, what it is, the most CPU seconds that lakectl may take
    ("bulk", "load of {rows} rows", None), ("settle", "compaction of what the load logged", None), ("read_bulk", "read after the load", None),
    ("upsert", "upsert of 50,000 changes", 0.5), ("read", "snapshot read, ten batches in the logs", 2), ("small", "commit of 100 changes", 0.1),
    ("compaction", "compaction of the batches", 6), ("read_compacted", "read after compaction", None)]
MEMORY_MB = 1024
runs = {}
for l in open(sys.argv[1]):
    r = json.loads(l)
    if r["phase"] != "startup": runs.setdefault(f"{r['system']} ({r['version']})", []).append(r)
of = lambda k, phase: [r for r in runs[k] if r["phase"] == phase and "cpu_s" in r]
systems = [k for k in runs if of(k, "upsert")]
f = lambda x: f"{x:.2f}" if x < 10 else f"{x:.1f}"
def cell(rs, limit=None):
    if not rs: return "–"
    c = [r["cpu_s"] for r in rs]
    s = f(st.median(c)) + (f" ({f(min(c))}–{f(max(c))})" if len(c) > 1 else "") + f", {max(r['peak_rss_mb'] for r in rs)} MB"
    return s + (" **over**" if limit and st.median(c) > limit else "")
print("| phase | target | " + " | ".join(systems) + " |\n" + "|---" * (2 + len(systems)) + "|")
for phase, what, limit in PHASES:
    if not any(of(k, phase) for k in systems): continue
    rows = max((r.get("rows") or 0 for k in systems for r in of(k, phase)), default=0)
    print(f"| {what.format(rows=f'{rows:,}')} | {limit or ''} | " + " | ".join(cell(of(k, phase), limit if k.startswith("lakectl") else None) for k in systems) + " |")
peak = lambda k: max(r["peak_rss_mb"] for r in runs[k] if "peak_rss_mb" in r)
print(f"| peak memory, MB | {MEMORY_MB} | " + " | ".join(f"{peak(k)}" + (" **over**" if k.startswith("lakectl") and peak(k) > MEMORY_MB else "") for k in systems) + " |")
def size(k): r = (of(k, "small") or of(k, "upsert"))[-1]; return f"{r['dir_bytes'] / 1e6:.0f} ({r['dir_files']})" if "dir_bytes" in r else "–"
print("| table before compaction, MB (files) | | " + " | ".join(size(k) for k in systems) + " |")
oks = lambda k: [r["ok"] for r in runs[k] if r.get("ok") is not None]
print("| states checked | | " + " | ".join(f"{sum(oks(k))} of {len(oks(k))} right" for k in systems) + " |")
loads = [r["load"] for k in systems for r in runs[k] if "load" in r]
print(f"\nSize {runs[systems[0]][0]['size']}, load average {min(loads):.0f} to {max(loads):.0f}." if systems else "")

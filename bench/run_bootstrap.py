#!/usr/bin/env python3
"""lakectl bootstrap of the Hive-style history, beside DuckDB's COPY of the same rows to partitioned Parquet: row groups taken over as they are; with
decoding and a sort; of ORC; every base file hashed by DuckDB after it. Each system --times times, in turns; the least CPU seconds count, as other work on
the machine only adds to them. venv/bin/python run_bootstrap.py --binary BIN --size M [--times 3] [--only adopt,sort,orc,duckdb] [--copies N]
--copies loads a history of N times the rows (copied under other partitions), for the memory that it takes; its rows are counted, not hashed."""
import argparse, json, os, shutil, subprocess, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import *
import duckdb
ap = argparse.ArgumentParser()
ap.add_argument("--binary", required=True)
ap.add_argument("--size", default="S")
ap.add_argument("--times", type=int, default=3)
ap.add_argument("--only", default="duckdb,adopt,sort,orc")
ap.add_argument("--copies", type=int, default=1)
ap.add_argument("--type", default="cow", choices=["cow", "mor"])
ap.add_argument("--out", default=OUT)
a = ap.parse_args()
S, binary, only = a.size, os.path.abspath(a.binary), a.only.split(",")
work = f"{a.out}/bootstrap_{S}"
shutil.rmtree(work, ignore_errors=True)
os.makedirs(f"{work}/events")
open(f"{work}/events/orders.jsonl", "w").close()
source = hist(S)
if a.copies > 1:
    source = f"{work}/history"
    for n in range(a.copies):
        for d in sorted(os.listdir(hist(S))):
            to = f"{source}/dt={n:03d}-{d.removeprefix('dt=')}"
            os.makedirs(to)
            for f in os.listdir(f"{hist(S)}/{d}"):
                os.link(f"{hist(S)}/{d}/{f}", f"{to}/{f}")
con = duckdb.connect()
con.execute("SET threads=2; SET enable_progress_bar=false; SET memory_limit='8GB'; SET preserve_insertion_order=false")
H = f"read_parquet('{source}/*/*.parquet', hive_partitioning=true, hive_types_autocast=false)"
SEL = ",".join(COLS)


def orc():
    """The same rows as ORC, which pyarrow writes."""
    import pyarrow.orc as po, pyarrow.parquet as pq
    to = f"{a.out}/history_orc_{S}"
    if not os.path.exists(to + "/_done"):
        for d in sorted(os.listdir(hist(S))):
            os.makedirs(f"{to}/{d}", exist_ok=True)
            for f in os.listdir(f"{hist(S)}/{d}"):
                po.write_table(pq.read_table(f"{hist(S)}/{d}/{f}", partitioning=None), f"{to}/{d}/{f.replace('parquet', 'orc')}", compression="zstd")
        open(to + "/_done", "w").close()
    return to


def load(what, path, fmt, **more):
    table = f"{work}/{what}"
    shutil.rmtree(table, ignore_errors=True)
    config = f"{work}/{what}.yaml"
    with open(config, "w") as f:
        json.dump({
            "state_dir": f"{work}/state", "memory": "1GiB",
            "sources": {"files": {"type": "file", "paths": [f"{work}/events/*.jsonl"]}},
            "tables": [{
                "name": "orders", "path": table, "type": a.type, "key": ["order_id"], "partition_by": ["dt"], "hive_style_partitions": True, "ordering": ["updated_at"],
                "from": {"source": "files", "topics": ["/.*/"], "format": "debezium-json"},
                "bootstrap": {"hive": {"path": path, "format": fmt}, **more},
            }],
        }, f, indent=1)
    account = f"{work}/account"
    subprocess.run([sys.executable, "-S", "-E", os.path.dirname(os.path.abspath(__file__)) + "/launch.py", account, binary, "bootstrap", "-c", config],
                   stdout=subprocess.DEVNULL, stderr=open(f"{work}/log", "ab"), stdin=subprocess.DEVNULL, check=True)
    c = json.load(open(account))
    if c.pop("exit"):
        sys.exit("lakectl bootstrap failed\n" + open(f"{work}/log", errors="replace").read()[-3000:])
    return c, table


def right(table):
    rel = f"(SELECT * EXCLUDE (_hoodie_commit_time, _hoodie_commit_seqno, _hoodie_record_key, _hoodie_partition_path, _hoodie_file_name) FROM read_parquet({hudi_latest(table)!r}, hive_partitioning=false))"
    if a.copies > 1:
        return con.execute(f"SELECT count(*) FROM {rel}").fetchone()[0] == ROWS[S] * a.copies
    return check_rel(S, "bulk", rel, con)


def copy(comp):
    t = f"{work}/copy"
    shutil.rmtree(t, ignore_errors=True)
    code = (f"import duckdb; c = duckdb.connect(); c.execute(\"SET threads=2; SET enable_progress_bar=false; SET preserve_insertion_order=false; SET memory_limit='8GB'\"); "
            f"c.execute(\"\"\"COPY (SELECT {SEL}, dt FROM {H}) TO '{t}' (FORMAT parquet, COMPRESSION {comp}, PARTITION_BY (dt))\"\"\")")
    account = f"{work}/account"
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run([sys.executable, "-S", "-E", f"{here}/launch.py", account, sys.executable, "-c", code], check=True)
    c = json.load(open(account))
    assert c.pop("exit") == 0
    return c, t


systems = {
    "duckdb": [("duckdb COPY snappy", lambda: copy("snappy"), None), ("duckdb COPY zstd", lambda: copy("zstd"), None)],
    "adopt": [("lakectl, row groups as they are", lambda: load("adopt", source, "parquet"), right)],
    "sort": [("lakectl, decoded and sorted by order_id", lambda: load("sort", source, "parquet", sort=["order_id"]), right)],
    "orc": [("lakectl, of ORC", lambda: load("orc", orc(), "orc"), right)],
}
runs = {}
for n in range(a.times):
    for name in only:
        for what, do, check in systems[name]:
            la = os.getloadavg()[0]
            c, made = do()
            c |= {"load": round(la, 1), "mb": round(du(made)[0] / 1e6)}
            if check and n == 0:
                c["ok"] = check(made)
            runs.setdefault(what, []).append(c)
            print(json.dumps({"system": what, "size": S, "copies": a.copies, **c}), flush=True)
print("\n| system | CPU s, least | all | wall s, least | peak memory MB | MB written | load |\n|---|---|---|---|---|---|---|")
for what, rs in runs.items():
    print("|", " | ".join([what, f"{min(r['cpu_s'] for r in rs):.2f}", " ".join(f"{r['cpu_s']:.2f}" for r in rs), f"{min(r['wall_s'] for r in rs):.2f}",
          str(max(r["peak_rss_mb"] for r in rs)), str(rs[0]["mb"]), f"{min(r['load'] for r in rs)}-{max(r['load'] for r in rs)}"]), "|")
shutil.rmtree(work)
if any(r.get("ok") is False for rs in runs.values() for r in rs):
    sys.exit("a table was wrong")

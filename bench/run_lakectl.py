#!/usr/bin/env python3
"""lakectl: load, upserts, read, small commits, from Debezium JSON lines in files, decoding included; of merge-on-read tables compaction too.
venv/bin/python run_lakectl.py --binary BIN --size M [--type cow|mor] [--index record|bloom|bucket] [--version 9|6] [--metadata-table] [--batches 10] [--small 10] [--keep]"""
import argparse, json, os, shutil, subprocess, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import *
import duckdb
ap = argparse.ArgumentParser()
ap.add_argument("--binary", required=True)
ap.add_argument("--size", default="S")
ap.add_argument("--type", default="cow", choices=["cow", "mor"])
ap.add_argument("--index", default="record", choices=["record", "bloom", "bucket"])
ap.add_argument("--buckets", type=int, default=1)
ap.add_argument("--metadata-table", action="store_true")
ap.add_argument("--version", default="9")
ap.add_argument("--batches", type=int, default=10)
ap.add_argument("--small", type=int, default=10)
ap.add_argument("--out", default=OUT)
ap.add_argument("--keep", action="store_true")
ap.add_argument("--note")
a = ap.parse_args()
S, binary = a.size, os.path.abspath(a.binary)
work = f"{a.out}/lakectl_{a.type}_{a.index}_v{a.version}{'_mdt' * a.metadata_table}_{S}"
shutil.rmtree(work, ignore_errors=True)
table, events, log = f"{work}/orders", f"{work}/events", f"{work}/log"
os.makedirs(events)
fed = []  # files so far, for their numbers

con = duckdb.connect()
con.execute("SET threads=2; SET enable_progress_bar=false; SET memory_limit='8GB'")
history = f"{DATA}/{S}/history.json"
if not os.path.exists(history):   # the history as the connector's initial snapshot tells it
    col = lambda c: f"{c}::VARCHAR" if c == "amount" else f"epoch_us({c})" if c.endswith("_at") else c
    row = "json_object(" + ", ".join(f"'{c}', {col(c)}" for c in COLS + ["dt"]) + ")"
    con.execute(f"""COPY (SELECT json_object('before', NULL, 'after', {row}, 'source', json_object('version','2.7.0.Final','connector','mysql','name','shop',
        'ts_ms',epoch_ms(updated_at),'snapshot','true','db','shop','table','orders','server_id',0,'file','binlog.000001','pos',157,'row',0), 'op', 'r', 'ts_ms', epoch_ms(updated_at)) AS j
      FROM read_parquet('{hist(S)}/*/*.parquet', hive_partitioning=true, hive_types_autocast=false)) TO '{history}.tmp' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01')""")
    os.rename(history + ".tmp", history)

config = f"{work}/lake.yaml"
with open(config, "w") as f:
    json.dump({
        "state_dir": f"{work}/state", "memory": "1GiB",
        "sources": {"files": {"type": "file", "paths": [f"{events}/*.jsonl"]}},
        "tables": [{
            "name": "orders", "path": table, "type": a.type, "version": int(a.version), "key": ["order_id"], "partition_by": ["dt"], "hive_style_partitions": True,
            "ordering": ["updated_at"], "index": {"type": "bucket", "buckets": a.buckets} if a.index == "bucket" else {"type": a.index},
            "from": {"source": "files", "topics": ["/.*/"], "format": "debezium-json"},
            "schema": {"columns": {"user_id": "long", "amount": "decimal(12,2)", "qty": "int", "price": "double", "created_at": "timestamp-micros", "updated_at": "timestamp-micros"}},
            "services": {"metadata_table": a.metadata_table, **({"compaction": {"mode": "off"}} if a.type == "mor" else {})},
        }],
    }, f, indent=1)


def run(*args, out=subprocess.DEVNULL):
    """Runs lakectl; returns what it cost, from the kernel's accounts of the finished process."""
    account = f"{work}/account"
    subprocess.run([sys.executable, "-S", "-E", os.path.dirname(os.path.abspath(__file__)) + "/launch.py", account, binary, *args],
                   stdout=out, stderr=open(log, "ab"), stdin=subprocess.DEVNULL, check=True)
    with open(account) as f:
        c = json.load(f)
    if c.pop("exit"):
        sys.exit(f"lakectl {' '.join(args)} failed\n" + open(log, errors="replace").read()[-3000:])
    return c


name = "lakectl " + ("mor " if a.type == "mor" else "") + a.index + (f" {a.buckets}" if a.index == "bucket" else "") + f" v{a.version}" + (" mdt" if a.metadata_table else "")
version = subprocess.run([binary, "version"], capture_output=True, text=True).stdout.split("\n")[0][:40].strip() or "?"
b = Bench(name, version, S, table, a.note)


def phase(what, rows, cost, check=None, **extra):
    la = os.getloadavg()[0]
    c = cost()
    rec = {"system": name, "version": version, "size": S, "phase": what, "rows": rows, **c, "load": round(la, 2), "at": time.strftime("%H:%M:%S"), **extra}
    if os.path.isdir(table):
        rec["dir_bytes"], rec["dir_files"] = du(table)
    if check:
        try: rec["ok"] = bool(check())
        except Exception as e: rec["ok"], rec["err"] = False, repr(e)[:300]
    b.emit(rec)
    return rec["ok"] if check else True


def ingest(*files):
    """What one run cost, and what its commits said: their number, files touched, store calls."""
    # A file source counts the lines of all its files at the start. A broker does not: leave it those of this phase alone.
    for old in os.listdir(events): os.unlink(f"{events}/{old}")
    for f in files:
        os.symlink(f, f"{events}/{len(fed):04d}.jsonl")
        fed.append(f)
    at = os.path.getsize(log) if os.path.exists(log) else 0
    c = run("ingest", "-c", config, "--until-caught-up", "--log-format", "json")
    with open(log) as f:
        f.seek(at)
        lines = [json.loads(l) for l in f if l.startswith("{")]
    done = [l for l in lines if l.get("msg") == "committed"]
    c["commits"] = len(done)
    for k in ("inserted", "updated", "deleted", "files", "bytes", "copied"):
        c[k] = sum(d.get(k, 0) for d in done)
    c["store_calls"] = [d["store"]["calls"] for d in done][-3:]
    c["store"] = done[-1]["store"] if done else {}
    return c


def view():
    sql = subprocess.run([binary, "view", "--path", table, "--for", "duckdb", "--name", "orders"], capture_output=True, text=True, check=True).stdout
    con.execute("DROP VIEW IF EXISTS orders")
    con.execute(sql)


def check(key):
    view()
    return check_rel(S, key, "orders", con)


def read(key):
    out = f"{work}/read.arrow"
    with open(out, "wb") as f:
        c = run("read", "--path", table, "--columns", "status,amount", "--format", "arrow", out=f)
    return c


def check_read(key):
    import pyarrow as pa
    got = pa.ipc.open_stream(f"{work}/read.arrow").read_all()
    return check_agg(S, key, con.execute("SELECT status, count(*), sum(amount) FROM got GROUP BY 1").fetchall())


start = min((run("version") for _ in range(5)), key=lambda c: c["wall_s"])
b.raw("startup", wall_s=start["wall_s"], cpu_s=start["cpu_s"], peak_rss_mb=start["peak_rss_mb"])

json_of = lambda p: p[:-len("parquet")] + "json"
key = KEY[a.batches]


def cow():
    phase("bulk", ROWS[S], lambda: ingest(history), lambda: check("bulk"))
    for i, f in enumerate(batches(S, a.batches)):
        phase("upsert", 50_000, lambda: ingest(json_of(f)), i=i)
    phase("read", expected(S, key)["rows"], lambda: read(key), lambda: check_read(key) and check(key))
    for i, f in enumerate(smalls(S, a.small)):
        phase("small", 100, lambda: ingest(json_of(f)), i=i)
    b.raw("end", ok=check(after(a.batches, a.small)) if a.small else None)


def state(key):
    """Every column of a snapshot read, not timed."""
    out = f"{work}/state.parquet"
    with open(out, "wb") as f:
        run("read", "--path", table, "--format", "parquet", out=f)
    ok = check_rel(S, key, f"read_parquet('{out}')", con)
    os.unlink(out)
    return ok


def reads(what, key):
    """What the peers read: two columns of every row, three times."""
    read(key)
    ok = check_read(key)
    for _ in range(3):
        phase(what, expected(S, key)["rows"], lambda: run("read", "--path", table, "--columns", "status,amount", "--format", "arrow"), lambda: ok)


def compact(path):
    return run("compact", "--path", path, "--max-delta-commits", "1")


def mor():
    phase("bulk", ROWS[S], lambda: ingest(history), lambda: state("bulk"))
    # A load larger than the memory takes several commits, and with a bucket index all but the first are logs: from here on the logs
    # shall be those of the batches alone.
    phase("settle", ROWS[S], lambda: compact(table), lambda: check_export(S, "bulk", hudi_latest(table)))
    reads("read_bulk", "bulk")
    for i, f in enumerate(batches(S, a.batches)):
        phase("upsert", 50_000, lambda: ingest(json_of(f)), i=i)
    b.raw("state", of=key, ok=state(key))
    reads("read", key)
    for i, f in enumerate(smalls(S, a.small)):
        phase("small", 100, lambda: ingest(json_of(f)), i=i)
    end = after(a.batches, a.small)
    b.raw("state", of=end, ok=state(end))
    copy = f"{work}/copy"
    for i in range(3):
        shutil.rmtree(copy, ignore_errors=True)
        if i < 2: shutil.copytree(table, copy)
        at = copy if i < 2 else table
        # base files alone must hold the whole state, in the eyes of DuckDB
        phase("compaction", expected(S, end)["rows"], lambda: compact(at), lambda: check_export(S, end, hudi_latest(at)))
    reads("read_compacted", end)
    b.raw("end", ok=state(end))


mor() if a.type == "mor" else cow()
if not a.keep:
    shutil.rmtree(work)

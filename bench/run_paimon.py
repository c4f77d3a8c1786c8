#!/usr/bin/env python3
"""Paimon from Python (pypaimon, with pypaimon-rust when it is installed): primary-key table, fixed bucket, merge on read.
venv/bin/python run_paimon.py --size S [--native]"""
import argparse, os, shutil, sys, time
T0 = time.perf_counter(); sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import *
import pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq, pypaimon
from pypaimon.catalog.catalog_factory import CatalogFactory
from pypaimon.schema.schema import Schema
ap = argparse.ArgumentParser(); ap.add_argument("--size", default="S"); ap.add_argument("--out", default=OUT); ap.add_argument("--batches", type=int, default=10)
ap.add_argument("--small", type=int, default=10); ap.add_argument("--note"); ap.add_argument("--buckets", default="1"); ap.add_argument("--opt", action="append", default=[]); ap.add_argument("--tag", default="")
ap.add_argument("--native", action="store_true", help="write, commit, plan and read by pypaimon-rust"); a = ap.parse_args()
if a.native: a.tag = a.tag or "native"; a.opt += [f"{x}.enabled=true" for x in ("write.native", "commit.native", "read.native", "scan.native-plan")]
pa.set_cpu_count(2); S = a.size; t = f"{a.out}/paimon{a.tag}_{S}"; shutil.rmtree(t, ignore_errors=True); os.makedirs(t)
from importlib.metadata import version
try: rv = version("pypaimon-rust")
except Exception: rv = None
b = Bench("pypaimon PK table" + (" " + a.tag if a.tag else ""), version("pypaimon") + (f"+rust {rv}" if rv else ""), S, t, a.note)
cat = CatalogFactory.create({"warehouse": t}); cat.create_database("d", True)
b.raw("startup", wall_s=round(time.perf_counter()-T0, 3), cpu_s=round(tree_cpu(), 2), peak_rss_mb=hwm_mb())
SCH = pa.schema([("order_id", pa.string()), ("user_id", pa.int64()), ("status", pa.string()), ("amount", pa.decimal128(12, 2)), ("qty", pa.int32()), ("price", pa.float64()), ("note", pa.string()),
  ("city", pa.string()), ("created_at", pa.timestamp("us")), ("updated_at", pa.timestamp("us")), ("dt", pa.string()), ("rk", pa.string())])
opts = {"bucket": a.buckets, "file.format": "parquet", "rowkind.field": "rk", "sequence.field": "updated_at"}
for o in a.opt: k, v = o.split("=", 1); opts[k] = v
cat.create_table("d.orders", Schema.from_pyarrow_schema(SCH, partition_keys=["dt"], primary_keys=["dt", "order_id"], options=opts), False)
tab = cat.get_table("d.orders")
def prep(tb, rk):
    return tb.select(COLS + ["dt"]).append_column("rk", rk).cast(SCH)
def write(batches_):
    wb = tab.new_batch_write_builder(); w = wb.new_write(); cm = wb.new_commit()
    for x in batches_: w.write_arrow(x)
    cm.commit(w.prepare_commit()); w.close(); cm.close()
def bulk():
    d = ds.dataset(hist(S), format="parquet", partitioning=ds.partitioning(pa.schema([("dt", pa.string())]), flavor="hive"))
    def gen():
        for x in d.to_batches(columns=COLS + ["dt"]):
            if x.num_rows: y = pa.Table.from_batches([x]); yield prep(y, pa.array(["+I"] * y.num_rows))
    write(gen())
RK = {"c": "+I", "u": "+U", "d": "-D"}
def up(f):
    tb = pq.read_table(f); write([prep(tb, pa.array([RK[x] for x in tb["op"].to_pylist()]))])
def snap(cols=("status", "amount")):
    import duckdb; c = duckdb.connect(); c.execute("SET threads=2")
    rb = tab.new_read_builder().with_projection(list(cols)); sp = rb.new_scan().plan().splits(); tb = rb.new_read().to_arrow(sp)
    return c.execute("SELECT status, count(*), sum(amount) FROM tb GROUP BY 1").fetchall()
def full(key):
    import duckdb; rb = tab.new_read_builder(); tb = rb.new_read().to_arrow(rb.new_scan().plan().splits()); c = duckdb.connect(); c.register("tb", tb)
    return check_rel(S, key, "tb", c)
b.phase("bulk", ROWS[S], bulk, lambda r: full("bulk"))
b.phase("read_bulk", ROWS[S], snap, lambda r: check_agg(S, "bulk", r))
for i, f in enumerate(batches(S, a.batches)): b.phase("upsert", 50_000, lambda: up(f), None, i=i)
key = KEY[a.batches]; b.raw("state", of=key, ok=full(key))
for _ in range(3): b.phase("read", expected(S, key)["rows"], snap, lambda r: check_agg(S, key, r))
for i, f in enumerate(smalls(S, a.small)): b.phase("small", 100, lambda: up(f), None, i=i)
if a.small: b.raw("end", ok=full(after(a.batches, a.small)))   # pypaimon compacts nothing
shutil.rmtree(t)

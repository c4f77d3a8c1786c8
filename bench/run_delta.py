#!/usr/bin/env python3
"""delta-rs merge. venv/bin/python run_delta.py --size M"""
import argparse, os, shutil, sys, time
T0 = time.perf_counter(); sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import *
import pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq, deltalake
from deltalake import DeltaTable, write_deltalake
ap = argparse.ArgumentParser(); ap.add_argument("--size", default="S"); ap.add_argument("--out", default=OUT); ap.add_argument("--batches", type=int, default=10)
ap.add_argument("--small", type=int, default=10); ap.add_argument("--note"); ap.add_argument("--prune", action="store_true", help="add the batch's partition list to the predicate"); a = ap.parse_args()
pa.set_cpu_count(2); S = a.size; t = f"{a.out}/delta_{S}"; shutil.rmtree(t, ignore_errors=True); os.makedirs(a.out, exist_ok=True)
b = Bench("delta-rs merge" + (" +dt list" if a.prune else ""), deltalake.__version__, S, t, a.note)
b.raw("startup", wall_s=round(time.perf_counter()-T0, 3), cpu_s=round(tree_cpu(), 2), peak_rss_mb=hwm_mb())
SEL = COLS + ["dt"]
def utc(tb):  # Delta's timestamp is UTC
    for c in ("created_at", "updated_at"):
        i = tb.schema.get_field_index(c); tb = tb.set_column(i, c, tb[c].cast(pa.timestamp("us", "UTC")))
    return tb
def bulk():
    part = ds.partitioning(pa.schema([("dt", pa.string())]), flavor="hive")
    d = ds.dataset(hist(S), format="parquet", partitioning=part)
    sch = pa.schema([(f.name, pa.timestamp("us", "UTC") if pa.types.is_timestamp(f.type) else f.type) for f in d.schema])
    def gen():
        for x in d.to_batches(columns=SEL): 
            yield x.cast(pa.schema([sch.field(n) for n in SEL]))
    write_deltalake(t, pa.RecordBatchReader.from_batches(pa.schema([sch.field(n) for n in SEL]), gen()), partition_by=["dt"])
def up(f):
    src = utc(pq.read_table(f)); dt = DeltaTable(t)
    pred = "t.order_id = s.order_id AND t.dt = s.dt"
    if a.prune: pred += " AND t.dt IN (" + ",".join(f"'{x}'" for x in sorted(set(src["dt"].to_pylist()))) + ")"
    m = {c: f"s.{c}" for c in SEL}
    dt.merge(src, pred, source_alias="s", target_alias="t").when_matched_delete("s.op = 'd'").when_matched_update(m).when_not_matched_insert(m, "s.op <> 'd'").execute()
def rel():
    import duckdb; c = duckdb.connect(); d = DeltaTable(t); return c, d.file_uris()
def snap():
    import duckdb; c = duckdb.connect(); c.execute("SET threads=2"); tb = DeltaTable(t).to_pyarrow_dataset()
    return c.execute("SELECT status, count(*), sum(amount) FROM tb GROUP BY 1").fetchall()
def full(key):
    return check_rel(S, key, f"read_parquet({[x.replace('%3D','=') for x in DeltaTable(t).file_uris()]!r}, hive_partitioning=true, hive_types_autocast=false)")
b.phase("bulk", ROWS[S], bulk, lambda r: full("bulk"))
b.phase("read_bulk", ROWS[S], snap, lambda r: check_agg(S, "bulk", r))
for i, f in enumerate(batches(S, a.batches)): b.phase("upsert", 50_000, lambda: up(f), None, i=i)
key = KEY[a.batches]
b.phase("read", expected(S, key)["rows"], snap, lambda r: check_agg(S, key, r) and full(key))
for i, f in enumerate(smalls(S, a.small)): b.phase("small", 100, lambda: up(f), None, i=i)
if a.small == 10 and a.batches == 10: b.raw("end", ok=full("small"))
shutil.rmtree(t)

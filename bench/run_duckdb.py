#!/usr/bin/env python3
"""DuckDB limits: COPY history to partitioned Parquet (zstd, snappy), native PK table upsert, COW by rewriting touched partitions / touched files, Debezium JSON decode.
venv/bin/python run_duckdb.py --size M"""
import argparse, os, shutil, sys, time, glob
T0 = time.perf_counter(); sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import *
import duckdb
ap = argparse.ArgumentParser(); ap.add_argument("--size", default="S"); ap.add_argument("--out", default=OUT); ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--only", default="copy,pk,cow,cowfile,mor,json"); ap.add_argument("--batches", type=int, default=10); ap.add_argument("--small", type=int, default=10); ap.add_argument("--buckets", type=int, nargs="*", default=[1, 4], help="of mor"); ap.add_argument("--note"); a = ap.parse_args()
os.makedirs(a.out, exist_ok=True); S = a.size; V = duckdb.__version__; only = a.only.split(",")
def con(db=":memory:"):
    c = duckdb.connect(db); c.execute(f"SET threads={a.threads}; SET preserve_insertion_order=false; SET memory_limit='8GB'"); return c
H = f"read_parquet('{hist(S)}/*/*.parquet', hive_partitioning=true, hive_types_autocast=false)"
SEL = ",".join(COLS)
c = con(); c.execute("select 1")
Bench("duckdb", V, S).raw("startup", wall_s=round(time.perf_counter()-T0, 3), cpu_s=round(tree_cpu(), 2), peak_rss_mb=hwm_mb())
if "copy" in only:
    for comp in ("snappy", "zstd"):
        t = f"{a.out}/duck_copy_{comp}_{S}"; shutil.rmtree(t, ignore_errors=True)
        b = Bench(f"duckdb copy {comp}", V, S, t, a.note)
        b.phase("bulk", ROWS[S], lambda: c.execute(f"COPY (SELECT {SEL}, dt FROM {H}) TO '{t}' (FORMAT parquet, COMPRESSION {comp}, PARTITION_BY (dt))"),
                lambda r: check_rel(S, "bulk", f"read_parquet('{t}/*/*.parquet', hive_partitioning=true, hive_types_autocast=false)"))
        b.phase("read_bulk", ROWS[S], lambda: c.execute(f"SELECT status, count(*), sum(amount) FROM read_parquet('{t}/*/*.parquet', hive_partitioning=true) GROUP BY 1").fetchall(), lambda r: check_agg(S, "bulk", r))
        shutil.rmtree(t)
    b = Bench("duckdb", V, S, None, a.note)
    b.phase("scan_all", ROWS[S], lambda: c.execute(f"SELECT {','.join(f'max({x})' for x in COLS)} FROM {H}").fetchall())
if "pk" in only:
    p = f"{a.out}/duck_pk_{S}.duckdb"; [os.remove(x) for x in glob.glob(p + "*")]
    k = con(p); b = Bench("duckdb native PK table", V, S, p, a.note)
    def load():
        k.execute("CREATE TABLE orders(order_id VARCHAR PRIMARY KEY, user_id BIGINT, status VARCHAR, amount DECIMAL(12,2), qty INTEGER, price DOUBLE, note VARCHAR, city VARCHAR, created_at TIMESTAMP, updated_at TIMESTAMP, dt VARCHAR)")
        k.execute(f"INSERT INTO orders SELECT {SEL}, dt FROM {H}"); k.execute("CHECKPOINT")
    b.phase("bulk", ROWS[S], load)
    def up(f):
        k.execute("BEGIN"); k.execute(f"DELETE FROM orders WHERE order_id IN (SELECT order_id FROM '{f}' WHERE op='d')")
        k.execute(f"INSERT OR REPLACE INTO orders SELECT {SEL}, dt FROM '{f}' WHERE op<>'d'"); k.execute("COMMIT"); k.execute("CHECKPOINT")
    for i, f in enumerate(batches(S, a.batches)): b.phase("upsert", 50_000, lambda: up(f), None, i=i)
    b.phase("read", expected(S, KEY[a.batches])["rows"], lambda: k.execute("SELECT status, count(*), sum(amount) FROM orders GROUP BY 1").fetchall(), lambda r: check_agg(S, KEY[a.batches], r) and check_rel(S, KEY[a.batches], "orders", k))
    for i, f in enumerate(smalls(S, a.small)): b.phase("small", 100, lambda: up(f), None, i=i)
    b.raw("end", ok=None if (a.batches, a.small) != (10, 10) else check_rel(S, "small", "orders", k)); k.close(); os.remove(p)
def cow(kind):
    """partitions: anti-join rewrite of every touched partition. files: only the files that hold a touched key (found by a join over the key column), inserts to a file of the partition."""
    t = f"{a.out}/duck_{kind}_{S}"; shutil.rmtree(t, ignore_errors=True)
    b = Bench(f"duckdb rewrite touched {kind}", V, S, t, a.note)
    b.phase("bulk", ROWS[S], lambda: c.execute(f"COPY (SELECT {SEL}, dt FROM {H}) TO '{t}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (dt), FILENAME_PATTERN 'v0_{{i}}')"))
    n = [0]
    def up(f):
        n[0] += 1; v = f"v{n[0]}"
        c.execute(f"CREATE OR REPLACE TEMP TABLE src AS SELECT {SEL}, dt, op FROM '{f}'")
        dts = [r[0] for r in c.execute("SELECT DISTINCT dt FROM src ORDER BY 1").fetchall()]
        files = [g for d in dts for g in glob.glob(f"{t}/dt={d}/*.parquet")]
        if kind == "files":
            hit = {r[0] for r in c.execute(f"SELECT DISTINCT filename FROM read_parquet({files!r}, filename=true) SEMI JOIN src USING (order_id)").fetchall()}
            # inserts go to the touched file set of their partition: they add one when none is touched
            files = sorted(hit)
        old = f"SELECT {SEL}, dt FROM read_parquet({files!r}, hive_partitioning=true, hive_types_autocast=false) ANTI JOIN src USING (order_id) UNION ALL " if files else ""
        c.execute(f"COPY ({old} SELECT {SEL}, dt FROM src WHERE op<>'d') TO '{t}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (dt), FILENAME_PATTERN '{v}_{{i}}', APPEND)" if False else
                  f"COPY ({old} SELECT {SEL}, dt FROM src WHERE op<>'d') TO '{t}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (dt), FILENAME_PATTERN '{v}_{{i}}', OVERWRITE_OR_IGNORE)")
        for g in files: os.remove(g)
    rel = f"read_parquet('{t}/*/*.parquet', hive_partitioning=true, hive_types_autocast=false)"
    for i, f in enumerate(batches(S, a.batches)): b.phase("upsert", 50_000, lambda: up(f), None, i=i)
    b.phase("read", expected(S, KEY[a.batches])["rows"], lambda: c.execute(f"SELECT status, count(*), sum(amount) FROM {rel} GROUP BY 1").fetchall(), lambda r: check_agg(S, KEY[a.batches], r) and check_rel(S, KEY[a.batches], rel))
    for i, f in enumerate(smalls(S, a.small)): b.phase("small", 100, lambda: up(f), None, i=i)
    b.raw("end", ok=None if (a.batches, a.small) != (10, 10) else check_rel(S, "small", rel)); shutil.rmtree(t)
if "cow" in only: cow("partitions")
if "cowfile" in only: cow("files")
if "mor" in only:
    # the limit of merge on read with a hash bucket: a batch is only appended, split by partition (and by buckets); the reader takes the latest of a key; compaction writes the table anew
    for nb in a.buckets:
        t = f"{a.out}/duck_mor{nb}_{S}"; shutil.rmtree(t, ignore_errors=True); by = "(dt)" if nb == 1 else "(dt, bk)"
        bk = "" if nb == 1 else f", (hash(order_id) % {nb})::INT AS bk"
        b = Bench(f"duckdb append, merge on read, {nb} bucket", V, S, t, a.note); n = [0]
        rel = f"(SELECT * FROM read_parquet('{t}/**/*.parquet', hive_partitioning=true, hive_types_autocast=false) QUALIFY row_number() OVER (PARTITION BY order_id ORDER BY updated_at DESC)=1) WHERE op<>'d'"
        agg = lambda of: c.execute(f"SELECT status, count(*), sum(amount) FROM {of} GROUP BY 1").fetchall()
        b.phase("bulk", ROWS[S], lambda: c.execute(f"COPY (SELECT {SEL}, 'c' AS op, dt{bk} FROM {H}) TO '{t}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY {by}, FILENAME_PATTERN 'v0_{{i}}')"), lambda r: check_rel(S, "bulk", rel))
        def up(f):
            n[0] += 1; c.execute(f"COPY (SELECT {SEL}, op, dt{bk} FROM '{f}') TO '{t}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY {by}, FILENAME_PATTERN 'v{n[0]}_{{i}}', OVERWRITE_OR_IGNORE)")
        for i, f in enumerate(batches(S, a.batches)): b.phase("upsert", 50_000, lambda: up(f), None, i=i)
        key = KEY[a.batches]; b.raw("state", of=key, ok=check_rel(S, key, rel))
        for _ in range(3): b.phase("read", expected(S, key)["rows"], lambda: agg(rel), lambda r: check_agg(S, key, r))
        for i, f in enumerate(smalls(S, a.small)): b.phase("small", 100, lambda: up(f), None, i=i)
        key = after(a.batches, a.small); b.raw("state", of=key, ok=check_rel(S, key, rel))
        done = f"read_parquet('{t}_c/**/*.parquet', hive_partitioning=true, hive_types_autocast=false)"
        for _ in range(3):
            shutil.rmtree(t + "_c", ignore_errors=True)
            b.phase("compaction", expected(S, key)["rows"], lambda: c.execute(f"COPY (SELECT * EXCLUDE (op) FROM {rel}) TO '{t}_c' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY {by})"), lambda r: check_rel(S, key, done))
        for _ in range(3): b.phase("read_compacted", expected(S, key)["rows"], lambda: agg(done), lambda r: check_agg(S, key, r))
        b.raw("end", ok=check_rel(S, key, done)); shutil.rmtree(t); shutil.rmtree(t + "_c")
if "json" in only:
    j = f"{DATA}/{S}/batches/b0[0-3].json"; b = Bench("duckdb", V, S, None, a.note)
    b.phase("debezium_json_decode", 200_000, lambda: c.execute(f"""CREATE OR REPLACE TEMP TABLE dj AS SELECT unnest(CASE WHEN op='d' THEN "before" ELSE "after" END), op FROM read_json('{j}', format='newline_delimited', columns={{'before': 'STRUCT(order_id VARCHAR, user_id BIGINT, status VARCHAR, amount VARCHAR, qty INTEGER, price DOUBLE, note VARCHAR, city VARCHAR, created_at BIGINT, updated_at BIGINT, dt VARCHAR)', 'after': 'STRUCT(order_id VARCHAR, user_id BIGINT, status VARCHAR, amount VARCHAR, qty INTEGER, price DOUBLE, note VARCHAR, city VARCHAR, created_at BIGINT, updated_at BIGINT, dt VARCHAR)', 'op': 'VARCHAR', 'ts_ms': 'BIGINT'}})"""),
        lambda r: c.execute("SELECT count(*) FROM dj").fetchone()[0] == 200_000)

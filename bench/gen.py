#!/usr/bin/env python3
"""Deterministic data of the baselines. gen.py --size S|M|L [--out DIR] [--batch 50000]

DIR/SIZE/history/dt=YYYY-MM-DD/part-N.parquet   Hive-style history (snappy, 2-4 files a partition, no dt column inside)
DIR/SIZE/batches/bNN.parquet                    10 batches of change events (columns + op c/u/d + dt), keys unique in a batch
DIR/SIZE/batches/bNN.json                       the same as Debezium JSON lines (before/after/source/op/ts_ms)
DIR/SIZE/small/sNN.parquet|json                 10 batches of 100 events, to be applied after b09
DIR/SIZE/expected.json                          written by expected.py (which recomputes the state from the files alone)
"""
import argparse, os, shutil, time, duckdb
SIZES = {"S": 200_000, "M": 2_000_000, "L": 10_000_000}
WORDS = ("amber apple arrow autumn beacon birch blaze bridge brook candle cedar chalk cinder cliff cloud coral crane creek "
 "crystal dawn delta drift dune eagle ember falcon fern field flint forest frost garden ginger glacier grove harbor hazel "
 "heron hollow island ivory jade juniper kelp lagoon lantern lark leaf linen lotus maple marsh meadow mirror mist moss "
 "nectar oak ocean olive onyx opal orchid pebble").split()
assert len(WORDS) == 64, len(WORDS)
STAT = ["created", "paid", "packed", "shipped", "delivered", "returned", "cancelled"]

def slice_(h, a, n):  # integer from n hex digits of a 32-digit md5
    return f"('0x'||substr({h},{a},{n}))::BIGINT"

def rows_sql(lo, hi, recent_only):
    """order rows lo..hi-1; values from two md5 of the row number, so any DuckDB gives the same ones"""
    u = f"({slice_('h2',1,6)} / 16777216.0)"
    off = f"floor(3*{u})::INT" if recent_only else f"floor(30*{u}*{u})::INT"
    words = "||' '||".join(f"w[1+({slice_('h2',9+2*k,2)} & 63)]" for k in range(6))
    return f"""
    SELECT substr(h,1,8)||'-'||substr(h,9,4)||'-4'||substr(h,14,3)||'-a'||substr(h,18,3)||'-'||substr(h,21,12) AS order_id,
      ({slice_('h',3,7)} % 500000)::BIGINT AS user_id,
      s[1+({slice_('h2',21,3)} % 7)] AS status,
      (({slice_('h2',24,5)} % 500000)/100.0)::DECIMAL(12,2) AS amount,
      (1+({slice_('h2',29,2)} % 20))::INTEGER AS qty,
      round(({slice_('h2',2,7)} % 1000000)/1000.0, 3)::DOUBLE AS price,
      {words} AS note,
      'city_'||lpad((({slice_('h',10,6)}) % 500)::VARCHAR,3,'0') AS city,
      (DATE '2026-01-30' - {off})::TIMESTAMP + to_microseconds({slice_('h',22,9)} % 86400000000) AS created_at,
      (DATE '2026-01-30' - {off})::TIMESTAMP + to_microseconds({slice_('h',22,9)} % 86400000000 + {slice_('h2',5,6)}) AS updated_at,
      strftime(DATE '2026-01-30' - {off}, '%Y-%m-%d') AS dt
    FROM (SELECT md5('k'||i) AS h, md5('v'||i) AS h2 FROM range({lo},{hi}) t(i)),
         (SELECT {WORDS!r} AS w, {STAT!r} AS s)"""

COLS = "order_id,user_id,status,amount,qty,price,note,city,created_at,updated_at".split(",")

def dbz(prefix):
    f = []
    for c in COLS + ["dt"]:
        v = f"{prefix}.{c}"
        if c == "amount": v = f"{v}::VARCHAR"
        if c.endswith("_at"): v = f"epoch_us({v})"
        f.append(f"'{c}', {v}")
    return "json_object(" + ", ".join(f) + ")"

def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--size", required=True, choices=SIZES); ap.add_argument("--out", default=os.environ.get("BENCH_DATA", os.path.join(os.environ.get("LAKECTL_BENCH_DIR", os.path.expanduser("~/.cache/lakectl-bench")), "data")))
    ap.add_argument("--batch", type=int, default=50_000); ap.add_argument("--batches", type=int, default=10); a = ap.parse_args()
    n = SIZES[a.size]; root = f"{a.out}/{a.size}"; t0 = time.time()
    shutil.rmtree(root, ignore_errors=True)
    for d in ("history", "batches", "small"): os.makedirs(f"{root}/{d}")
    db = f"{a.out}/gen_{a.size}.duckdb"
    if os.path.exists(db): os.remove(db)
    c = duckdb.connect(db); c.execute("SET preserve_insertion_order=false; SET memory_limit='8GB'")
    c.execute(f"CREATE TABLE st AS {rows_sql(0, n, False)} ORDER BY dt, order_id")
    assert c.execute("SELECT count(*)=count(DISTINCT order_id) FROM st").fetchone()[0]
    for k, (dt,) in enumerate(c.execute("SELECT DISTINCT dt FROM st ORDER BY dt").fetchall()):
        os.makedirs(f"{root}/history/dt={dt}"); nf = 2 + k % 3
        for p in range(nf):   # a file holds a random slice of the keys of the partition, in arrival order
            c.execute(f"COPY (SELECT {','.join(COLS)} FROM st WHERE dt='{dt}' AND {slice_('order_id',1,6)} % {nf} = {p} ORDER BY created_at) "
                      f"TO '{root}/history/dt={dt}/part-{p}.parquet' (FORMAT parquet, COMPRESSION snappy)")
    print(f"history {n} rows {time.time()-t0:.1f}s", flush=True)
    nxt = n
    def batch(name, size, seq):
        nonlocal nxt
        nu, ni, nd = int(size*.70), int(size*.25), size - int(size*.70) - int(size*.25)
        nu_r, nd_r = int(nu*.8), int(nd*.8)
        c.execute(f"CREATE OR REPLACE TEMP TABLE pick AS SELECT order_id, dt>='2026-01-28' AS recent, md5('{name}'||order_id) AS r FROM st")
        c.execute(f"CREATE OR REPLACE TEMP TABLE ra AS SELECT order_id, row_number() OVER (ORDER BY r) AS k FROM (SELECT * FROM pick WHERE recent ORDER BY r LIMIT {nu_r+nd_r})")
        c.execute(f"CREATE OR REPLACE TEMP TABLE ua AS SELECT order_id, row_number() OVER (ORDER BY r) AS k FROM (SELECT * FROM pick WHERE order_id NOT IN (SELECT order_id FROM ra) ORDER BY r DESC LIMIT {nu+nd-nu_r-nd_r})")
        c.execute(f"""CREATE OR REPLACE TEMP TABLE ops AS
          SELECT order_id, CASE WHEN k<={nu_r} THEN 'u' ELSE 'd' END AS op FROM ra UNION ALL
          SELECT order_id, CASE WHEN k<={nu-nu_r} THEN 'u' ELSE 'd' END AS op FROM ua""")
        base = f"TIMESTAMP '2026-02-01' + to_hours({seq})"
        c.execute(f"""CREATE OR REPLACE TEMP TABLE ev0 AS
          SELECT st.order_id, user_id,
            CASE WHEN op='d' THEN status ELSE {STAT!r}[1+({slice_('h',1,3)} % 7)] END AS status,
            CASE WHEN op='d' THEN amount ELSE (({slice_('h',4,5)} % 500000)/100.0)::DECIMAL(12,2) END AS amount,
            CASE WHEN op='d' THEN qty ELSE (1+({slice_('h',9,2)} % 20))::INTEGER END AS qty,
            price, note, city, created_at, dt, op, md5('o{name}'||st.order_id) AS o
          FROM (SELECT ops.*, md5('n{name}'||order_id) AS h FROM ops) q JOIN st USING (order_id)
          UNION ALL BY NAME
          SELECT * EXCLUDE (updated_at), 'c' AS op, md5('o{name}'||order_id) AS o FROM ({rows_sql(nxt, nxt+ni, True)})""")
        nxt += ni
        c.execute(f"CREATE OR REPLACE TEMP TABLE ev AS SELECT *, row_number() OVER (ORDER BY o) AS k, {base} + to_microseconds(row_number() OVER (ORDER BY o)) AS updated_at FROM ev0")
        c.execute(f"COPY (SELECT {','.join(COLS)}, dt, op FROM ev ORDER BY k) TO '{root}/{name}.parquet' (FORMAT parquet, COMPRESSION snappy)")
        c.execute(f"""COPY (SELECT json_object('before', CASE WHEN e.op='c' THEN NULL ELSE {dbz('st')} END,
              'after', CASE WHEN e.op='d' THEN NULL ELSE {dbz('e')} END,
              'source', json_object('version','2.7.0.Final','connector','mysql','name','shop','ts_ms',epoch_ms(e.updated_at),'snapshot','false','db','shop','table','orders','server_id',1,'file','binlog.000001','pos',{seq}::BIGINT*100000000+e.k*400,'row',0),
              'op', e.op, 'ts_ms', epoch_ms(e.updated_at)+5) AS j
            FROM ev e LEFT JOIN st ON st.order_id=e.order_id ORDER BY e.k) TO '{root}/{name}.json' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01')""")
        c.execute("DELETE FROM st WHERE order_id IN (SELECT order_id FROM ev)")
        c.execute(f"INSERT INTO st BY NAME SELECT {','.join(COLS)}, dt FROM ev WHERE op<>'d'")
    for b in range(a.batches): batch(f"batches/b{b:02d}", a.batch, b)
    for b in range(10): batch(f"small/s{b:02d}", 100, 100+b)
    c.close(); os.remove(db)
    print(f"{a.size} done {time.time()-t0:.1f}s")
main()

import json, os, sys, time, subprocess, glob, resource
HERE = os.environ.get("LAKECTL_BENCH_DIR", os.path.expanduser("~/.cache/lakectl-bench"))
DATA = os.environ.get("BENCH_DATA", f"{HERE}/data")
JARS = os.environ.get("BENCH_JARS", f"{HERE}/jars")
OUT = os.environ.get("BENCH_OUT", f"{HERE}/out")
RESULTS = os.environ.get("BENCH_RESULTS", f"{HERE}/results.jsonl")
VENV = os.environ.get("BENCH_VENV", f"{HERE}/venv")
COLS = "order_id,user_id,status,amount,qty,price,note,city,created_at,updated_at".split(",")
HZ = os.sysconf("SC_CLK_TCK")

def hash_sql(p=""):
    # one string of every column, types brought to one form, so that every engine's files give the same hash
    return ("hash(concat_ws('|', order_id, user_id::BIGINT, status, amount::DECIMAL(12,2), qty::INTEGER, printf('%.3f', price::DOUBLE), note, city, "
            "epoch_us(created_at), epoch_us(updated_at), dt::VARCHAR))")

def state_of(c, rel):
    rows = c.execute(f"SELECT status, count(*), sum(amount)::VARCHAR, sum({hash_sql()})::VARCHAR FROM {rel} GROUP BY 1 ORDER BY 1").fetchall()
    return {"rows": sum(r[1] for r in rows), "hash": str(sum(int(r[3].split('.')[0]) for r in rows) % (1 << 64)),
            "status": {r[0]: [r[1], r[2]] for r in rows}}

_adhoc = {}
def expected(size, key="upsert"):
    if "+" in key:   # "3+2": the state after 3 batches and 2 small ones, computed from the files
        if key not in _adhoc:
            import duckdb
            b, s = (int(x) for x in key.split("+")); fs = batches(size, b) + smalls(size, s)
            src = f"SELECT {','.join(COLS)}, dt::VARCHAR AS dt, 'c' AS op FROM read_parquet('{hist(size)}/*/*.parquet', hive_partitioning=true, hive_types_autocast=false) UNION ALL BY NAME SELECT {','.join(COLS)}, dt, op FROM read_parquet({fs!r})"
            _adhoc[key] = state_of(duckdb.connect(), f"(SELECT * FROM ({src}) QUALIFY row_number() OVER (PARTITION BY order_id ORDER BY updated_at DESC)=1) WHERE op<>'d'")
        return _adhoc[key]
    return json.load(open(f"{DATA}/{size}/expected.json"))[key]

def check_rel(size, key, rel, con=None):
    """full check: rows, hash of every column, per-status"""
    import duckdb
    c = con or duckdb.connect()
    c.execute("SET enable_progress_bar=false")   # a slow query prints its bar on stdout
    got, exp = state_of(c, rel), expected(size, key)
    if got != exp:
        print(f"MISMATCH {key}: got {got['rows']} {got['hash']} expected {exp['rows']} {exp['hash']}", file=sys.stderr)
    return got == exp

def check_agg(size, key, rows):
    """rows: iterable of (status, count, sum amount)"""
    from decimal import Decimal
    exp = {k: (v[0], Decimal(v[1])) for k, v in expected(size, key)["status"].items()}
    got = {r[0]: (int(r[1]), Decimal(str(r[2])).quantize(Decimal("0.01"))) for r in rows}
    if got != exp: print(f"MISMATCH agg {key}: {got} expected {exp}", file=sys.stderr)
    return got == exp

def check_export(size, key, path_glob, hive=False):
    """check Parquet files with the DuckDB of the environment (one hash function for all systems)"""
    code = f"import sys; sys.path.insert(0,{os.path.dirname(os.path.abspath(__file__))!r})\nfrom common import check_rel\nprint(check_rel({size!r},{key!r},\"read_parquet({path_glob!r}, hive_partitioning={'true' if hive else 'false'}, hive_types_autocast=false, union_by_name=true)\"))"
    r = subprocess.run([f"{VENV}/bin/python", "-c", code], capture_output=True, text=True)
    if "True" not in r.stdout: sys.stderr.write(r.stdout + r.stderr[-1500:])
    return r.stdout.strip().endswith("True")

def hudi_latest(path):
    """latest base file of every file group, by the completed instants of the timeline (no replace commits, no logs looked at)"""
    tl = f"{path}/.hoodie/timeline" if os.path.isdir(f"{path}/.hoodie/timeline") else f"{path}/.hoodie"
    done = set()
    for f in os.listdir(tl):
        b = f.split(".")
        if len(b) == 2 and b[1] in ("commit", "deltacommit", "replacecommit"): done.add(b[0].split("_")[0])
    best = {}
    for f in glob.glob(f"{path}/dt=*/*.parquet") + glob.glob(f"{path}/20*/*.parquet"):
        n = os.path.basename(f)[:-8].split("_")
        if n[-1] not in done: continue
        fid = (os.path.dirname(f), n[0])
        if fid not in best or n[-1] > best[fid][0]: best[fid] = (n[-1], f)
    return [v[1] for v in best.values()]

def du(path):
    b = n = 0
    for d, _, fs in os.walk(path):
        for f in fs:
            try: b += os.lstat(os.path.join(d, f)).st_size; n += 1
            except OSError: pass
    return b, n

def tree():
    """pids of this process and its descendants"""
    kids = {}
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                s = open(f"/proc/{p}/stat").read(); ppid = int(s.rsplit(")", 1)[1].split()[1])
                kids.setdefault(ppid, []).append(int(p))
            except OSError: pass
    out, todo = [], [os.getpid()]
    while todo:
        x = todo.pop(); out.append(x); todo += kids.get(x, [])
    return out

def tree_cpu():
    """user+sys of the tree: living processes and what they have waited for"""
    t = 0
    for p in tree():
        try:
            f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
            t += sum(int(x) for x in f[11:15])
        except OSError: pass
    return t / HZ

def io_written():
    t = 0
    for p in tree():
        try:
            for l in open(f"/proc/{p}/io"):
                if l.startswith("write_bytes"): t += int(l.split()[1])
        except OSError: pass
    return t

def hwm_reset():
    for p in tree():
        try: open(f"/proc/{p}/clear_refs", "w").write("5")
        except OSError: pass

def hwm_mb():
    t = 0
    for p in tree():
        try:
            for l in open(f"/proc/{p}/status"):
                if l.startswith("VmHWM"): t += int(l.split()[1])
        except OSError: pass
    return round(t / 1024)

class Bench:
    def __init__(self, system, version, size, table=None, note=None):
        self.s, self.v, self.size, self.table, self.note = system, version, size, table, note
    def phase(self, name, rows, fn, check=None, **extra):
        hwm_reset(); la = os.getloadavg()[0]; w0 = io_written(); c0 = tree_cpu(); t0 = time.perf_counter()
        r = fn()
        wall = time.perf_counter() - t0; cpu = tree_cpu() - c0
        if callable(rows): rows = rows()
        rec = {"system": self.s, "version": self.v, "size": self.size, "phase": name, "rows": rows, "wall_s": round(wall, 3), "cpu_s": round(cpu, 2),
               "peak_rss_mb": hwm_mb(), "io_written": io_written() - w0, "load": round(la, 2), "at": time.strftime("%H:%M:%S"), **extra}
        if self.table and os.path.exists(self.table):
            rec["dir_bytes"], rec["dir_files"] = du(self.table) if os.path.isdir(self.table) else (os.path.getsize(self.table), 1)
        if check:
            try: rec["ok"] = bool(check(r))
            except Exception as e: rec["ok"] = False; rec["err"] = repr(e)[:300]
        self.emit(rec); return r
    def emit(self, rec):
        if self.note: rec["note"] = self.note
        l = json.dumps(rec); print(l, flush=True); open(RESULTS, "a").write(l + "\n")
    def raw(self, phase, **kw):
        self.emit({"system": self.s, "version": self.v, "size": self.size, "phase": phase, "load": round(os.getloadavg()[0], 2), "at": time.strftime("%H:%M:%S"), **kw})

def batches(size, n=10):
    return [f"{DATA}/{size}/batches/b{i:02d}.parquet" for i in range(n)]
def smalls(size, n=10):
    return [f"{DATA}/{size}/small/s{i:02d}.parquet" for i in range(n)]
ROWS = {"S": 200_000, "M": 2_000_000, "L": 10_000_000}
def hist(size): return f"{DATA}/{size}/history"
KEY = {3: "b03", 5: "b05", 10: "upsert"}
def after(batches, small):
    """key of the state after batches and small ones"""
    return "small" if (batches, small) == (10, 10) else f"{batches}+{small}" if small else KEY[batches]

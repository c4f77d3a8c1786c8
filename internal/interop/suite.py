"""The interop suite; see run.sh. One line per check on stdout, a summary at the end; exit 1 when a check failed."""
import argparse, glob, json, os, random, shutil, signal, subprocess, sys, tarfile, tempfile, threading, time
import pyarrow as pa
import bootstrap, index, mdt, mor, readers, services, shop
from cell import OWNED, Cell, Lakectl, Report, committed_files, stray_files, timeline

ROOT = os.path.dirname(os.path.dirname(services.HERE))
START = time.time()
MOR = ((9, "local", {"type": "record"}), (9, "s3", {"type": "bucket", "buckets": 2}), (6, "local", {"type": "bloom"}), (6, "s3", {"type": "bucket", "buckets": 2}))
PARTS = ["conformance", "golden", "9:s3", "6:local", "9:local", "6:s3", *(f"mor:{v}:{s}" for v, s, _ in MOR), "services:9:s3", "services:6:local", "mdt", "index", "wide", "first", "kills", "kills:mor", "bootstrap:formats", "bootstrap:sync", "bootstrap:life"]


class Moment:
    """When to kill: at random, as the local index is loaded, or while a copy of it goes to the table's storage."""

    def __init__(self, l, disk, rng):
        self.l, self.rng, self.remote = l, rng, f"{disk}/.hoodie/.lakectl/index"

    def before(self, n):
        """Called before a daemon starts."""
        self.kind = ("random", "loading", "copying", "random", "loading from files")[n % 5]
        if self.kind.startswith("loading"):
            shutil.rmtree(self.l.state, ignore_errors=True)
        if self.kind == "loading from files":
            shutil.rmtree(self.remote, ignore_errors=True)
        self.left = self.unnamed()

    def wait(self, d):
        end = time.time() + (3 if self.kind == "copying" else 10)
        if self.kind == "random":
            end = time.time() + 0.3 + self.rng.uniform(0, 2.5)
        while d.poll() is None and time.time() < end:
            if self.kind.startswith("loading") and glob.glob(f"{self.l.state}/*/index.json"):
                time.sleep(self.rng.uniform(0, 0.2))
                return
            if self.kind == "copying" and self.half():
                return
            time.sleep(0.003)

    def unnamed(self):
        """Objects of the copy that are newer than its manifest, which comes last."""
        try:
            at = {f.name: f.stat().st_mtime_ns for f in os.scandir(self.remote)}
        except OSError:  # it is being made or cleaned
            return set()
        return {f for f, t in at.items() if t > at.get("manifest.json", 0)}

    def half(self):
        """A copy was begun and is not finished."""
        return bool(self.unnamed() - self.left)


def kills(suite, n, seed, kind="cow"):
    """kill -9 at n moments of an ingest into S3, while events arrive, and the local index is lost, loaded and copied; then exactly the rows
    that were produced. Rows of the copy-on-write table move between partitions, and its metadata table has a record index; the
    merge-on-read table is compacted and cleaned all the while."""
    g = random.Random(seed)
    print(f"     kill test: {kind}, {n} kills, seed {seed}", flush=True)
    name = f"orders_{kind}_killed"
    suite.s3.bucket("lake")
    sh = (index.Moving if kind == "cow" else shop.Shop)(seed, name)
    topic = f"shop.public.{name}"
    suite.kafka.create_topic(topic, shop.PARTITIONS)
    disk = f"{suite.s3.root}/lake/{name}"
    l = Lakectl(suite.binary, suite.tmp, name, suite.kafka, suite.s3, f"s3://lake/{name}", 9,
                {"type": "record", "scope": "table" if kind == "cow" else "partition", "snapshot": "1s"}, sh.declared(), topic,
                lease="5s", commit={"interval": "300ms", "max_records": 5000}, type=kind,
                services={"compaction": {"mode": "inline", "max_delta_commits": 2}, "clean": {"mode": "inline", "keep_commits": 4}} if kind == "mor"
                else {"metadata_table": True, "record_index": True})
    seen = {"before any commit": 0, "during a commit": 0, "during a compaction": 0, "between commits": 0, "as the index was loaded": 0, "during a copy of it": 0, "exit 5 met": 0}
    stop = threading.Event()

    def produce():
        while not stop.is_set():
            sh.create(60)
            sh.update(60)
            if kind == "cow":
                sh.move(20)
                sh.late(5)
                sh.gone(10, 4)
            else:
                sh.delete(10)
            suite.kafka.produce(topic, sh.drain())
            stop.wait(0.05)

    sh.create(2000)
    suite.kafka.produce(topic, sh.drain())
    t = threading.Thread(target=produce)
    t.start()
    try:
        done, at = 0, Moment(l, disk, g)
        while done < n:
            at.before(done)
            d = l.daemon()
            # a writer that meets the dead one's lease ends with 5; only moments of a running ingest count
            at.wait(d)
            if d.poll() is not None:
                if d.returncode != OWNED:
                    return f"ingest ended by itself with {d.returncode}: " + open(l.log, errors="replace").read()[-1500:]
                seen["exit 5 met"] += 1
                time.sleep(0.3)
                continue
            d.kill()
            d.wait()
            done += 1
            seen["as the index was loaded"] += at.kind.startswith("loading")
            seen["during a copy of it"] += at.half()
            if not os.path.isdir(f"{disk}/.hoodie"):
                seen["before any commit"] += 1
            else:
                pending = committed_files(disk)[1]
                compacting = any(f.split(".")[0] in pending and ".compaction." in f for f in timeline(disk))
                seen["during a compaction" if compacting else "during a commit" if pending else "between commits"] += 1
    finally:
        stop.set()
        t.join()
    l.catch_up()
    if kind == "mor":
        l.run("compact", "-c", l.config, "--execute-only", "--no-clean", "--no-archive")
    print(f"     killed {seen}; {sh.next} keys made, {len(sh.rows)} rows left, {len(timeline(disk))} timeline files", flush=True)
    want = sh.expected()
    c = lambda what, f: suite.report.check(f"{n} kills, {kind}: {what}", f)
    def own():
        out = l.run("read", *l.where(True), "--format", "jsonl", "--sort").stdout.decode()
        return readers.compare_lines(out.splitlines(), shop.canonical(want), lambda r: (str(r["id"]), r["region"]))
    c("lakectl read", own)
    def verify():
        if kind == "cow" and not index.has(disk):
            return "the table has no record index"
        l.run("verify", *l.where(True), "--keys")
    c("lakectl verify, every key once", verify)
    c("hudi-rs", lambda: readers.compare(readers.hudi_rs(f"s3://lake/{name}", suite.s3), want))
    for w in suite.sparks:
        if w.version.startswith("1."):
            c(f"Spark, Hudi {w.version}", lambda: index.counted(index.live(w, f"s3://lake/{name}", suite.tmp), want))
    c("no stray file", lambda: stray_files(disk))
    return None


def golden(suite):
    """The comparers themselves: they agree with what Hudi's own engines read from tables that Hudi wrote, and a wrong cell, a lost row and a row too many make them fail."""
    d = f"{suite.tmp}/golden"
    for version, hudi in (("v9", "1."), ("v6", "0."), ("v6", "1.")):
        os.makedirs(f"{d}/{version}", exist_ok=True)
        for part in ("table", "expected"):
            to = f"{d}/{version}/{part}"
            if not os.path.isdir(to):
                with tarfile.open(f"{ROOT}/testdata/golden/{version}/cow_part.{part}.tar.gz") as t:
                    t.extractall(to, filter="data")
        table, exp = f"{d}/{version}/table/cow_part", f"{d}/{version}/expected/cow_part"
        worker = next(w for w in suite.sparks if w.version.startswith(hudi))
        got = readers.spark(worker, table, suite.tmp)
        flat = [f.name for f in got.schema if not pa.types.is_nested(f.type)]
        got = got.select(flat)
        want = [json.loads(l) for l in open(sorted(glob.glob(exp + "/step*_snapshot.jsonl"))[-1], encoding="utf-8")]
        want = [{k: r[k] for k in flat} for r in want]
        lines = [json.dumps(r) for r in sorted(shop.canonical(got), key=lambda r: r["id"])]
        c = lambda what, f: suite.report.check(f"golden {version}: {what}", f)
        c(f"Spark, Hudi {worker.version}", lambda: readers.compare_lines(lines, want, lambda r: r["id"]))
        c("hudi-rs", lambda: readers.compare(readers.hudi_rs(table).select(flat), got))
        def trino():
            cols = [(f.name, readers.hive_type(f.type)) for f in got.schema]
            suite.trino.wait()
            suite.trino.register(f"golden_{version}", f"local://{table}", cols, "part", [(p, p) for p in sorted({r["part"] for r in want})])
            return readers.compare(readers.trino(suite.trino, f"golden_{version}", got.schema), got)
        c("Trino", trino)
        i = got.schema.get_field_index("c_long")
        cells = got.column(i).to_pylist()
        cells[3] = (cells[3] or 0) + 1
        for what, wrong in (("a wrong cell", got.set_column(i, "c_long", pa.array(cells, got.schema.field(i).type))), ("a lost row", got.slice(1)),
                            ("a row twice", pa.concat_tables([got, got.slice(0, 1)])), ("a lost column", got.drop_columns(["c_long"])),
                            ("a wrong type", got.set_column(i, "c_long", got.column(i).cast(pa.float64())))):
            c(f"{what} is seen", lambda: None if readers.compare(wrong, got) else "compare found no difference")
        bad = list(lines)
        bad[3] = json.dumps(dict(json.loads(bad[3]), c_long=1))
        c("a wrong line is seen", lambda: None if readers.compare_lines(bad, want, lambda r: r["id"]) else "compare_lines found no difference")


def model():
    """The expected rows are what applying the events one by one gives."""
    for decimals in ("text", "base64"):
        sh, got = shop.Shop("model", "t", decimals), {}
        sh.create(3000)
        sh.update(3000)
        sh.delete(200)
        sh.revive(50)
        sh.rekey(50)
        sh.added = True
        sh.update(2000)
        sh.create(100)
        for _, key, value in sh.drain():
            if value is None:
                continue
            e, id = json.loads(value), json.loads(key)["id"]
            old, new = got.get(id), e["after"] or e["before"]
            if old and new["updated_at"] < old["updated_at"]:
                continue
            if e["op"] == "d":
                del got[id]
                continue
            if new["note"] == shop.UNAVAILABLE:
                new["note"] = old["note"]
            got[id] = new
        want = {i: sh.image(r) for i, r in sh.rows.items()}
        got = {i: {c: r.get(c) for c in want.get(i, r)} for i, r in got.items()}
        if got != want:
            return f"{decimals}: {sum(got.get(i) != r for i, r in want.items())} of {len(want)} rows differ"
    return None


def conformance(suite):
    """The stores' conformance suite, against the gateway."""
    suite.s3.bucket("conformance")
    p = subprocess.run(["go", "test", "-count=1", "-v", "-run", "^TestServer$", "./storage/s3"], cwd=ROOT, capture_output=True, text=True, timeout=900,
                       env=dict(os.environ, LAKECTL_S3_ENDPOINT=suite.s3.endpoint, LAKECTL_S3_BUCKET="conformance"))
    if p.returncode:
        return p.stdout[-2500:] + p.stderr[-500:]
    return None if "--- PASS: TestServer" in p.stdout else "TestServer did not run:\n" + p.stdout[-500:]


class Suite:
    """What the parts share. Metastores, and the Spark that writes their tables, run when a part asks for them, one at a time."""

    hive = None

    def history(self, version):
        """The history of a metastore: what a part asked for last is kept, what another asked for before is ended."""
        if self.hive and self.hive.metastore.version == version:
            return self.hive
        if self.hive:
            services.stop(self.hive.spark.proc)
            services.stop(self.hive.metastore.proc)
        m = services.Metastore(version, self.tmp, self.metastores[version])
        m.wait()
        w = services.Spark("1.2.0", self.tmp, m)
        w.wait()
        self.hive = bootstrap.History(self, w, m)
        return self.hive


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("binary")
    ap.add_argument("--kills", type=int, default=10)
    ap.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    ap.add_argument("--only", default=",".join(PARTS), help=f"parts to run: {', '.join(PARTS)}")
    ap.add_argument("--rows", type=int, default=200_000)
    ap.add_argument("--keep", action="store_true", help="leave the tables and logs")
    a = ap.parse_args()
    only = a.only.split(",")
    if unknown := set(only) - set(PARTS):
        ap.error(f"--only: no part {sorted(unknown)}; there are {', '.join(PARTS)}")
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, lambda *_: sys.exit(130))
    s = Suite()
    s.binary, s.report = os.path.abspath(a.binary), Report()
    s.tmp = tempfile.mkdtemp(prefix="lakectl-interop-")
    try:
        s.s3 = services.S3(s.tmp)
        s.kafka = services.Kafka(s.tmp)
        own = {p for p in only if not p.startswith("bootstrap:")}
        s.sparks = [services.Spark("1.2.0", s.tmp)] if own - {"conformance"} else []
        s.metastores = {v: services.free_port() for v in ("3.1.3", "4.0.1")}
        if set(only) - {"conformance", "kills", "kills:mor"}:
            if own:
                s.sparks.append(services.Spark("0.15.0", s.tmp))
            s.trino = services.Trino(s.tmp, s.s3, {f"hive{v[0]}": p for v, p in s.metastores.items()})
        for w in s.sparks:
            w.wait()
        s.report.check("the expected rows follow from the events one by one", model)
        if "conformance" in only:
            s.report.check("versitygw passes the stores' conformance suite", lambda: conformance(s))
        if "golden" in only:
            golden(s)
        small = max(a.rows // 10, 1)
        for version, store, rows, by, decimals in ((9, "s3", a.rows, {"type": "record"}, "text"), (6, "local", a.rows, {"type": "bloom"}, "base64"),
                                                   (9, "local", small, {"type": "bucket", "buckets": 4}, "base64"), (6, "s3", small, {"type": "bucket", "buckets": 4}, "text")):
            if f"{version}:{store}" in only:
                Cell(s, version, store, rows, by, decimals).life(full=rows == a.rows)
        for version, store, by in MOR:
            if f"mor:{version}:{store}" in only:
                mor.Life(s, version, store, max(a.rows // 100, 400), by).life()
        for version, store, by in ((9, "s3", {"type": "bucket", "buckets": 2}), (6, "local", {"type": "record"})):
            if f"services:{version}:{store}" in only:
                mor.Services(s, version, store, by).life()
        if "mdt" in only:
            mdt.all_kinds(s)
        if "index" in only:
            index.lives(s)
        if "wide" in only:
            mor.wides(s)
        if "first" in only:
            mor.firsts(s)
        if "kills" in only:
            s.report.check(f"{a.kills} kills, cow: ingest goes on to the end", lambda: kills(s, a.kills, a.seed))
        if "kills:mor" in only:
            n = (a.kills + 1) // 2
            s.report.check(f"{n} kills, mor: ingest goes on to the end", lambda: kills(s, n, a.seed, "mor"))
        if "bootstrap:formats" in only:
            bootstrap.formats(s)
        for hive in ("3.1.3", "4.0.1"):
            if "bootstrap:sync" in only:
                bootstrap.synced(s, hive)
            if "bootstrap:life" in only:
                bootstrap.lives(s, hive)
    finally:
        services.stop_all()
        if a.keep or s.report.failed:
            print(f"tables and logs are in {s.tmp}")
        else:
            shutil.rmtree(s.tmp, ignore_errors=True)
    print(f"{time.time() - START:.0f} s")
    print(f"{s.report.passed} passed, {s.report.failed} failed")
    return 1 if s.report.failed or not s.report.passed else 0


if __name__ == "__main__":
    sys.exit(main())

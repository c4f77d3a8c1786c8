"""The interop suite; see run.sh. One line per check on stdout, a summary at the end; exit 1 when a check failed."""
import argparse, glob, io, json, os, random, re, shutil, signal, subprocess, sys, tarfile, tempfile, threading, time, traceback
import pyarrow as pa, pyarrow.parquet as pq
import readers, services, shop

ROOT = os.path.dirname(os.path.dirname(services.HERE))
OWNED = 5  # lakectl's exit code while another writer's lease lasts
START = time.time()


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, f):
        """f returns None, or what is wrong; an exception is a failure of this check alone."""
        t = time.time()
        try:
            wrong = f()
        except Exception as e:
            wrong = "".join(traceback.format_exception_only(e)).strip()
            if not isinstance(e, (RuntimeError, subprocess.TimeoutExpired)):
                traceback.print_exc()
        if wrong:
            self.failed += 1
        else:
            self.passed += 1
        print(f"{'FAIL' if wrong else 'ok  '} {name} ({time.time() - t:.1f} s)" + (f"\n     {str(wrong)[:3000]}" if wrong else ""), flush=True)
        return not wrong


class Lakectl:
    """The binary under test with one configuration file."""

    def __init__(self, binary, tmp, name, kafka, s3, path, version, index, declared, topic, **over):
        self.binary, self.path, self.name = binary, path, name
        self.config = f"{tmp}/{name}.yaml"
        self.log = f"{tmp}/{name}.log"
        c = {
            "state_dir": f"{tmp}/{name}.state", "memory": "1GiB",
            "storage": {"s3": {"endpoint": s3.endpoint, "region": "us-east-1", "path_style": True}},
            "sources": {"shop": {"type": "kafka", "brokers": [kafka.brokers], "group": f"lakectl-{name}", "start": "earliest"}},
            "tables": [{
                "name": name, "path": path, "type": "cow", "version": version, "key": ["id"], "partition_by": ["region"], "ordering": ["updated_at"],
                "merge": "latest", "index": index,
                "from": {"source": "shop", "topics": [topic], "format": "debezium-json", "on_error": "fail"},
                "schema": {"columns": declared, "evolve": ["add", "widen", "nullable"]},
                "lease": over.get("lease", "5s"),
                "commit": over.get("commit", {"interval": "5s", "max_records": 50_000}),
                "files": over.get("files", {"target_size": "1MiB", "small_file": "512KiB", "compression": "zstd"}),
                "services": {"metadata_table": False},
            }],
        }
        with open(self.config, "w") as f:
            json.dump(c, f, indent=1)  # JSON is YAML

    def run(self, *args, ok=(0,), timeout=600):
        with open(self.log, "ab") as log:
            log.write(f"$ lakectl {' '.join(args)}\n".encode())
            log.flush()
            p = subprocess.run([self.binary, *args], stdout=subprocess.PIPE, stderr=log, timeout=timeout)
            log.write(f"exit {p.returncode}\n".encode())
        if p.returncode not in ok:
            raise RuntimeError(f"lakectl {' '.join(args)}: exit {p.returncode}: " + open(self.log, errors="replace").read()[-1500:])
        return p

    def catch_up(self):
        """Ingests to the end; a killed writer's lease may have to run out first."""
        end = time.time() + 60
        while True:
            p = self.run("ingest", "-c", self.config, "--until-caught-up", ok=(0, OWNED))
            if p.returncode == 0:
                return
            if time.time() > end:
                raise RuntimeError("the lease of the killed writer never ran out")
            time.sleep(0.5)

    def daemon(self):
        return subprocess.Popen([self.binary, "ingest", "-c", self.config], stdout=subprocess.DEVNULL, stderr=open(self.log, "ab"), stdin=subprocess.DEVNULL)

    def where(self, s3path):
        """How a command that reads finds the table: S3's settings are in the configuration."""
        return ["--path", self.path] + (["-c", self.config] if s3path else [])


class Cell:
    """A table in one version on one store, its source topic, and what it must hold."""

    def __init__(self, suite, version, store, scale, index, decimals):
        self.s, self.version, self.store, self.scale = suite, version, store, scale
        self.name = f"orders_v{version}_{store}"
        self.title = f"v{version} {store}"
        self.shop = shop.Shop(f"{version}{store}", self.name, decimals)
        self.topic = f"shop.public.{self.name}"
        self.index = index
        if store == "s3":
            suite.s3.bucket("lake")
            self.path, self.disk = f"s3://lake/{self.name}", f"{suite.s3.root}/lake/{self.name}"
        else:
            self.path = self.disk = f"{suite.tmp}/tables/{self.name}"
            os.makedirs(f"{suite.tmp}/tables", exist_ok=True)
        suite.kafka.create_topic(self.topic, shop.PARTITIONS)
        self.l = Lakectl(suite.binary, suite.tmp, self.name, suite.kafka, suite.s3, self.path, version, index, self.shop.declared(), self.topic)

    def produce(self):
        return self.s.kafka.produce(self.topic, self.shop.drain())

    def check_all(self, step, trino=False, engines=True):
        want = self.shop.expected()
        c = lambda what, f: self.s.report.check(f"{self.title}: {step}: {what}", f)
        c("lakectl read", lambda: self.read_own(want))
        if engines:
            for w in self.s.sparks:
                if w.version.startswith("1.") or self.version == 6:
                    c(f"Spark, Hudi {w.version}", lambda: readers.compare(readers.spark(w, self.path, self.s.tmp), want))
        c("hudi-rs", lambda: readers.compare(readers.hudi_rs(self.path, self.s3()), want))
        c("DuckDB", lambda: readers.compare(self.read_duck(), want))
        if trino:
            c("Trino", lambda: readers.compare(self.read_trino(want), want))
        c("files", lambda: stray_files(self.disk))

    def s3(self):
        return self.s.s3 if self.store == "s3" else None

    def read_own(self, want):
        out = self.l.run("read", *self.l.where(self.s3()), "--format", "jsonl", "--sort").stdout.decode()
        return readers.compare_lines(out.splitlines(), shop.canonical(want), lambda r: (str(r["id"]), r["region"]))

    def read_duck(self):
        sql = self.l.run("view", *self.l.where(self.s3()), "--for", "duckdb").stdout.decode()
        return readers.duck(sql, self.s3())

    def read_trino(self, want):
        parts = sorted(d for d in os.listdir(self.disk) if d != ".hoodie" and os.path.isdir(f"{self.disk}/{d}"))
        location = self.path if self.store == "s3" else f"local://{self.path}"
        cols = [(f.name, readers.hive_type(f.type)) for f in want.schema]
        self.s.trino.wait()
        self.s.trino.register(self.name, location, cols, "region", [(p, p) for p in parts])
        return readers.trino(self.s.trino, self.name, want.schema)

    def step(self, name, f, **checks):
        if self.s.report.check(f"{self.title}: {name}", f):
            self.check_all(name, **checks)
            return True
        return False

    def life(self, full):
        n = self.scale
        sh = self.shop

        def load():
            sh.create(n // 2, op="r")
            sh.create(n - n // 2)
            self.produce()
            self.l.catch_up()

        def upserts():
            sh.update(n // 5)
            sh.create(n // 40)
            self.produce()
            self.l.catch_up()

        def deletes():
            sh.delete(n // 20)
            sh.revive(n // 200)
            sh.rekey(n // 200)
            self.produce()
            self.l.catch_up()

        def column():
            sh.added = True
            sh.update(n // 50)
            sh.create(n // 50)
            self.produce()
            self.l.catch_up()

        def killed():
            g = random.Random(n)
            for _ in range(3):
                sh.update(n // 40)
                sh.create(n // 40)
                sh.delete(n // 100)
                self.produce()
                d = self.l.daemon()
                time.sleep(g.uniform(0.3, 3))
                d.kill()
                d.wait()
            self.l.catch_up()

        def again():
            self.l.catch_up()

        if not self.step("load", load, engines=full):
            return
        if not self.step("upserts", upserts, engines=full) or not self.step("deletes", deletes, engines=full, trino=full):
            return
        if not self.step("an added column", column) or not self.step("kill -9 and restart", killed, engines=full):
            return
        if not self.step("Spark writes", self.foreign):
            return

        def more():
            sh.update(n // 40)
            sh.create(n // 100)
            sh.delete(n // 100)
            self.produce()
            self.l.catch_up()
        self.step("lakectl goes on after Spark", more, trino=True)
        self.s.report.check(f"{self.title}: nothing new makes no commit", self.idle)

    def idle(self):
        before = sorted(timeline(self.disk))
        self.l.catch_up()
        after = sorted(timeline(self.disk))
        return None if before == after else f"timeline went from {before[-3:]} to {after[-3:]}"

    def foreign(self):
        """Real Spark upserts, inserts and deletes, with the engine that wrote this version first."""
        w = next(w for w in self.s.sparks if w.version.startswith("0.") == (self.version == 6))
        up, gone = self.shop.foreign(self.scale // 100, self.scale // 200, self.scale // 200)
        p = properties(self.disk)
        opt = {
            "hoodie.table.name": p["hoodie.table.name"], "hoodie.datasource.write.table.type": p["hoodie.table.type"],
            "hoodie.datasource.write.recordkey.field": "id", "hoodie.datasource.write.partitionpath.field": "region",
            "hoodie.datasource.write.precombine.field": "updated_at", "hoodie.metadata.enable": "false",
            "hoodie.datasource.write.hive_style_partitioning": p.get("hoodie.datasource.write.hive_style_partitioning", "false"),
            "hoodie.index.type": "BUCKET" if self.index["type"] == "bucket" else "BLOOM",
            "hoodie.write.table.version": p["hoodie.table.version"], "hoodie.write.auto.upgrade": "false",
            "hoodie.upsert.shuffle.parallelism": "2", "hoodie.delete.shuffle.parallelism": "2", "hoodie.bloom.index.parallelism": "2",
            "hoodie.clean.automatic": "false", "hoodie.archive.automatic": "false",
        }
        if self.index["type"] == "bucket":
            opt["hoodie.bucket.index.num.buckets"] = str(self.index["buckets"])
            opt["hoodie.bucket.index.hash.field"] = "id"
        for op, t in (("upsert", up), ("delete", gone)):
            f = f"{self.s.tmp}/{self.name}-{op}.parquet"
            pq.write_table(t, f, coerce_timestamps="us")
            # Spark knows only timestamps that are adjusted to UTC
            i = t.schema.get_field_index("created_at")
            pq.write_table(t.set_column(i, "created_at", t.column(i).cast(pa.timestamp("us", "UTC"))), f)
            w.ask(cmd="write", path=self.path.replace("s3://", "s3a://"), rows=f, op=op, opt=opt)


def properties(table):
    p = {}
    for l in open(f"{table}/.hoodie/hoodie.properties", encoding="utf-8"):
        if not l.startswith("#") and "=" in l:
            k, v = l.rstrip("\n").split("=", 1)
            p[k] = v.replace("\\:", ":").replace("\\=", "=")
    return p


def timeline(table):
    d = f"{table}/.hoodie/timeline" if os.path.isdir(f"{table}/.hoodie/timeline") else f"{table}/.hoodie"
    return {f: f"{d}/{f}" for f in os.listdir(d) if re.match(r"^\d{17}", f)}


def committed_files(table):
    """The paths that the completed commits of the active timeline name, and the instants that are not completed."""
    import fastavro
    paths, begun, done = set(), set(), set()
    for name, file in timeline(table).items():
        parts = name.split(".")
        instant = parts[0].split("_")[0]
        if parts[1:] in (["commit"], ["deltacommit"], ["replacecommit"]):
            done.add(instant)
            raw = open(file, "rb").read()
            m = json.loads(raw) if raw[:1] == b"{" else next(iter(fastavro.reader(io.BytesIO(raw))))
            for stats in m["partitionToWriteStats"].values():
                paths.update(s["path"] for s in stats)
        elif parts[-1] in ("requested", "inflight"):
            begun.add(instant)
        elif parts[1] in ("rollback", "clean", "savepoint", "restore"):
            done.add(instant)
    return paths, begun - done


def stray_files(table):
    """Every data file is one that a completed commit names, and is there whole; nothing is pending; nothing else lies about."""
    paths, pending = committed_files(table)
    on_disk = set()
    for d, subs, files in os.walk(table):
        if d == table:
            subs[:] = [s for s in subs if s != ".hoodie"]
        for f in files:
            if f.endswith(".crc") or f.startswith(".hoodie_partition_metadata"):
                continue
            on_disk.add(os.path.relpath(os.path.join(d, f), table))
    left = [f for d, _, files in os.walk(f"{table}/.hoodie/.temp") for f in files]
    wrong = []
    if s := sorted(on_disk - paths): wrong.append(f"{len(s)} files that no commit names: {s[:3]}")
    if s := sorted(paths - on_disk): wrong.append(f"{len(s)} files named by a commit are gone: {s[:3]}")
    if pending: wrong.append(f"instants not completed: {sorted(pending)}")
    if left: wrong.append(f"{len(left)} markers left under .hoodie/.temp: {left[:3]}")
    return "; ".join(wrong) or None


def kills(suite, n, seed):
    """kill -9 at n random moments of an ingest into S3, while events arrive; then exactly the rows that were produced."""
    g = random.Random(seed)
    print(f"     kill test: {n} kills, seed {seed}", flush=True)
    name = "orders_killed"
    suite.s3.bucket("lake")
    sh = shop.Shop(seed, name)
    topic = f"shop.public.{name}"
    suite.kafka.create_topic(topic, shop.PARTITIONS)
    disk = f"{suite.s3.root}/lake/{name}"
    l = Lakectl(suite.binary, suite.tmp, name, suite.kafka, suite.s3, f"s3://lake/{name}", 9, {"type": "bloom"}, sh.declared(), topic,
                lease="5s", commit={"interval": "300ms", "max_records": 5000})
    seen = {"before any commit": 0, "during a commit": 0, "between commits": 0, "exit 5 met": 0}
    stop = threading.Event()

    def produce():
        while not stop.is_set():
            sh.create(60)
            sh.update(60)
            sh.delete(10)
            suite.kafka.produce(topic, sh.drain())
            stop.wait(0.05)

    sh.create(2000)
    suite.kafka.produce(topic, sh.drain())
    t = threading.Thread(target=produce)
    t.start()
    try:
        done = 0
        while done < n:
            d = l.daemon()
            # a writer that meets the dead one's lease ends with 5; only moments of a running ingest count
            alive = time.time() + 0.3
            while time.time() < alive and d.poll() is None:
                time.sleep(0.01)
            if d.poll() is None:
                time.sleep(g.uniform(0, 2.5))
            if d.poll() is not None:
                if d.returncode != OWNED:
                    return f"ingest ended by itself with {d.returncode}: " + open(l.log, errors="replace").read()[-1500:]
                seen["exit 5 met"] += 1
                time.sleep(0.3)
                continue
            d.kill()
            d.wait()
            done += 1
            if not os.path.isdir(f"{disk}/.hoodie"):
                seen["before any commit"] += 1
            else:
                seen["during a commit" if committed_files(disk)[1] else "between commits"] += 1
    finally:
        stop.set()
        t.join()
    l.catch_up()
    print(f"     killed {seen}; {sh.next} keys made, {len(sh.rows)} rows left, {len(timeline(disk))} timeline files", flush=True)
    want = sh.expected()
    c = lambda what, f: suite.report.check(f"{n} kills: {what}", f)
    def own():
        out = l.run("read", *l.where(True), "--format", "jsonl", "--sort").stdout.decode()
        return readers.compare_lines(out.splitlines(), shop.canonical(want), lambda r: (str(r["id"]), r["region"]))
    c("lakectl read", own)
    c("hudi-rs", lambda: readers.compare(readers.hudi_rs(f"s3://lake/{name}", suite.s3), want))
    for w in suite.sparks:
        if w.version.startswith("1."):
            c(f"Spark, Hudi {w.version}", lambda: readers.compare(readers.spark(w, f"s3://lake/{name}", suite.tmp), want))
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
    pass


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("binary")
    ap.add_argument("--kills", type=int, default=10)
    ap.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    ap.add_argument("--only", default="conformance,golden,9:s3,6:local,9:local,6:s3,kills", help="parts to run")
    ap.add_argument("--rows", type=int, default=200_000)
    ap.add_argument("--keep", action="store_true", help="leave the tables and logs")
    a = ap.parse_args()
    only = a.only.split(",")
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, lambda *_: sys.exit(130))
    s = Suite()
    s.binary, s.report = os.path.abspath(a.binary), Report()
    s.tmp = tempfile.mkdtemp(prefix="lakectl-interop-")
    try:
        s.s3 = services.S3(s.tmp)
        s.kafka = services.Kafka(s.tmp)
        s.sparks = [services.Spark("1.2.0", s.tmp)] if only != ["conformance"] else []
        if set(only) & {"golden"} or any(":" in o for o in only):
            s.sparks.append(services.Spark("0.15.0", s.tmp))
            s.trino = services.Trino(s.tmp, s.s3)
        for w in s.sparks:
            w.wait()
        s.report.check("the expected rows follow from the events one by one", model)
        if "conformance" in only:
            s.report.check("versitygw passes the stores' conformance suite", lambda: conformance(s))
        if "golden" in only:
            golden(s)
        small = max(a.rows // 10, 1)
        for version, store, rows, index, decimals in ((9, "s3", a.rows, {"type": "bloom"}, "text"), (6, "local", a.rows, {"type": "bloom"}, "base64"),
                                                      (9, "local", small, {"type": "bucket", "buckets": 4}, "base64"), (6, "s3", small, {"type": "bucket", "buckets": 4}, "text")):
            if f"{version}:{store}" in only:
                Cell(s, version, store, rows, index, decimals).life(full=rows == a.rows)
        if "kills" in only:
            s.report.check(f"{a.kills} kills: ingest goes on to the end", lambda: kills(s, a.kills, a.seed))
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

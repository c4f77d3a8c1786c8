"""One table under test: the binary with a configuration, what each reader must return, and which files must be there."""
import io, json, os, random, re, subprocess, time, traceback
import pyarrow as pa, pyarrow.parquet as pq
import readers, shop

OWNED = 5  # lakectl's exit code while another writer's lease lasts


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
        self.state = f"{tmp}/{name}.state"
        c = {
            "state_dir": self.state, "memory": "1GiB",
            "storage": {"s3": {"endpoint": s3.endpoint, "region": "us-east-1", "path_style": True}},
            "sources": {"shop": {"type": "kafka", "brokers": [kafka.brokers], "group": f"lakectl-{name}", "start": "earliest"}},
            "tables": [{
                "name": name, "path": path, "type": over.get("type", "cow"), "version": version, "key": ["id"], "partition_by": ["region"],
                "ordering": over.get("ordering", ["updated_at"]), "merge": over.get("merge", "latest"), "index": index,
                "from": {"source": "shop", "topics": [topic] if isinstance(topic, str) else topic, "format": "debezium-json", "on_error": "fail"},
                "schema": {"columns": declared, "evolve": ["add", "widen", "nullable"]},
                "lease": over.get("lease", "5s"),
                "commit": over.get("commit", {"interval": "5s", "max_records": 50_000}),
                "files": over.get("files", {"target_size": "1MiB", "small_file": "512KiB", "compression": "zstd"}),
                "services": services(over),
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


def services(over):
    """None, unless a case asks for them."""
    off = {"clean": {"mode": "off"}, "archive": {"mode": "off"}, "metadata_table": False}
    if over.get("type") == "mor":
        off["compaction"] = {"mode": "off"}
    return off | over.get("services", {})


class Cell:
    """A table in one version on one store, its source topic, and what it must hold."""

    def __init__(self, suite, version, store, scale, index, decimals, **over):
        self.s, self.version, self.store, self.scale = suite, version, store, scale
        self.kind = over.get("type", "cow")
        prefix = over.pop("prefix", "orders" if self.kind == "cow" else "orders_mor")
        self.name = f"{prefix}_v{version}_{store}"
        self.title = f"{'' if prefix == 'orders' else prefix.removeprefix('orders_') + ' '}v{version} {store}"
        self.shop = over.pop("shop", None) or shop.Shop(f"{version}{store}", self.name, decimals)
        self.topic = f"shop.public.{self.name}"
        self.index = index
        self.read_opt = {}
        if store == "s3":
            suite.s3.bucket("lake")
            self.path, self.disk = f"s3://lake/{self.name}", f"{suite.s3.root}/lake/{self.name}"
        else:
            self.path = self.disk = f"{suite.tmp}/tables/{self.name}"
            os.makedirs(f"{suite.tmp}/tables", exist_ok=True)
        suite.kafka.create_topic(self.topic, shop.PARTITIONS)
        self.l = Lakectl(suite.binary, suite.tmp, self.name, suite.kafka, suite.s3, self.path, version, index, self.shop.declared(), self.topic, **over)

    def produce(self):
        return self.s.kafka.produce(self.topic, self.shop.drain())

    def check_all(self, step, trino=False, engines=True, pending=0, want=None):
        """Every reader; pending is how many plans wait, None: what is no longer on the active timeline hides which files belong there."""
        want = want or self.shop.expected()
        c = lambda what, f: self.s.report.check(f"{self.title}: {step}: {what}", f)
        c("lakectl read", lambda: self.read_own(want))
        if engines:
            for w in self.sparks():
                c(f"Spark, Hudi {w.version}", lambda: readers.compare(readers.spark(w, self.path, self.s.tmp, self.read_opt), want))
        if not (pending and self.version == 6):  # hudi-rs does not read logs of version 6 that wait for a compaction
            c("hudi-rs", lambda: readers.compare(readers.hudi_rs(self.path, self.s3()), want))
        if self.kind == "mor":
            want = self.read_optimized()
            if engines:
                for w in self.sparks():
                    ro = self.read_opt | {"hoodie.datasource.query.type": "read_optimized"}
                    c(f"read optimized: Spark, Hudi {w.version}", lambda: readers.compare(readers.spark(w, self.path, self.s.tmp, ro), want))
        ro = "read optimized: " if self.kind == "mor" else ""
        if want.num_rows:
            c(f"{ro}DuckDB", lambda: readers.compare(self.read_duck(), want))
        if trino:
            c(f"{ro}Trino", lambda: readers.compare(self.read_trino(want), want))
        if pending is not None:
            c("files", lambda: stray_files(self.disk, pending))

    def sparks(self):
        return [w for w in self.s.sparks if w.version.startswith("1.") or self.version == 6]

    def read_optimized(self):
        """What lakectl reads from base files alone; Spark, Trino and DuckDB must read the same."""
        out = self.l.run("read", *self.l.where(self.s3()), "--query", "read_optimized", "--format", "arrow").stdout
        return readers.plain(pa.ipc.open_stream(out).read_all())

    def s3(self):
        return self.s.s3 if self.store == "s3" else None

    def read_own(self, want):
        out = self.l.run("read", *self.l.where(self.s3()), "--format", "jsonl", "--sort").stdout.decode()
        return readers.compare_lines(out.splitlines(), shop.canonical(want), lambda r: (str(r["id"]), r["region"]))

    def read_duck(self):
        query = ["--query", "read_optimized"] if self.kind == "mor" else []
        sql = self.l.run("view", *self.l.where(self.s3()), "--for", "duckdb", *query).stdout.decode()
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

    def foreign(self, **more):
        """Real Spark upserts, inserts and deletes, with the engine that wrote this version first."""
        w = next(w for w in self.s.sparks if w.version.startswith("0.") == (self.version == 6))
        up, gone = self.shop.foreign(self.scale // 100, self.scale // 200, self.scale // 200)
        opt = self.spark_options() | more
        for op, t in (("upsert", up), ("delete", gone)):
            f = f"{self.s.tmp}/{self.name}-{op}.parquet"
            # Spark knows only timestamps that are adjusted to UTC
            i = t.schema.get_field_index("created_at")
            pq.write_table(t.set_column(i, "created_at", t.column(i).cast(pa.timestamp("us", "UTC"))), f)
            w.ask(cmd="write", path=self.path.replace("s3://", "s3a://"), rows=f, op=op, opt=opt)

    def spark_options(self):
        """What Spark must be told to write the table as it is."""
        p = properties(self.disk)
        opt = {
            "hoodie.table.name": p["hoodie.table.name"], "hoodie.datasource.write.table.type": p["hoodie.table.type"],
            "hoodie.datasource.write.recordkey.field": "id", "hoodie.datasource.write.partitionpath.field": "region",
            "hoodie.datasource.write.precombine.field": "updated_at", "hoodie.metadata.enable": "false",
            "hoodie.datasource.write.hive_style_partitioning": p.get("hoodie.datasource.write.hive_style_partitioning", "false"),
            "hoodie.index.type": "BUCKET" if self.index["type"] == "bucket" else "BLOOM",
            "hoodie.write.table.version": p["hoodie.table.version"], "hoodie.write.auto.upgrade": "false",
            "hoodie.upsert.shuffle.parallelism": "2", "hoodie.delete.shuffle.parallelism": "2", "hoodie.bloom.index.parallelism": "2",
            "hoodie.clean.automatic": "false", "hoodie.archive.automatic": "false", "hoodie.compact.inline": "false",
        }
        if c := p.get("hoodie.compaction.payload.class"):
            opt["hoodie.datasource.write.payload.class"] = opt["hoodie.compaction.payload.class"] = c
        if self.index["type"] == "bucket":
            opt["hoodie.bucket.index.num.buckets"] = str(self.index["buckets"])
            opt["hoodie.bucket.index.hash.field"] = "id"
        return opt


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
    """The paths that the completed instants of the active timeline name, less those that they clean, and the instants that are not
    completed."""
    import fastavro
    paths, begun, done = set(), set(), set()
    for name, file in sorted(timeline(table).items()):
        parts = name.split(".")
        instant = parts[0].split("_")[0]
        if parts[-1] in ("requested", "inflight"):
            begun.add(instant)
            continue
        done.add(instant)
        raw = open(file, "rb").read()
        m = json.loads(raw) if raw[:1] == b"{" else next(iter(fastavro.reader(io.BytesIO(raw)))) if raw else {}
        if parts[1] in ("commit", "deltacommit", "replacecommit"):
            for stats in m["partitionToWriteStats"].values():
                paths.update(s["path"] for s in stats)
        elif parts[1] == "rollback":
            for partition, p in m["partitionMetadata"].items():
                paths.update(f"{partition}/{os.path.basename(f)}" for f in p.get("rollbackLogFiles") or {})
        elif parts[1] == "clean":
            for partition, p in m["partitionMetadata"].items():
                paths.difference_update(f"{partition}/{os.path.basename(f)}" for f in p["successDeleteFiles"])
    return paths, begun - done


def stray_files(table, plans=0):
    """Every data file is one that a completed commit names, and is there whole; nothing is pending but so many plans; nothing else lies about."""
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
    if len(pending) != plans: wrong.append(f"instants not completed: {sorted(pending)}")
    if left: wrong.append(f"{len(left)} markers left under .hoodie/.temp: {left[:3]}")
    return "; ".join(wrong) or None

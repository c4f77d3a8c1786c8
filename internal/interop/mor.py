"""Merge-on-read tables: the shop's life in log files, Spark and lakectl servicing each other's tables, wide rows from several
streams, and the first record of a key."""
import json, os, random, time
import pyarrow as pa
import readers, shop
from cell import Cell, timeline


class Life(Cell):
    """The life of a copy-on-write table again, on log files; then Spark compacts and cleans."""

    def __init__(self, suite, version, store, scale, index, **over):
        super().__init__(suite, version, store, scale, index, "text", **({"type": "mor"} | over))

    def worker(self):
        """The engine that wrote this version first."""
        return next(w for w in self.s.sparks if w.version.startswith("0.") == (self.version == 6))

    def change(self, part=10):
        n, sh = self.scale, self.shop
        sh.update(n // part)
        sh.create(3)  # few: a file group that gets new rows rewrites its base file instead
        sh.delete(n // 50)
        sh.revive(n // 200)
        self.produce()
        self.l.catch_up()

    def procedure(self, text):
        """A Spark procedure on the table; the new instants of its timeline. Left alone, Spark makes a metadata table."""
        before = set(timeline(self.disk))
        path = self.path.replace("s3://", "s3a://")
        self.worker().ask(cmd="sql", sql=text.replace("{p}", f"'{path}'").replace("{o}", f"hoodie.metadata.enable={self.spark_options()['hoodie.metadata.enable']}"), **({"table": path} if "{t}" in text else {}))
        return sorted(set(timeline(self.disk)) - before)

    def needs(self, what, got, *ends):
        if not any(f.endswith(ends) for f in got):
            raise RuntimeError(f"{what}: no new {' or '.join(ends)} on the timeline, only {got}")

    def spark_schedules(self):
        got = self.procedure("call run_compaction(op=>'schedule', path=>{p}, options=>'hoodie.compact.inline.max.delta.commits=1,{o}')")
        self.needs("Spark schedules a compaction", got, ".compaction.requested")

    def spark_compacts(self):
        self.needs("Spark compacts", self.procedure("call run_compaction(op=>'run', path=>{p}, options=>'{o}')"), ".commit")

    def spark_cleans(self):
        if self.version == 9:
            got = self.procedure("call run_clean(table=>'{t}', retain_commits=>1, options=>'{o}')")
        else:  # registering a table lets Hudi 0.15 change its properties: it cleans after a write of its own
            before = set(timeline(self.disk))
            self.foreign(**{"hoodie.clean.automatic": "true", "hoodie.clean.async": "false", "hoodie.cleaner.commits.retained": "1"})
            got = sorted(set(timeline(self.disk)) - before)
        self.needs("Spark cleans", got, ".clean")

    def logs_only(self):
        """The comparison can fail: what the logs hold makes a difference."""
        return None if readers.compare(self.read_optimized(), self.shop.expected()) else "reading without log files gives the same rows"

    def life(self):
        n, sh = self.scale, self.shop
        full = self.store == "local"

        def load():
            sh.create(n // 2, op="r")
            sh.create(n - n // 2)
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
            self.change(50)

        def killed():
            g = random.Random(n)
            for _ in range(2):
                sh.update(n // 20)
                sh.create(n // 40)
                sh.delete(n // 100)
                self.produce()
                d = self.l.daemon()
                time.sleep(g.uniform(0.3, 3))
                d.kill()
                d.wait()
            self.l.catch_up()

        def go_on():
            self.change()

        if not self.step("load", load, engines=False):
            return
        if not self.step("upserts", self.change, engines=False) or not self.step("deletes", deletes, engines=full, trino=True):
            return
        self.s.report.check(f"{self.title}: readers must merge the log files", self.logs_only)
        if not self.step("an added column", column, engines=full) or not self.step("kill -9 and restart", killed, engines=False):
            return
        if not self.step("Spark writes", self.foreign) or not self.step("lakectl goes on after Spark", self.change, engines=False):
            return
        if not self.step("Spark schedules and runs a compaction", lambda: (self.spark_schedules(), self.spark_compacts())[0], engines=full, trino=True):
            return
        if not self.step("lakectl goes on after Spark's compaction", self.change, engines=False):
            return
        if not self.step("lakectl writes while Spark's plan waits", lambda: (self.spark_schedules(), self.change())[0], pending=1):
            return
        if not self.step("Spark runs its plan late", self.spark_compacts, engines=False):
            return
        if not self.step("Spark cleans", self.spark_cleans, engines=False) or not self.step("lakectl goes on after Spark's cleaning", self.change, trino=True):
            return
        self.s.report.check(f"{self.title}: nothing new makes no commit", self.idle)


class Services(Life):
    """lakectl compacts, cleans, archives, holds and goes back; Spark runs lakectl's plans and lakectl Spark's."""

    def __init__(self, suite, version, store, index):
        super().__init__(suite, version, store, 600, index, prefix="services")

    def service(self, *args):
        """A command of lakectl on the table; the new instants of its timeline."""
        before = set(timeline(self.disk))
        self.l.run(*args)
        return sorted(set(timeline(self.disk)) - before)

    def changes(self, n):
        for _ in range(n):
            self.change()

    def compact(self, *args):
        return self.service("compact", "-c", self.l.config, "--max-delta-commits", "1", "--no-clean", "--no-archive", *args)

    def compacted(self):
        """All is in base files, where every engine sees it."""
        return readers.compare(self.read_optimized(), self.shop.expected())

    def archive(self):
        before = instants(self.disk)
        self.service("archive", "-c", self.l.config, "--keep", "3..4")
        after = instants(self.disk)
        if len(after) >= len(before):
            raise RuntimeError(f"{len(before)} instants were on the timeline, {len(after)} are after archiving")

    def life(self):
        sh, c = self.shop, lambda what, f: self.s.report.check(f"{self.title}: {what}", f)

        def load():
            sh.create(self.scale)
            self.produce()
            self.l.catch_up()
            self.changes(2)

        def own():
            self.needs("lakectl compacts", self.compact(), ".commit")

        def ours_by_spark():
            self.change()
            self.needs("lakectl schedules", self.compact("--schedule-only"), ".compaction.requested")
            self.change()
            self.spark_compacts()

        def theirs_by_lakectl():
            self.spark_schedules()
            self.change()
            self.needs("lakectl runs Spark's plan", self.compact("--execute-only"), ".commit")

        def clean():
            before = data_files(self.disk)
            self.needs("lakectl cleans", self.service("clean", "-c", self.l.config, "--keep-commits", "1"), ".clean")
            if not before - data_files(self.disk):
                raise RuntimeError("no file is gone")

        if not self.step("load", load, engines=False):
            return
        if not self.step("lakectl compacts", own, trino=True) or not c("compacted rows stand in base files", self.compacted):
            return
        if not self.step("Spark runs lakectl's plan", ours_by_spark) or not self.step("lakectl runs Spark's plan", theirs_by_lakectl):
            return
        if not self.step("lakectl cleans", clean, trino=True) or not self.step("Spark writes after lakectl's cleaning", self.foreign, engines=False):
            return

        def aged():
            for _ in range(3):
                self.changes(2)
                self.compact()
                self.service("clean", "-c", self.l.config, "--keep-commits", "1")
            self.archive()

        if not self.step("lakectl archives", aged, trino=True, pending=None):
            return
        self.s.report.check(f"{self.title}: archiving again finds nothing to do", self.settled)
        if not self.step("Spark writes after lakectl's archiving", self.foreign, pending=None):
            return
        if not self.step("lakectl goes on after Spark", self.change, engines=False, pending=None):
            return
        self.back()

    def settled(self):
        before = instants(self.disk)
        self.service("archive", "-c", self.l.config, "--keep", "3..40")
        return None if instants(self.disk) == before else "the timeline changed"

    def back(self):
        """Rollback and restore: the rows of that time in every reader, and the stream's later events again afterwards."""
        sh = self.shop
        where = self.l.where(self.s3())
        then = []

        def hold():
            self.needs("savepoint", self.service("savepoint", "create", *where), ".savepoint")
            then.append(sh.expected())
            got = self.worker().ask(cmd="sql", sql=f"call show_savepoints(path=>'{self.path.replace('s3://', 's3a://')}')")["rows"]
            if len(got) != 1:
                raise RuntimeError(f"Spark sees savepoints {got}")
            then.append(got[0][0])
            self.changes(2)
            self.compact()
            then.append(sh.expected())
            self.change()

        def roll_back():
            newest = max(n.split(".")[0].split("_")[0] for n in timeline(self.disk) if n.endswith(".deltacommit"))
            self.needs("lakectl rolls back", self.service("rollback", *where, "--instant", newest), ".rollback")

        def restore():
            self.needs("lakectl restores", self.service("restore", *where, "--instant", then[1]), ".restore")

        if not self.step("a savepoint, and commits after it", hold, pending=None):
            return
        if not self.step("lakectl rolls the newest commit back", roll_back, pending=None, want=then[2]):
            return
        if not self.step("lakectl restores the savepoint", restore, pending=None, trino=True, want=then[0]):
            return
        if not self.step("ingest takes the events since then again", self.l.catch_up, pending=None):
            return
        self.step("Spark writes after the restore", self.foreign, pending=None)


def instants(table):
    return sorted(n for n in timeline(table) if n.split(".")[-1] not in ("requested", "inflight"))


def data_files(table):
    return {os.path.relpath(os.path.join(d, f), table) for d, _, files in os.walk(table) if "/.hoodie" not in d for f in files}


class Wide:
    """One row of a key, of which three streams carry a third of the columns each; deterministic however the streams are interleaved."""

    COLUMNS = [[("name", pa.string(), "string"), ("qty", pa.int32(), "int"), ("amount", pa.decimal128(12, 2), "decimal(12,2)")],
               [("price", pa.float64(), "double"), ("day", pa.date32(), "date"), ("blob", pa.binary(), "bytes")],
               [("active", pa.bool_(), "boolean"), ("created_at", pa.timestamp("us"), "timestamp-micros"), ("note", pa.string(), "string")]]

    def __init__(self, seed, ordered):
        self.shop = shop.Shop(seed, "wide")
        self.ordered = ordered
        self.rows = {}
        self.out = [[], [], []]

    def columns(self):
        return [("id", pa.int64(), "long"), ("region", pa.string(), "string")] + [c for t in self.COLUMNS for c in t] + \
            ([("updated_at", pa.int64(), "long")] if self.ordered else [])

    def declared(self):
        return {n: d for n, _, d in self.columns() if d != "string"}

    def expected(self):
        rows = list(self.rows.values())
        return pa.table({n: pa.array([r.get(n) for r in rows], t) for n, t, _ in self.columns()})

    def emit(self, id, stream, region=None):
        """An event of one stream, which carries its own columns alone."""
        old = self.rows.get(id)
        full = self.shop.new_row(id, old["region"] if old else region)
        names = [n for n, _, _ in self.COLUMNS[stream]]
        part = {n: full[n] for n in names}
        if self.ordered:
            part["updated_at"] = full["updated_at"]
        row = self.rows.setdefault(id, {"id": id, "region": full["region"]})
        row.update(part)
        image = {k: v for k, v in self.shop.image(full).items() if k in part or k in ("id", "region")}
        self.send(id, stream, "u" if old else "c", None, image)

    def send(self, id, stream, op, before, after):
        v = {"before": before, "after": after, "source": {"ts_ms": self.shop.clock // 1000}, "op": op, "ts_ms": self.shop.clock // 1000}
        self.out[stream].append((id % shop.PARTITIONS, b'{"id":%d}' % id, json.dumps(v, ensure_ascii=False).encode()))

    def delete(self, id, stream):
        row = self.rows.pop(id)
        self.shop.tick()
        before = {"id": id, "region": row["region"]}
        if self.ordered:
            before["updated_at"] = self.shop.clock
        self.send(id, stream, "d", before, None)

    def drain(self):
        out, self.out = self.out, [[], [], []]
        return out


def wide(suite, version, kind, ordered):
    """Three topics make one wide row per key, merge: partial."""
    w = Wide(f"wide{version}{kind}", ordered)
    c = Cell(suite, version, "local", 0, {"type": "bucket", "buckets": 2}, "text", type=kind, merge="partial", shop=w, prefix=f"wide_{kind}",
             ordering=["updated_at"] if ordered else [])
    topics = [f"{c.topic}.{i}" for i in range(3)]
    for t in topics:
        suite.kafka.create_topic(t, shop.PARTITIONS)
    c.l = type(c.l)(suite.binary, suite.tmp, c.name, suite.kafka, suite.s3, c.path, version, c.index, w.declared(), topics, type=kind, merge="partial",
                    ordering=["updated_at"] if ordered else [])
    g = random.Random(version)

    def bring():
        for t, events in zip(topics, w.drain()):
            suite.kafka.produce(t, events)
        c.l.catch_up()

    def together():
        """Every stream has something of each key, but for some; the order among streams does not count."""
        ids = list(range(1, 401))
        region = {i: g.choice(shop.REGIONS[:4]) for i in ids}
        for stream in range(3):
            g.shuffle(ids)
            for i in ids:
                if i % 10 != stream:
                    w.emit(i, stream, region[i])
        bring()

    def one_by_one():
        for i in g.sample(sorted(w.rows), 150):
            w.emit(i, g.randrange(3))
        bring()

    def some():
        if ordered:
            return one_by_one()
        for stream in range(3):
            for i in g.sample(sorted(w.rows), 80):
                w.emit(i, stream)
                if g.random() < 0.2:
                    w.emit(i, stream)
        bring()

    def gone():
        ids = g.sample(sorted(w.rows), 40)
        region = {i: w.rows[i]["region"] for i in ids}
        for i in ids:
            w.delete(i, g.randrange(3))
        bring()
        for i in ids[:20]:
            w.emit(i, g.randrange(3), region[i])
        bring()

    if not c.step("three streams", together, engines=False):
        return
    if not c.step("updates of one stream a key", one_by_one, engines=False) or not c.step("updates of several", some, trino=True):
        return
    c.step("deletes, and columns of one stream after them", gone)
    want = w.expected()
    i = want.schema.get_field_index("note")
    lost = want.set_column(i, "note", pa.nulls(want.num_rows, pa.string()))
    suite.report.check(f"{c.title}: a stream that is lost is seen", lambda: None if readers.compare(lost, want) else "compare found no difference")


class First(shop.Shop):
    """Events of which the first of a key counts; later ones, whatever they say, do not."""

    def again(self, n):
        for _ in range(n):
            old = self.rows[self.pick()]
            r = self.new_row(old["id"], old["region"])
            self.emit(r["id"], "u", None, self.image(r))


def first(suite, version, kind, by):
    """merge: first keeps the record that came first, in one commit and across commits."""
    s = First(f"first{version}{kind}", "first")
    c = Cell(suite, version, "local", 0, {"type": by}, "text", type=kind, merge="first", shop=s, prefix=f"first_{kind}", ordering=[])

    def bring():
        s.create(400)
        s.again(200)
        c.produce()
        c.l.catch_up()

    def more():
        s.again(150)
        s.create(100)
        s.again(150)
        c.produce()
        c.l.catch_up()
    if c.step("twice in one commit", bring, engines=False):
        c.step("again in later commits", more)


def wides(suite):
    for version, kind, ordered in ((9, "cow", True), (9, "mor", False), (6, "cow", False), (6, "mor", True)):
        wide(suite, version, kind, ordered)


def firsts(suite):
    for version, kind, by in ((9, "cow", "simple"), (6, "mor", "record")):
        first(suite, version, kind, by)

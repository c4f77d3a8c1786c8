"""The record index of the metadata table, which lakectl and Spark maintain in turn; and rows that move between partitions. What the index
says is compared, as Spark reads it, with where Spark finds every row."""
import glob, json, os, shutil, uuid
import pyarrow as pa, pyarrow.parquet as pq
import mdt, mor, readers, shop
from cell import properties, timeline

RECORD_INDEX = 5
MASK = 2**64 - 1


def has(table):
    """Whether the table says that it has a record index."""
    return "record_index" in properties(table).get("hoodie.table.metadata.partitions", "").split(",")


def index_of(worker, table, tmp):
    """(key, partition) -> ID of the file group, as the record index has it; and what of it is wrong in itself."""
    got, wrong = {}, []
    for r in mdt.entries(worker, table, tmp):
        if r["type"] != RECORD_INDEX:
            continue
        m = r["recordIndexMetadata"]
        if m["fileIdEncoding"] == 0:
            id = str(uuid.UUID(int=(m["fileIdHighBits"] & MASK) << 64 | m["fileIdLowBits"] & MASK))
            id += f"-{m['fileIndex']}" if m["fileIndex"] >= 0 else ""
        else:
            id = m["fileId"]
        at = r["key"], m["partitionName"]
        if at in got:
            wrong.append(f"{at} is there twice")
        got[at] = id
    return got, wrong


def live(worker, path, tmp):
    """The rows that Spark reads, with meta columns, and how many rows and keys it counts."""
    out = f"{tmp}/keys-{worker.version}"
    a = worker.ask(cmd="keys", path=path.replace("s3://", "s3a://"), out=out, opt={"hoodie.metadata.enable": "true"})
    return pa.concat_tables([pq.ParquetFile(f).read() for f in sorted(glob.glob(out + "/*.parquet"))]), a


def counted(rows, want):
    """None when Spark read exactly the rows of want, and counts each key once."""
    table, n = rows
    if (n["rows"], n["keys"]) != (want.num_rows, want.num_rows):
        return f"Spark counts {n}, want {want.num_rows} of both"
    return readers.compare(readers.plain(table), want)


class Moving(shop.Shop):
    """Keys that are unique in the whole table: events move rows between partitions, and name the partition of then or of now."""

    regions = ["north", "south west", "r_07", "zürich"]  # few: Spark takes its time for each

    def new_row(self, id, region=None):
        return super().new_row(id, region or self.rng.choice(self.regions))

    def elsewhere(self, region):
        return self.rng.choice([r for r in self.regions if r != region])

    def move(self, n):
        for _ in range(n):
            old = self.rows[self.pick()]
            r = self.new_row(old["id"], self.elsewhere(old["region"]))
            kind = self.rng.random()
            if kind < 0.2:    # late: it must not move the row
                r["updated_at"] = old["updated_at"] - 1
                self.emit(r["id"], "u", None, self.image(r))
                continue
            if kind < 0.3:    # of the same time: the later arrival wins
                r["updated_at"] = old["updated_at"]
            elif kind < 0.4:  # a column that the source did not send comes along
                r["note"] = old["note"]
                self.emit(r["id"], "u", None, self.image(r, note=shop.UNAVAILABLE))
                self.rows[r["id"]] = r
                continue
            elif kind < 0.5:  # there and back
                self.emit(r["id"], "u", self.image(old), self.image(r))
                r = self.new_row(old["id"], old["region"])
            self.rows[r["id"]] = r
            self.emit(r["id"], "u", self.image(old) if kind > 0.8 else None, self.image(r))

    def gone(self, n, again=0):
        """Deletes, of which some name a partition where the row is not; the first of them come again in yet another one."""
        for i in range(n):
            old = self.rows.pop(self.pick())
            self.tick()
            there = old["region"] if self.rng.random() < 0.5 else self.elsewhere(old["region"])
            self.emit(old["id"], "d", self.image(dict(old, region=there, updated_at=self.clock)), None)
            self.out.append((old["id"] % shop.PARTITIONS, b'{"id":%d}' % old["id"], None))
            if i < again:
                r = self.rows[old["id"]] = self.new_row(old["id"], self.elsewhere(old["region"]))
                self.ids.append(r["id"])
                self.emit(r["id"], "c", None, self.image(r))

    def late(self, n):
        """Older events with another partition, of rows that stay as they are."""
        for _ in range(n):
            old = self.rows[self.pick()]
            r = dict(self.new_row(old["id"], self.elsewhere(old["region"])), updated_at=old["updated_at"] - self.rng.randrange(1, 10**6))
            self.emit(r["id"], "u", None, self.image(r))

    def foreign_moves(self, n):
        """Rows that another writer moves; their keys."""
        ids = {self.pick() for _ in range(n)}
        for i in sorted(ids):
            self.rows[i] = self.new_row(i, self.elsewhere(self.rows[i]["region"]))
        return ids


class Indexed(mor.Life):
    """A table with a record index in its metadata table."""

    def __init__(self, suite, version, kind, store, scope, who, services):
        self.scope, self.kind = scope, kind
        prefix = f"index_{who}_{kind}_{scope}"
        super().__init__(suite, version, store, 400, {"type": "record", "scope": scope}, type=kind, prefix=prefix,
                         shop=Moving(f"{prefix}{version}{store}", prefix), services=services)
        self.title = f"index: {who} v{version} {kind} {store}, scope {scope}"
        self.read_opt = {"hoodie.metadata.enable": "true"}

    def spark_options(self):
        if self.version == 6:
            type, enable = "RECORD_INDEX", "hoodie.metadata.record.index.enable"
        elif self.scope == "table":
            type, enable = "GLOBAL_RECORD_LEVEL_INDEX", "hoodie.metadata.global.record.level.index.enable"
        else:
            type, enable = "RECORD_LEVEL_INDEX", "hoodie.metadata.record.level.index.enable"
        if os.path.isdir(self.disk):
            opt = super().spark_options()
        else:
            opt = {
                "hoodie.table.name": self.name, "hoodie.datasource.write.table.type": "COPY_ON_WRITE" if self.kind == "cow" else "MERGE_ON_READ",
                "hoodie.datasource.write.recordkey.field": "id", "hoodie.datasource.write.partitionpath.field": "region",
                "hoodie.datasource.write.precombine.field": "updated_at", "hoodie.write.table.version": str(self.version),
                "hoodie.bulkinsert.shuffle.parallelism": "2", "hoodie.clean.automatic": "false", "hoodie.archive.automatic": "false",
                "hoodie.datasource.write.hive_style_partitioning": "false",
            }
            if self.version == 6:  # whose default lets the later arrival win
                opt["hoodie.datasource.write.payload.class"] = opt["hoodie.compaction.payload.class"] = "org.apache.hudi.common.model.DefaultHoodieRecordPayload"
        return opt | {"hoodie.metadata.enable": "true", "hoodie.index.type": type, enable: "true"}

    def c(self, what, f):
        return self.s.report.check(f"{self.title}: {what}", f)

    def change(self, n=40):
        sh = self.shop
        sh.update(n)
        sh.create(n // 4)
        if self.scope == "table":
            sh.move(n)
            sh.late(n // 4)
            sh.gone(n // 4, n // 8)
        else:
            sh.delete(n // 4)
            sh.revive(n // 8)
        self.produce()
        self.l.catch_up()

    def step(self, name, f, **checks):
        return self.c(name, f) and self.check_index(name)

    def check_index(self, step):
        w, want, rows = self.worker(), self.shop.expected(), []

        def read():
            rows[:] = live(w, self.path, self.s.tmp)
            return counted(rows, want)
        ok = self.c(f"{step}: lakectl read", lambda: self.read_own(want))
        ok &= self.c(f"{step}: Spark, Hudi {w.version}", read)
        ok &= self.c(f"{step}: Spark finds every row where the record index has it", lambda: self.entries(rows[0]))
        ok &= self.c(f"{step}: lakectl verify", lambda: self.l.run("verify", *self.l.where(self.s3()), "--keys") and None)
        return ok

    def entries(self, rows):
        """The record index, as Spark reads it, against where Spark found the rows."""
        if not has(self.disk):
            return "the table has no record index"
        got, wrong = index_of(self.worker(), self.disk, self.s.tmp)
        at = {(k, p): f for k, p, f in zip(*(rows[f"_hoodie_{c}"].to_pylist() for c in ("record_key", "partition_path", "file_name")))}
        wrong += [f"{k} is not in the index" for k in sorted(at.keys() - got.keys())]
        wrong += [f"{k} is in the index, and no row" for k in sorted(got.keys() - at.keys())]
        wrong += [f"{k} is in {at[k]}, in the index in {got[k]}" for k in sorted(at.keys() & got.keys()) if not at[k].startswith(got[k])]
        return "; ".join(wrong[:5]) + (f"; {len(wrong)} differences" if len(wrong) > 5 else "") or None

    def write(self, rows, op, **more):
        f = f"{self.s.tmp}/{self.name}-{op}.parquet"
        i = rows.schema.get_field_index("created_at")
        pq.write_table(rows.set_column(i, "created_at", rows.column(i).cast(pa.timestamp("us", "UTC"))), f)
        self.worker().ask(cmd="write", path=self.path.replace("s3://", "s3a://"), rows=f, op=op, opt=self.spark_options() | {k.replace("_", "."): v for k, v in more.items()})

    def spark_writes(self):
        """Upserts, inserts and deletes; rows move between partitions where keys are those of the table."""
        up, gone = self.shop.foreign(40, 10, 10)
        ids = set(up["id"].to_pylist())
        if self.scope == "table":
            ids |= self.shop.foreign_moves(20)
        self.write(gone, "delete")
        self.write(self.shop.table(self.shop.rows[i] for i in sorted(ids)), "upsert", hoodie_record_index_update_partition_path="true")

    def probed(self):
        """Spark looks keys up in the record index, and nowhere else: in a copy whose index lacks some, it takes them for new."""
        copy = f"{self.s.tmp}/tables/{self.name}_harmed"
        for _ in range(3):
            before, first = index_files(self.disk), set(self.shop.rows)
            self.shop.create(8)
            self.produce()
            self.l.catch_up()
            new = index_files(self.disk) - before
            if new and all(".log." in f for f in new):  # no compaction
                break
        else:
            return f"no commit that only appended to the record index; the last one wrote {sorted(new)}"
        shutil.copytree(self.disk, copy)
        for f in new:
            os.remove(f"{copy}/{f}")
        rows = [r for r in self.shop.rows.values() if r["id"] not in first]
        if left := {str(r["id"]) for r in rows} & {k for k, _ in index_of(self.worker(), copy, self.s.tmp)[0]}:
            return f"the harmed index has {sorted(left)}"
        self.l.run("verify", "--path", copy, "--keys", ok=(1,))
        path, self.path = self.path, copy
        try:
            self.write(self.shop.table(rows), "upsert", hoodie_parquet_small_file_limit="0")  # else they meet in the file
        finally:
            self.path = path
        got = self.worker().ask(cmd="count", path=copy, where="true", opt={"hoodie.metadata.enable": "false"})["count"]
        want = len(self.shop.rows) + len(rows)
        return None if got == want else f"{got} rows after upserts of {len(rows)} that the index does not know, want {want}"

    def life(self, begin, probe):
        """begin makes the table, as one or more steps; Spark and lakectl go on."""
        if not begin():
            return
        if not self.step("Spark writes", self.spark_writes) or not self.step("lakectl goes on after Spark", self.change):
            return
        if self.kind == "mor" and self.version == 9 and not self.step("lakectl compacts", self.compacts):
            return
        if probe:
            self.c("without entries Spark takes keys for new", self.probed)

    def compacts(self):
        self.change()
        before = set(timeline(self.disk))
        self.l.run("compact", "-c", self.l.config, "--max-delta-commits", "1", "--no-clean", "--no-archive")
        self.needs("lakectl compacts", sorted(set(timeline(self.disk)) - before), ".commit")

    def load(self):
        self.shop.create(400)
        self.produce()
        self.l.catch_up()
        self.change()

    def ours(self):
        """lakectl makes the table, with the index."""
        return self.step("load", self.load)

    def many(self):
        """... and with so many commits that the metadata table is compacted."""
        def load():
            self.load()
            for _ in range(10):
                self.change()
            d = f"{self.disk}/.hoodie/metadata/.hoodie/timeline"
            if not any(f.endswith(".commit") for f in os.listdir(d)):
                raise RuntimeError(f"no compaction among {sorted(os.listdir(d))[-5:]}")
        return self.step("a dozen commits, the metadata table is compacted", load)

    def theirs(self):
        """Spark makes the table, with the index."""
        def make():
            self.shop.create(400)
            self.shop.drain()
            self.write(self.shop.expected(), "bulk_insert")
        return self.c("Spark makes the table", make) and self.step("lakectl goes on with Spark's table", self.change)

    def late(self):
        """lakectl gives the table an index when it has rows."""
        def grow():
            self.load()
            if has(self.disk):
                raise RuntimeError("there is a record index already")

        def build():
            with open(self.l.config) as f:
                c = json.load(f)
            c["tables"][0]["services"] |= {"metadata_table": True, "record_index": True}
            with open(self.l.config, "w") as f:
                json.dump(c, f)
            self.change()
        return self.c("a table without a record index", grow) and self.step("the record index is built beside commits", build)


def index_files(table):
    """Names below the table."""
    d = ".hoodie/metadata/record_index"
    return {f"{d}/{f}" for f in os.listdir(f"{table}/{d}") if not f.endswith(".crc")}


def lives(suite):
    on = {"metadata_table": True, "record_index": True}
    for who, version, kind, store, scope, services, probe in (
            ("many", 9, "cow", "local", "table", on, True), ("ours", 9, "mor", "s3", "partition", on, True), ("theirs", 6, "cow", "local", "table", {}, True),
            ("theirs", 6, "mor", "local", "table", {}, False), ("theirs", 9, "cow", "local", "partition", {}, False), ("late", 9, "mor", "local", "table", {}, True)):
        x = Indexed(suite, version, kind, store, scope, who, services)
        x.life(getattr(x, who), probe)

"""History in Hive: tables that Spark wrote and registered in a real metastore are bootstrapped, and every engine reads what Spark read from
them, before and after Spark writes into the new tables, which it and Trino find by name."""
import glob, io, json, os, random, shutil, subprocess, threading, time, uuid
import pyarrow as pa, pyarrow.parquet as pq
import pyarrow.compute
import index, readers, shop
from cell import OWNED, Cell, timeline

DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]
ODD = ["a:b%c", "x y", "zürich 七", "a=b"]  # what Hive escapes in paths, and what it does not
NULL = "__HIVE_DEFAULT_PARTITION__"
EMPTY = "nothing yet"  # a partition that is registered and has no files

# name in the history, type there, type in messages, type of the table as Arrow
PLAIN = [
    ("id", "bigint", "long"), ("name", "string", "string"), ("tiny", "tinyint", "int"), ("small", "smallint", "int"), ("qty", "int", "int"),
    ("amount", "decimal(12,2)", "decimal(12,2)"), ("big", "decimal(30,6)", "decimal(30,6)"), ("price", "double", "double"), ("ratio", "float", "float"),
    ("active", "boolean", "boolean"), ("created_at", "timestamp", "timestamp-micros"), ("day", "date", "date"), ("blob", "binary", "bytes"),
    ("note", "string", "string"), ("region", "string", "string"), ("updated_at", "bigint", "long"),
]
NESTED = [("tags", "array<string>", "array<string>"), ("attrs", "map<string,int>", "map<string,int>"), ("place", "struct<city:string,zip:int>", "struct<city:string,zip:int>"),
          ("steps", "array<struct<at:bigint,what:string>>", "array<struct<at:long,what:string>>")]
CONVERT = "spark.sql.hive.convertMetastoreParquet"
FORMATS = {  # format -> (STORED AS, settings of the writing session, columns that it cannot keep)
    "parquet": ("stored as parquet", {"spark.sql.parquet.outputTimestampType": "INT96"}, ()),
    "legacy": ("stored as parquet", {"spark.sql.parquet.outputTimestampType": "INT96", "spark.sql.parquet.writeLegacyFormat": "true"}, ()),
    "hive": ("stored as parquet", {CONVERT: "false"}, ()),  # by Hive's own writer
    "orc": ("stored as orc location 's3a://lake/history/orc'", {}, ()),
    "text": ("stored as textfile", {}, ()),
    "csv": ("row format serde 'org.apache.hadoop.hive.serde2.OpenCSVSerde' stored as textfile", {}, ("blob", *(n for n, _, _ in NESTED))),
    "json": ("row format serde 'org.apache.hive.hcatalog.data.JsonSerDe' stored as textfile", {}, ("blob",)),
}
ROWS = 1200


def rows(n):
    """The history's rows, as Arrow, with the partition value."""
    sh = shop.Shop("history", "history")
    g, out = sh.rng, []
    for i in range(n):
        r = sh.new_row(i + 1 if i % 97 else 2**53 + i, g.choice(shop.REGIONS[:3]))
        r |= {"tiny": None if i % 11 == 0 else g.randrange(-128, 128), "small": g.randrange(-2**15, 2**15),
              "tags": None if i % 7 == 0 else [g.choice([None, "a", "bc", "日"]) for _ in range(1 + i % 3)],
              "attrs": None if i % 5 == 0 else {k: g.randrange(100) for k in ("k", "l", "m")[:1 + i % 3]},
              "place": None if i % 6 == 0 else {"city": g.choice(shop.WORDS), "zip": g.choice([None, i])},
              "steps": None if i % 9 == 0 else [{"at": j, "what": g.choice(["x", None])} for j in range(1 + i % 2)],
              "part": g.choice([*DAYS, *ODD, None])}
        if r["note"] is not None:
            r["note"] = r["note"].replace("\\", "/")  # Spark's CSV SerDe does not read what it wrote of them
        out.append(r)
    types = {"tiny": pa.int8(), "small": pa.int16(), "tags": pa.list_(pa.string()), "attrs": pa.map_(pa.string(), pa.int32()),
             "place": pa.struct([("city", pa.string()), ("zip", pa.int32())]), "steps": pa.list_(pa.struct([("at", pa.int64()), ("what", pa.string())])),
             "part": pa.string(), "created_at": pa.timestamp("us", "UTC")} | {n: t for n, t, _ in shop.COLUMNS if n != "created_at"}
    names = [n for n, _, _ in PLAIN + NESTED] + ["part"]
    return pa.table({n: pa.array([r[n] for r in out], types[n]) for n in names})


def columns(fmt):
    return [c for c in PLAIN + NESTED if c[0] not in FORMATS[fmt][2]]


class History:
    """The tables of one metastore that Spark writes."""

    def __init__(self, suite, spark, metastore):
        self.s, self.spark, self.metastore, self.made = suite, spark, metastore, {}
        self.catalog = f"hive{metastore.version[0]}"  # Trino's name for it
        self.file = f"{suite.tmp}/history.parquet"
        pq.write_table(rows(ROWS), self.file)
        suite.s3.bucket("lake")
        self.sql("create database hist")
        self.sql("create database lake")

    def sql(self, text):
        return self.spark.ask(cmd="sql", sql=text)["rows"]

    def query(self, text):
        out = f"{self.s.tmp}/query-{self.spark.version}"
        self.spark.ask(cmd="query", sql=text, out=out)
        return readers.plain(pa.concat_tables([pq.ParquetFile(f).read() for f in sorted(glob.glob(out + "/*.parquet"))]))

    def make(self, fmt):
        """Writes the table in two turns, so that partitions have several files."""
        stored, settings, _ = FORMATS[fmt]
        cols = columns(fmt)
        if fmt == "csv":
            declared = ", ".join(f"{n} string" for n, _, _ in cols)
            chosen = ", ".join(f"cast({n} as string)" for n, _, _ in cols)
        else:
            declared = ", ".join(f"{n} {t}" for n, t, _ in cols)
            chosen = ", ".join(n for n, _, _ in cols)
        for k, v in settings.items():
            self.sql(f"set {k}={v}")
        self.sql(f"create table hist.{fmt} ({declared}) partitioned by (part string) {stored}")
        for i in range(2):
            self.sql(f"insert into hist.{fmt} partition (part) select {chosen}, part from parquet.`{self.file}` where id % 2 = {i}")
        self.sql(f"alter table hist.{fmt} add partition (part='{EMPTY}')")
        for k in settings:
            self.sql(f"reset {k}")

    def directory(self, table):
        return f"{self.metastore.warehouse}/hist.db/{table}"

    def read(self, fmt):
        """What Spark reads, in the types that the columns have in the end."""
        if fmt not in self.made:
            self.made[fmt] = self.query(f"select {', '.join(f'cast({n} as {t}) as {n}' if fmt == 'csv' else n for n, t, _ in columns(fmt))}, "
                                        f"nullif(part, '{NULL}') as part from hist.{fmt}")  # of text it reads the null's name as a text
        return self.made[fmt]


def flat(t):
    """Nested values as JSON text, and integers of at least 32 bits, which is what a table has."""
    def json_of(v, ty):
        if v is None:
            return None
        if pa.types.is_struct(ty):
            return {f.name: json_of(v[f.name], f.type) for f in ty}
        if pa.types.is_map(ty):
            return {k: json_of(x, ty.item_type) for k, x in (v.items() if isinstance(v, dict) else v)}
        if pa.types.is_list(ty) or pa.types.is_large_list(ty):
            return [json_of(x, ty.value_type) for x in v]
        return v
    t = readers.plain(t)
    for i, f in enumerate(t.schema):
        if pa.types.is_nested(f.type):
            t = t.set_column(i, f.name, pa.array([None if v is None else json.dumps(json_of(v, f.type), sort_keys=True, ensure_ascii=False) for v in t.column(i).to_pylist()], pa.string()))
        elif pa.types.is_int8(f.type) or pa.types.is_int16(f.type):
            t = t.set_column(i, f.name, t.column(i).cast(pa.int32()))
    return t


class Named(Cell):
    """A table that is bootstrapped from the metastore, kept there by name, and fed from a topic."""

    def __init__(self, suite, history, store, name, table, version, kind, **over):
        self.history, self.partition = history, over.pop("partition", "region")
        self.declared = over.pop("declared", None)
        self.style = over.pop("hive_style", False)
        boot = over.pop("bootstrap", {})
        source = over.pop("shop", None) or shop.Shop(name, name)
        index = over.pop("index", {"type": "bloom"})
        super().__init__(suite, version, store, 0, index, "text", type=kind, prefix=name, shop=source, **over)
        self.title = f"bootstrap: {name} v{version} {kind}"
        self.change(lambda c, t: (
            c.update(catalogs={"hive": {"type": "hms", "uri": history.metastore.uri, "database": "lake"}}),
            t.update(partition_by=[self.partition], hive_style_partitions=self.style, sync=["hive"], bootstrap={"hive": {"catalog": "hive", "table": table or f"hist.{self.name}"}, "overlap": "1h"} | boot)))
        if self.declared:
            self.change(lambda c, t: t["schema"].update(columns=self.declared))

    def change(self, f):
        """Changes the configuration."""
        with open(self.l.config) as r:
            c = json.load(r)
        f(c, c["tables"][0])
        with open(self.l.config, "w") as w:
            json.dump(c, w, indent=1)

    def c(self, what, f):
        return self.s.report.check(f"{self.title}: {what}", f)

    def bootstrap(self, *more):
        return self.l.run("bootstrap", "-c", self.l.config, *more)

    # --- readers
    def own(self, *more):
        out = self.l.run("read", *self.l.where(self.s3()), "--format", "arrow", *more).stdout
        return readers.plain(pa.ipc.open_stream(out).read_all())

    def spark_named(self, optimized=False):
        suffix = "" if self.kind == "cow" else "_ro" if optimized else "_rt"
        self.history.sql(f"refresh table lake.{self.name}{suffix}")
        return self.history.query(f"select * from lake.{self.name}{suffix}")

    def trino_named(self, want):
        """The connector reads base files alone: of a merge-on-read table it is the read-optimized one that it can tell."""
        name = self.name + ("" if self.kind == "cow" else "_ro")
        nested = {f.name for f in self.schema if pa.types.is_nested(f.type)}
        chosen = ", ".join(f'json_format(CAST("{n}" AS json))' if n in nested else f'"{n}"' for n in want.column_names)
        self.s.trino.wait()
        got, types = self.s.trino.query(f'SELECT {chosen} FROM "{name}"', catalog=self.history.catalog, schema="lake")
        for f, (_, ty) in zip(want.schema, types):
            w = TRINO.get(str(f.type)) or f"decimal({f.type.precision},{f.type.scale})"
            if f.name not in nested and ty.replace(" ", "") != w and not (w == "timestamp" and ty.startswith(w)):
                raise RuntimeError(f"Trino's type of {f.name} is {ty}, want {w}")
        cols = {}
        for f, c in zip(want.schema, zip(*got) if got else [()] * want.num_columns):
            if f.name in nested:
                c = [None if v is None else json.dumps(json.loads(v), sort_keys=True, ensure_ascii=False) for v in c]
            if f.name == self.partition:
                c = [None if v == "\\N" else v for v in c]  # how the connector shows the null of a partition key
            cols[f.name] = pa.array(list(c), pa.float64()).cast(f.type) if pa.types.is_float32(f.type) else pa.array(list(c), f.type)
        return pa.table(cols)

    def read_all(self, step, want, named=True):
        """Every reader holds exactly the rows of want."""
        self.schema = want.schema
        want = flat(want)
        against = lambda got, want: readers.compare(flat(got), want)
        c = lambda what, f: self.c(f"{step}: {what}", f)
        c("lakectl read", lambda: against(self.own(), want))
        c("Spark by name", lambda: against(self.spark_named(), want))
        c("hudi-rs", lambda: against(readers.hudi_rs(self.path, self.s3()), want))
        ro = ""
        if self.kind == "mor":
            ro, want = "read optimized: ", flat(self.own("--query", "read_optimized"))
            c(f"{ro}Spark by name", lambda: against(self.spark_named(True), want))
        c(f"{ro}DuckDB", lambda: against(self.read_duck(), want))
        c(f"{ro}Trino by name", lambda: readers.compare(self.trino_named(want), want))

    def spark_options(self):
        mdt = os.path.isdir(f"{self.disk}/.hoodie/metadata")
        return super().spark_options() | {"hoodie.datasource.write.partitionpath.field": self.partition, "hoodie.metadata.enable": str(mdt).lower()}

    def write(self, op, t):
        f = f"{self.s.tmp}/{self.name}-{op}.parquet"
        for i, c in enumerate(t.schema):
            if pa.types.is_timestamp(c.type):
                t = t.set_column(i, c.name, t.column(i).cast(pa.timestamp("us", "UTC")))
        pq.write_table(t, f)
        self.history.spark.ask(cmd="write", path=self.path.replace("s3://", "s3a://"), rows=f, op=op, opt=self.spark_options())

    def verify(self, *more, ok=(0,)):
        return self.l.run("verify", "-c", self.l.config, "--keys", *more, ok=ok)

    def copied(self):
        """A copy of the table, and a configuration of it."""
        copy, config = f"{self.s.tmp}/tables/harmed", f"{self.s.tmp}/harmed.yaml"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.disk, copy)
        with open(self.l.config) as r:
            c = json.load(r)
        c["state_dir"], c["tables"][0]["path"] = f"{self.s.tmp}/harmed.state", copy
        shutil.rmtree(c["state_dir"], ignore_errors=True)
        with open(config, "w") as w:
            json.dump(c, w)
        return copy, config

    def harmed(self, what, f, command, *more):
        """f changes a copy of the table and returns names, of which the command must tell at least one and end with 1 or 6."""
        def run():
            copy, config = self.copied()
            names = f(copy)
            p = self.l.run(command, *(["--path", copy] if command == "audit" else ["-c", config]), *more, ok=(0, 1, 6))
            told = p.stdout.decode(errors="replace") + open(self.l.log, errors="replace").read().rsplit("$ lakectl", 1)[1]
            if p.returncode == 0:
                return f"lakectl {command} finds nothing: {told[:600]}"
            return None if any(n in told for n in names) else f"it tells none of {names}: {told[:1500]}"
        self.c(f"found and named: {what}", run)

    def base_files(self, table):
        """Base files of the last slices: those of the newest commits."""
        files = {}
        for f in glob.glob(f"{table}/*/*.parquet"):
            id, _, instant = os.path.basename(f).removesuffix(".parquet").split("_")
            files[os.path.dirname(f), id] = max(files.get((os.path.dirname(f), id), ("", "")), (instant, f))
        return sorted(f for _, f in files.values())

    def cell(self, table):
        """Another value in one cell; the file's name."""
        f = self.base_files(table)[0]
        changed(f, "qty", lambda v: (v or 0) ^ 1)
        return [os.path.basename(f)]

    def cell_of_size(self, table):
        """Another value in one cell of a file that has as many bytes as before; the row's key."""
        f = self.base_files(table)[0]
        size = os.path.getsize(f)
        key = changed(f, "qty", lambda v: (v or 0) ^ 1, size)
        if os.path.getsize(f) != size:
            raise RuntimeError(f"{f} has {os.path.getsize(f)} bytes, had {size}")
        return [f'"{key}"', f"key {key}"]

    def audit(self, *where, ok=(0,)):
        return self.l.run("audit", *(where or self.l.where(True)), ok=ok)


TRINO = {"int64": "bigint", "int32": "integer", "string": "varchar", "double": "double", "float": "real", "bool": "boolean", "date32[day]": "date",
         "timestamp[us]": "timestamp", "binary": "varbinary"}


def edited(t, ids, by):
    """The rows of ids with other values, and rows that are new."""
    out = []
    for r in t.filter(pa.compute.is_in(t["id"], pa.array(ids))).to_pylist():
        r |= {"qty": by, "note": f"spark {by}", "updated_at": r["updated_at"] + 10**12, "amount": None}
        out += [r, r | {"id": 2**56 + r["id"], "name": None}]
    return pa.Table.from_pylist(out, t.schema)


def loaded(suite, history, fmt, version, kind, deletes=False, directory=False, **over):
    """One history becomes a table; then Spark writes into it. Where the table's partitions are those of the history, some are left out:
    Spark takes a path with a colon for one with a scheme, and one with an equals sign for the name and value of a column."""
    want, boot = history.read(fmt), {}
    if over.get("partition") == "part":
        out = ODD[:1] if over.get("hive_style") else [ODD[0], ODD[3]]
        boot["partitions"] = "part is null or " + " and ".join(f"part != '{v}'" for v in out)
        want = want.filter(pa.compute.invert(pa.compute.is_in(want["part"], pa.array(out))))
    for i, f in enumerate(want.schema):
        if pa.types.is_int8(f.type) or pa.types.is_int16(f.type):
            want = want.set_column(i, f.name, want.column(i).cast(pa.int32()))
    declared = {n: d for n, _, d in columns(fmt)}
    if fmt == "csv":
        boot["columns"] = {n: {"expr": f"try_cast({n} as {d})"} for n, _, d in columns(fmt) if d != "string"}
    if directory:
        boot["hive"] = {"path": history.directory(fmt), "format": "parquet"}
    x = Named(suite, history, "s3", f"boot_{fmt}_{kind}", f"hist.{fmt}", version, kind, declared=declared, bootstrap=boot, **over)
    if not x.c("lakectl bootstrap", lambda: x.bootstrap() and None):
        return
    x.read_all("loaded", want)
    x.c("lakectl verify, against the history", lambda: x.verify("--against", "history") and None)
    x.c("lakectl audit", lambda: x.audit() and None)
    x.harmed("a changed cell in a file of the same size", x.cell_of_size, "verify", "--against", "history")
    ids = sorted(want["id"].to_pylist())
    up, gone = edited(want, ids[:1000:29], 7), want.filter(pa.compute.is_in(want["id"], pa.array(ids[10:1000:97] if deletes else [], pa.int64())))

    def spark_writes():
        x.write("upsert", up)
        if deletes:
            x.write("delete", gone)
        x.l.run("sync", "-c", x.l.config)
    if x.c(f"Spark upserts{' and deletes' if deletes else ''}", spark_writes):
        out = set(up["id"].to_pylist()) | set(gone["id"].to_pylist())
        kept = want.filter(pa.compute.invert(pa.compute.is_in(want["id"], pa.array(sorted(out)))))
        x.read_all("after Spark", pa.concat_tables([kept, up.filter(pa.compute.invert(pa.compute.is_in(up["id"], gone["id"].combine_chunks())))]))
        x.c("lakectl verify after Spark", lambda: x.verify() and None)


def refused(suite, history):
    """A truncated file and one of another schema stop their partitions alone, and are named; mended, they are loaded."""
    d = f"{suite.tmp}/harmed_history"
    shutil.copytree(history.directory("parquet"), d)
    cut, other = (sorted(glob.glob(f"{d}/part={day}/*.parquet"))[1] for day in DAYS[1:])
    os.truncate(cut, os.path.getsize(cut) // 2)
    pq.write_table(pa.table({"id": ["not a number"], "weight": [1.5]}), other)
    want = history.read("parquet")
    x = Named(suite, history, "s3", "boot_harmed", "", 9, "cow", declared={n: d for n, _, d in columns("parquet")}, bootstrap={"hive": {"path": d, "format": "parquet"}, "unit_size": "1MiB"},
              partition="part")

    def load():
        p = x.l.run("bootstrap", "-c", x.l.config, ok=(4, 6))
        told = open(x.l.log, errors="replace").read()
        if lost := [os.path.basename(f) for f in (cut, other) if os.path.basename(f) not in told]:
            return f"lakectl bootstrap ends with {p.returncode} and does not name {lost}: {told[-1500:]}"
        return readers.compare(flat(x.own()), flat(want.filter(pa.compute.invert(pa.compute.is_in(want["part"], pa.array(DAYS[1:]))))))

    def mended():
        for f in (cut, other):
            shutil.copy(f.replace(d, history.directory("parquet")), f)
        x.bootstrap()
        return readers.compare(flat(x.own()), flat(want))
    if x.c("a truncated file and one of another schema are named, the rest is loaded", load):
        x.c("the mended files are loaded", mended)
        x.c("lakectl verify, against the history", lambda: x.verify("--against", "history") and None)


def formats(suite):
    history = suite.history("3.1.3")
    for fmt in FORMATS:
        if not suite.report.check(f"bootstrap: Spark writes history as {fmt}", lambda: history.make(fmt)):
            return
    on = {"services": {"metadata_table": True}}
    for fmt, version, kind, over in (
            ("parquet", 9, "cow", {"partition": "part", "deletes": True, **on}), ("parquet", 9, "mor", {"directory": True}), ("legacy", 6, "cow", {"partition": "part", "hive_style": True}),
            ("hive", 9, "cow", {"index": {"type": "record"}}), ("orc", 9, "mor", {"deletes": True, "partition": "part", "hive_style": True, **on}), ("text", 9, "cow", {}), ("csv", 6, "mor", {}),
            ("json", 9, "cow", {"index": {"type": "bucket", "buckets": 2}})):
        loaded(suite, history, fmt, version, kind, **over)
    refused(suite, history)


class Overlap(index.Moving):
    """A database whose changes are in the topic from some time on, and whose state at another time is the history. Rows are wide enough
    for a load of several units."""

    regions = shop.REGIONS[:8]

    def new_row(self, id, region=None):
        r = super().new_row(id, region)
        r["blob"] = self.rng.randbytes(160)
        return r

    def changes(self, n, moves):
        self.create(n)
        self.update(3 * n)
        self.delete(n // 2)
        self.revive(n // 2)
        if moves:
            self.move(n // 2)
            self.late(n // 4)
            self.gone(n // 4, n // 8)


class Life(Named):
    """Producers run all the time; history is loaded meanwhile and killed, ingest too."""

    def __init__(self, suite, version, kind, fmt, hive, early, moves, n=24000, **over):
        history = suite.history(hive)
        name = f"life_{kind}_{fmt}" + ("_early" if early else "")
        self.n, self.fmt, self.early, self.moves, self.lock, self.stop = n, fmt, early, moves, threading.Lock(), threading.Event()
        self.rng = random.Random(name)
        sh = Overlap(name, name)
        index = {"type": "record", "scope": "table"} if moves else {"type": "bloom"} if version == 6 else {"type": "record"}
        super().__init__(suite, history, "s3", name, "", version, kind, shop=sh, index=index, lease="5s", commit={"interval": "300ms", "max_records": 4000},
                         bootstrap={"unit_size": "1MiB"}, **over)
        self.title = f"bootstrap life: {fmt} of metastore {hive} to v{version} {kind}" + (", ingest before the last unit" if early else "")

    def write_history(self, overwrite=None):
        """The database as it is now, as a table of the metastore; or only one partition of it, anew."""
        with self.lock:
            t = self.shop.expected()
        i = t.schema.get_field_index("created_at")
        f = f"{self.s.tmp}/{self.name}.parquet"
        pq.write_table(t.set_column(i, "created_at", t.column(i).cast(pa.timestamp("us", "UTC"))), f)
        types = {n: h for n, h, _ in PLAIN}
        cols = [n for n in t.column_names if n != "region"]
        if overwrite:
            self.history.sql(f"insert overwrite hist.{self.name} partition (region = '{overwrite}') select {', '.join(cols)} from parquet.`{f}` where region = '{overwrite}'")
            return
        stored, settings, _ = FORMATS[self.fmt]
        for k, v in settings.items():
            self.history.sql(f"set {k}={v}")
        self.history.sql(f"create table hist.{self.name} ({', '.join(f'{n} {types[n]}' for n in cols)}) partitioned by (region string) {stored}")
        self.history.sql(f"insert into hist.{self.name} partition (region) select {', '.join(cols)}, region from parquet.`{f}`")
        for k in settings:
            self.history.sql(f"reset {k}")

    def past(self):
        """What came before the producers of now: changes that the history has and the overlap does not reach, changes that both have, and
        changes that came after the history was written."""
        sh, ms = self.shop, lambda hours: int((time.time() - hours * 3600) * 1000)
        sh.create(self.n)
        sh.drain()  # they were there before the topic
        for hours in (3, 0.5):
            sh.changes(self.n // 40, self.moves)
            self.s.kafka.produce(self.topic, sh.drain(), ms(hours))
        self.write_history()
        sh.changes(self.n // 40, self.moves)
        self.s.kafka.produce(self.topic, sh.drain(), ms(0.1))

    def produce_on(self):
        while not self.stop.wait(0.05):
            with self.lock:
                self.shop.changes(16, self.moves)
                events = self.shop.drain()
            self.s.kafka.produce(self.topic, events)

    def begun(self, *args):
        return subprocess.Popen([self.l.binary, *args, "-c", self.l.config], stdout=subprocess.DEVNULL, stderr=open(self.l.log, "ab"), stdin=subprocess.DEVNULL)

    def commits(self):
        return len([f for f in timeline(self.disk) if f.split(".")[-1] in ("commit", "deltacommit")]) if os.path.isdir(f"{self.disk}/.hoodie") else 0

    def plans(self):
        return glob.glob(f"{self.disk}/.hoodie/.lakectl/bootstrap/*.json")

    def killed(self, command, new):
        """Starts a command, and ends it with kill -9 within a moment after so many new commits; 0: once a load is planned. A dead writer's lease may have to run out
        before it can begin."""
        end = time.time() + 60
        while time.time() < end:
            before = self.commits()
            p = self.begun(command)
            while p.poll() is None and time.time() < end and (self.commits() < before + new or not new and not self.plans()):
                time.sleep(0.002)
            time.sleep(self.rng.uniform(0, 0.05))
            if p.poll() is None:
                p.kill()
                p.wait()
                return None
            if p.returncode != OWNED:
                return f"lakectl {command} ended with {p.returncode} before it was killed: " + open(self.l.log, errors="replace").read()[-1500:]
            time.sleep(0.3)
        return f"lakectl {command} made no {new} commits in 60 s: " + open(self.l.log, errors="replace").read()[-1500:]

    def to_end(self, *more):
        end = time.time() + 60
        while self.l.run("bootstrap", "-c", self.l.config, *more, ok=(0, OWNED)).returncode == OWNED:
            if time.time() > end:
                raise RuntimeError("the lease of the killed writer never ran out")
            time.sleep(0.3)

    def again(self):
        """A second bootstrap of one partition, while ingest keeps running."""
        region = self.shop.regions[1]
        self.write_history(region)
        d = self.begun("ingest")
        try:
            time.sleep(1)
            self.change(lambda c, t: t["bootstrap"].update(partitions=f"region = '{region}'"))
            self.to_end()
            if d.poll() is not None and d.returncode != OWNED:
                return f"ingest ended with {d.returncode} meanwhile"
        finally:
            if d.poll() is None:
                d.terminate()
                d.wait()
            self.change(lambda c, t: t["bootstrap"].pop("partitions", None))
        return None

    def life(self):
        if not self.c("the past, and history of it", self.past):
            return
        t = threading.Thread(target=self.produce_on)
        t.start()
        try:
            for i in range(3):
                if not self.c(f"bootstrap is killed, {i + 1}", lambda: self.killed("bootstrap", (0, 1, 1)[i])):
                    return
                if i == 1 and self.early and not self.c("ingest begins before the last unit, and is killed", lambda: self.killed("ingest", 1)):
                    return
            if not self.c("bootstrap goes on to the end", self.to_end):
                return
            for i in range(2):
                if not self.c(f"ingest is killed, {i + 1}", lambda: self.killed("ingest", 2)):
                    return
            if not self.early:  # the history that the first load read is gone after the second
                self.c("lakectl verify, against history and stream, while producers run", lambda: self.verify("--against", "history", "--against", "stream") and None)
                if not self.c("one partition again, beside ingest", self.again):
                    return
        finally:
            self.stop.set()
            t.join()
        if not self.c("ingest catches up", self.l.catch_up):
            return
        if self.kind == "mor":
            self.c("compaction", lambda: self.l.run("compact", "-c", self.l.config, "--max-delta-commits", "1", "--no-clean", "--no-archive") and None)
        want = self.shop.expected()
        self.schema = want.schema
        self.read_all("at the end", want)
        if self.kind == "mor":  # what Trino reads is what base files hold: all, now
            self.c("base files hold every row", lambda: readers.compare(self.own("--query", "read_optimized"), want))
        self.c("lakectl audit", lambda: self.audit() and None)
        if self.early:
            self.c("lakectl verify, against history and stream", lambda: self.verify("--against", "history", "--against", "stream") and None)
        else:
            self.c("lakectl verify, against history", lambda: self.verify("--against", "history") and None)
        self.c("handoff certificate", self.certificate)
        self.harm()

    def certificate(self):
        got = glob.glob(f"{self.disk}/.hoodie/.lakectl/handoff/*.json")
        return None if got else "there is none"

    # --- what must be found
    def harm(self):
        self.harmed("a dropped commit", self.drop, "audit")
        self.harmed("a forged ledger entry", self.forge, "audit")
        self.harmed("a doubled file", self.double, "verify", "--keys")
        self.harmed("a changed cell", self.cell, "verify")
        self.harmed("a changed cell in a file of the same size", self.cell_of_size, "verify", "--against", "stream")

    def pages(self, table):
        """The completed commits that have a page of the ledger, in order: (instant, files of the timeline, the completed one)."""
        out = []
        for f, path in sorted(timeline(table).items()):
            if f.split(".")[-1] in ("commit", "deltacommit"):
                _, m = commit(path)
                if "lakectl.ledger" in (m.get("extraMetadata") or {}):
                    instant = f.split(".")[0].split("_")[0]
                    out.append((instant, [p for g, p in timeline(table).items() if g.startswith(instant)], path))
        return out

    def drop(self, table):
        pages = self.pages(table)
        i = len(pages) // 2
        for p in pages[i][1]:
            os.remove(p)
        return [pages[i][0], pages[i + 1][0]]

    def forge(self, table):
        pages = self.pages(table)
        i = len(pages) // 2
        path = pages[i][2]
        schema, m = commit(path)
        l = json.loads(m["extraMetadata"]["lakectl.ledger"])
        for topic in l["topics"].values():
            for r in topic.values():
                r[2] += 1  # the records that the range had
        m["extraMetadata"]["lakectl.ledger"] = json.dumps(l, separators=(",", ":"))
        commit(path, schema, m)
        return [pages[i][0], pages[i + 1][0]]

    def double(self, table):
        f = self.base_files(table)[0]
        id, rest = os.path.basename(f).split("_", 1)
        copy = f"{os.path.dirname(f)}/{uuid.UUID(int=self.rng.getrandbits(128))}-0_{rest}"
        shutil.copy(f, copy)
        return [os.path.basename(copy)]


def commit(path, schema=None, record=None):
    """Reads a commit, as (Avro schema or None, record), or writes one."""
    import fastavro
    if record is None:
        raw = open(path, "rb").read()
        if raw[:1] == b"{":
            return None, json.loads(raw)
        r = fastavro.reader(io.BytesIO(raw))
        return r.writer_schema, next(iter(r))
    with open(path, "wb") as f:
        if schema is None:
            f.write(json.dumps(record).encode())
        else:
            fastavro.writer(f, schema, [record])


def changed(path, column, f, size=None):
    """Writes a Parquet file anew with a cell of its first row changed, and all that its footer says; to so many bytes, by what is added
    to the footer, if size is given. Returns the row's key."""
    t = pq.ParquetFile(path).read()
    i = t.schema.get_field_index(column)
    values = t.column(i).to_pylist()
    values[0] = f(values[0])
    t = t.set_column(i, t.schema.field(i), pa.array(values, t.schema.field(i).type))
    kv = pq.ParquetFile(path).metadata.metadata
    packed = {"id": "DELTA_BINARY_PACKED", "updated_at": "DELTA_BINARY_PACKED", "_hoodie_commit_seqno": "DELTA_BYTE_ARRAY", "_hoodie_record_key": "DELTA_BYTE_ARRAY"}
    few = [f.name for f in t.schema if f.name not in packed and (pa.types.is_nested(f.type) or len(t.column(f.name).unique()) < t.num_rows // 4)]

    def write(pad, level):
        with pq.ParquetWriter(path, t.schema.remove_metadata(), compression="zstd", compression_level=level, store_schema=False, write_statistics=False, column_encoding=packed,
                              use_dictionary=few) as w:
            w.write_table(t)
            w.add_key_value_metadata(kv | {"pad": "x" * pad})
        return os.path.getsize(path)
    for level in (1, 9, 19, 22):
        left = (size or 0) - write(0, level)
        if size is None or left >= 0:
            break
    for pad in range(left, max(left - 12, -1), -1):  # the length of a text takes more bytes the longer it is
        if size is None or write(pad, level) == size:
            break
    return t["_hoodie_record_key"][0].as_py()


class Synced(Named):
    """A table of the stream alone, which the metastore learns of with every commit."""

    def __init__(self, suite, hive, version, kind, **over):
        name = f"synced_{kind}_hive{hive[0]}"
        super().__init__(suite, suite.history(hive), "s3", name, "", version, kind, **over)
        self.change(lambda c, t: t.pop("bootstrap"))
        self.title = f"sync: metastore {hive}, v{version} {kind}"

    def bring(self, n):
        self.shop.create(n)
        self.shop.update(n // 2)
        self.shop.delete(n // 10)
        self.produce()
        self.l.catch_up()

    def grown(self):
        """A column more, and partitions more."""
        self.shop.added = True
        self.shop.update(20)
        for i in range(4):
            r = self.shop.new_row(2**50 + i, f"new {i}")
            self.shop.rows[r["id"]] = r
            self.shop.ids.append(r["id"])
            self.shop.emit(r["id"], "c", None, self.shop.image(r))
        self.produce()
        self.l.catch_up()
        if self.kind == "mor":
            self.l.run("compact", "-c", self.l.config, "--max-delta-commits", "1", "--no-clean", "--no-archive")
            self.l.run("sync", "-c", self.l.config)

    def life(self):
        for step, f in (("created", lambda: self.bring(200)), ("a column and partitions more", self.grown)):
            if not self.c(step, f):
                return
            self.read_all(step, self.shop.expected())
        before = self.history.sql(f"describe formatted lake.{self.name}{'' if self.kind == 'cow' else '_rt'}")
        self.c("nothing to sync changes nothing", lambda: self.l.run("sync", "-c", self.l.config) and (
            None if self.history.sql(f"describe formatted lake.{self.name}{'' if self.kind == 'cow' else '_rt'}") == before else "the table changed"))


def synced(suite, hive):
    for version, kind in ((9, "cow"), (6, "mor")) if hive == "3.1.3" else ((6, "cow"), (9, "mor")):
        Synced(suite, hive, version, kind).life()


def lives(suite, hive):
    if hive == "3.1.3":
        Life(suite, 9, "cow", "parquet", hive, early=False, moves=True).life()
        Life(suite, 6, "cow", "text", hive, early=True, moves=False).life()
    else:
        Life(suite, 9, "mor", "orc", hive, early=True, moves=False).life()

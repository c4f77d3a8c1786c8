"""The metadata table: what Spark reads from it as a table, against the data files; and whether Spark uses it."""
import glob, os, shutil
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
import mor, readers
from cell import timeline

FILES, COLUMN_STATS, PARTITION_STATS = 2, 3, 6
COLUMNS = ["id", "region", "name", "qty", "price", "updated_at", "day", "created_at", "amount"]
NEEDLE = 2**31 - 1  # a value of qty that no statistics cover


def entries(worker, table, tmp):
    """The records of the metadata table, as Spark reads it."""
    out = f"{tmp}/mdt-{worker.version}"
    worker.ask(cmd="read", path=f"{table}/.hoodie/metadata", out=out, opt={})
    return [r for f in sorted(glob.glob(out + "/*.parquet")) for r in pq.ParquetFile(f).read().to_pylist()]


def plain(v):
    """A value of the wrappers' union: Spark gives a struct with a member per kind."""
    if v is None:
        return None
    for k, x in v.items():
        if x is not None:
            return x.get("value") if isinstance(x, dict) else x
    return None


def comparable(v, like):
    """A stored bound as Python's value of the column."""
    import datetime
    if v is None or like is None:
        return v
    if isinstance(like, datetime.datetime) and isinstance(v, int):
        return datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=v)
    if isinstance(like, datetime.date) and not isinstance(like, datetime.datetime) and isinstance(v, int):
        return datetime.date(1970, 1, 1) + datetime.timedelta(days=v)
    if isinstance(v, datetime.datetime):
        return v.replace(tzinfo=None)
    if type(like).__name__ == "Decimal" and isinstance(v, bytes):
        import decimal
        return decimal.Decimal(int.from_bytes(v, "big", signed=True)).scaleb(like.as_tuple().exponent)
    return v


def differences(worker, table, tmp):
    """What the metadata table says that is not so. Everything under table is committed."""
    wrong, listed, stats, parts, compared = [], {}, {}, {}, 0
    for r in entries(worker, table, tmp):
        if r["type"] == FILES:
            m = r["filesystemMetadata"]
            listed[r["key"]] = {k: v["size"] for k, v in (m.items() if isinstance(m, dict) else m) if not v["isDeleted"]}
        elif r["type"] in (COLUMN_STATS, PARTITION_STATS) and (m := r["ColumnStatsMetadata"]) and not m["isDeleted"]:
            (stats if r["type"] == COLUMN_STATS else parts)[m["fileName"], m["columnName"]] = m
    partitions = {p for p in os.listdir(table) if p != ".hoodie" and os.path.isdir(f"{table}/{p}")}
    for p in sorted(partitions | set(listed)):
        disk = {f: os.path.getsize(f"{table}/{p}/{f}") for f in (os.listdir(f"{table}/{p}") if p in partitions else [])
                if not f.startswith(".hoodie_partition_metadata") and not f.endswith(".crc")}
        got = listed.get(p, {})
        wrong += [f"{p}/{f} is listed, and not there" for f in sorted(got.keys() - disk.keys())]
        wrong += [f"{p}/{f} is not listed" for f in sorted(disk.keys() - got.keys())]
        wrong += [f"{p}/{f} has {disk[f]} bytes, listed with {got[f]}" for f in sorted(got.keys() & disk.keys()) if got[f] != disk[f]]
        for f in sorted(disk):
            if not f.endswith(".parquet"):
                continue
            t = readers.plain(pq.ParquetFile(f"{table}/{p}/{f}").read())
            for c in COLUMNS:
                if c not in t.column_names or not t.num_rows:  # Spark tells nothing of a file without rows
                    continue
                m = stats.get((f, c))
                if m is None:
                    wrong.append(f"{p}/{f}: no statistics of {c}")
                    continue
                b = pc.min_max(t[c]).as_py()
                if t.num_rows != t[c].null_count and type(b["min"]).__name__ == "str":  # by bytes, as Parquet and Java compare
                    v = sorted(x for x in t[c].to_pylist() if x is not None)
                    b = {"min": v[0], "max": v[-1]}
                # of a column of nulls Spark takes a bound from Parquet that means nothing
                for k, bound in (("minValue", b["min"]), ("maxValue", b["max"])) if b["min"] is not None else ():
                    got1 = comparable(plain(m[k]), bound)
                    compared += 1
                    if got1 != bound:
                        wrong.append(f"{p}/{f}: {k} of {c} is {got1!r}, in the file {bound!r}")
                if m["nullCount"] != t[c].null_count:
                    wrong.append(f"{p}/{f}: {c} has {t[c].null_count} nulls, counted {m['nullCount']}")
    if not compared:
        wrong.append("there are no column statistics")
    if not parts:
        wrong.append("there are no partition statistics")
    return "; ".join(wrong[:5]) + (f"; {len(wrong)} differences" if len(wrong) > 5 else "") or None


def with_needle(path):
    """Gives one row of a base file a value that its statistics do not cover, in a file of the same size."""
    size = os.path.getsize(path)
    crc = f"{os.path.dirname(path)}/.{os.path.basename(path)}.crc"
    if os.path.exists(crc):
        os.remove(crc)
    f = pq.ParquetFile(path)
    t, meta = f.read().replace_schema_metadata(None), dict(f.metadata.metadata or {})
    i = t.schema.get_field_index("qty")
    t = t.set_column(i, t.schema.field(i), pa.array([NEEDLE] + t.column(i).to_pylist()[1:], pa.int32()))
    pad = 0
    for _ in range(20):
        with pq.ParquetWriter(path, t.schema, compression="zstd", compression_level=19, store_schema=False, write_statistics=False) as w:
            w.write_table(t)
            w.add_key_value_metadata({k.decode(): v.decode() for k, v in meta.items() if k != b"parquet.avro.schema"} | {"pad": "x" * pad})
        over = size - os.path.getsize(path)
        if over == 0:
            return
        pad += over
        if pad < 0:
            break
    raise RuntimeError(f"{path} does not become {size} bytes")


class Metadata(mor.Services):
    """A table with a metadata table, maintained by lakectl, Spark and lakectl again."""

    def __init__(self, suite, kind):
        index = {"type": "record" if kind == "cow" else "bloom"}
        mor.Life.__init__(self, suite, 9, "local", 500, index, prefix=f"mdt_{kind}", services={"metadata_table": True}, type=kind)
        self.read_opt = {"hoodie.metadata.enable": "true", "hoodie.enable.data.skipping": "true"}

    def spark_options(self):
        return super().spark_options() | {"hoodie.metadata.enable": "true"}

    def check_all(self, step, **how):
        super().check_all(step, **how)
        c = lambda what, f: self.s.report.check(f"{self.title}: {step}: {what}", f)
        c("Spark finds the metadata table right", lambda: differences(self.worker(), self.disk, self.s.tmp))

    def life(self):
        sh = self.shop

        def load():
            sh.create(self.scale)
            self.produce()
            self.l.catch_up()
            self.changes(2)

        if not self.step("load", load, trino=True) or not self.step("Spark writes", self.foreign):
            return
        if not self.step("lakectl goes on after Spark", lambda: self.changes(2), engines=False):
            return
        if self.kind == "mor":
            if not self.step("lakectl compacts", lambda: self.compact() and None) or not self.step("Spark schedules and runs a compaction", lambda: (self.change(), self.spark_schedules(), self.spark_compacts())[0]):
                return
        if not self.step("lakectl cleans", lambda: self.service("clean", "-c", self.l.config, "--keep-commits", "1") and None):
            return
        if not self.step("a dozen commits, the metadata table is compacted", lambda: (self.changes(9), self.metadata_compacted())[0]):
            return
        if not self.step("Spark writes again", self.foreign):
            return
        self.harm()

    def metadata_compacted(self):
        d = f"{self.disk}/.hoodie/metadata/.hoodie/timeline"
        if not any(f.endswith(".commit") for f in os.listdir(d)):
            raise RuntimeError(f"no compaction among {sorted(os.listdir(d))[-5:]}")

    def harm(self):
        """Wrong entries, in copies: the check sees them, and Spark, which uses the metadata table, is misled by them."""
        c = lambda what, f: self.s.report.check(f"{self.title}: {what}", f)
        w, copy = self.worker(), f"{self.s.tmp}/tables/{self.name}_harmed"
        base = max((f for f in glob.glob(f"{self.disk}/*/*.parquet")), key=os.path.getmtime)  # one of the newest slices
        rel = os.path.relpath(base, self.disk)

        def fresh():
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self.disk, copy)

        def count(where, **opt):
            return w.ask(cmd="count", path=copy, where=where, opt={k.replace("_", "."): v for k, v in opt.items()})["count"]

        def hidden():
            """A file that a completed commit could have written, and that the metadata table does not list."""
            fresh()
            name = os.path.basename(rel)
            shutil.copy(base, f"{copy}/{os.path.dirname(rel)}/{'0000' + name[4:]}")
            if not (d := differences(w, copy, self.s.tmp)) or "is not listed" not in d:
                return f"not seen: {d}"
            off, on = count("true", hoodie_metadata_enable="false"), count("true", hoodie_metadata_enable="true")
            return None if on == sh_rows and off > on else f"{on} rows with the metadata table, {off} without, want {sh_rows} and more"

        def gone():
            fresh()
            os.remove(f"{copy}/{rel}")
            d = differences(w, copy, self.s.tmp)
            return None if d and "is listed, and not there" in d else f"not seen: {d}"

        def needle():
            fresh()
            with_needle(f"{copy}/{rel}")
            d = differences(w, copy, self.s.tmp)
            if not d or "maxValue of qty" not in d:
                return f"not seen: {d}"
            where = f"qty = {NEEDLE}"
            on = count(where, hoodie_metadata_enable="true", hoodie_enable_data_skipping="true")
            off = count(where, hoodie_metadata_enable="true", hoodie_enable_data_skipping="false")
            return None if (on, off) == (0, 1) else f"{on} rows with skipping, {off} without, want 0 and 1"
        sh_rows = len(self.shop.rows)
        c("a file that is not listed is seen, and Spark does not read it", hidden)
        c("a listed file that is gone is seen", gone)
        if self.kind == "cow":
            c("wrong column statistics are seen, and Spark skips the file", needle)


def all_kinds(suite):
    for kind in ("cow", "mor"):
        Metadata(suite, kind).life()

"""Tables that are partitioned by the date of a column: lakectl makes them, Spark goes on by what stands in their properties, lakectl
goes on behind Spark. partitions.py LAKECTL [HUDI_VERSION]..."""
import datetime as dt, json, os, shutil, subprocess, sys, tempfile
import pyarrow as pa, pyarrow.parquet as pq
import services

DAY = dt.datetime(2026, 1, 31, 23, 30, tzinfo=dt.timezone.utc)
NEXT = DAY + dt.timedelta(hours=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


def iso(t):
    return t.isoformat().replace("+00:00", "Z")


def day(t):
    return t.date().isoformat()


def millis(t):
    return (t - EPOCH) // dt.timedelta(milliseconds=1)


# name: how a value is in JSON, in Parquet (Spark), the declared type, unit, format; other partition columns, hive style
KINDS = {
    "timestamp": (iso, lambda t: pa.scalar(t, pa.timestamp("us", "UTC")), "timestamp-micros", None, "yyyy/MM/dd", [], False),
    "date": (day, lambda t: pa.scalar(t.date(), pa.date32()), "date", None, "yyyy-MM", [], True),
    "text": (iso, lambda t: pa.scalar(iso(t), pa.string()), "string", None, "yyyy-MM-dd-HH", [], False),
    "number": (millis, lambda t: pa.scalar(millis(t), pa.int64()), None, "ms", "yyyyMMdd", [], False),
    "custom": (iso, lambda t: pa.scalar(t, pa.timestamp("us", "UTC")), "timestamp-micros", None, "yyyy-MM-dd", ["region"], True),
}
PATTERNS = {"yyyy/MM/dd": "%Y/%m/%d", "yyyy-MM": "%Y-%m", "yyyy-MM-dd-HH": "%Y-%m-%d-%H", "yyyyMMdd": "%Y%m%d", "yyyy-MM-dd": "%Y-%m-%d"}


class Table:
    def __init__(self, binary, tmp, version, kind):
        self.binary, self.version, self.kind = binary, version, kind
        self.text, self.scalar, typ, unit, self.format, self.others, self.hive = KINDS[kind]
        if version == 6 and kind in ("date", "number"):  # with a single level, Hudi 0.15 takes the column for text and fails at its values
            self.format = "yyyy/MM/dd"
        self.dir = f"{tmp}/{version}-{kind}"
        self.path = f"{self.dir}/t"
        os.makedirs(f"{self.dir}/in")
        by = [*self.others, {"field": "at", "format": self.format} | ({"unit": unit} if unit else {})]
        self.config = f"{self.dir}/lake.json"
        json.dump({"state_dir": f"{self.dir}/state", "sources": {"f": {"type": "file", "paths": [f"{self.dir}/in/*.jsonl"]}}, "tables": [{
            "name": "t", "path": self.path, "version": version, "key": ["id"], "ordering": ["ts"], "partition_by": by, "hive_style_partitions": self.hive,
            "from": {"source": "f", "format": "json"}, "schema": {"columns": {"ts": "long"} | ({"at": typ} if typ else {})}}]}, open(self.config, "w"))
        self.rows, self.files = {}, 0

    def lakectl(self, *args):
        p = subprocess.run([self.binary, *args], capture_output=True, text=True)
        if p.returncode:
            raise RuntimeError(f"lakectl {' '.join(args)}: {p.stdout[-1000:]}{p.stderr[-2000:]}")
        return p.stdout

    def partition(self, region, at):
        parts = [("region", region)] if self.others else []
        parts.append(("at", at.strftime(PATTERNS[self.format])))
        return "/".join(f"{k}={v}" if self.hive else v for k, v in parts)

    def change(self, *rows):
        for id, region, at, ts in rows:
            self.rows[id] = (self.partition(region, at), ts)
        return rows

    def ingest(self, *rows):
        self.files += 1
        with open(f"{self.dir}/in/{self.files:03}.jsonl", "w") as f:
            for id, region, at, ts in self.change(*rows):
                f.write(json.dumps({"id": id, "region": region, "at": self.text(at), "ts": ts}) + "\n")
        self.lakectl("ingest", "-c", self.config, "--until-caught-up")

    def spark(self, w, *rows):
        rows = self.change(*rows)
        cols = {"at": pa.array([self.scalar(r[2]).as_py() for r in rows], self.scalar(DAY).type), "id": [r[0] for r in rows], "region": [r[1] for r in rows], "ts": pa.array([r[3] for r in rows], pa.int64())}
        f = f"{self.dir}/spark.parquet"
        pq.write_table(pa.table(cols), f)
        opt = {"hoodie.table.name": "t", "hoodie.datasource.write.recordkey.field": "id", "hoodie.datasource.write.precombine.field": "ts",
               "hoodie.datasource.write.partitionpath.field": "at", "hoodie.write.table.version": str(self.version), "hoodie.write.auto.upgrade": "false",
               "hoodie.metadata.enable": "true" if self.version == 9 else "false", "hoodie.datasource.write.hive_style_partitioning": str(self.hive).lower()}
        if self.others:
            opt["hoodie.datasource.write.partitionpath.field"] = "region:SIMPLE,at:TIMESTAMP"
        opt |= {k: v for k, v in self.properties().items() if k.startswith("hoodie.keygen.timebased.")}  # which writes of data frames do not take from the table
        if self.version == 6:
            opt["hoodie.datasource.write.keygenerator.class"] = self.properties()["hoodie.table.keygenerator.class"]
        w.ask(cmd="write", path=self.path, rows=f, op="upsert", opt=opt)

    def properties(self):
        lines = [l.rstrip("\n").split("=", 1) for l in open(f"{self.path}/.hoodie/hoodie.properties") if "=" in l and l[0] != "#"]
        return {k: v.replace("\\:", ":").replace("\\=", "=") for k, v in lines}

    def check(self, w):
        have = {}
        for l in self.lakectl("read", "--path", self.path, "--meta", "--format", "jsonl").splitlines():
            r = json.loads(l)
            if r["id"] in have:
                raise RuntimeError(f"{r['id']} is there twice")
            have[r["id"]] = (r["_hoodie_partition_path"], r["ts"])
        if have != self.rows:
            raise RuntimeError(f"lakectl reads {have}, want {self.rows}")
        if self.version == 6:  # Hudi 0.15 shows the text of the path as the column
            self.lakectl("verify", "-c", self.config, "--keys")
            count = lambda where: w.ask(cmd="count", path=self.path, where=where, opt={})["count"]
            wrong = [i for i, (p, ts) in self.rows.items() if count(f"id = '{i}' and ts = {ts} and _hoodie_partition_path = '{p}'") != 1]
            if wrong or count("id is not null") != len(self.rows):
                raise RuntimeError(f"Spark does not find {wrong or 'as many rows'} of {self.rows}")
            return
        a = w.ask(cmd="keys", path=self.path, out=f"{self.dir}/out", opt={"hoodie.metadata.enable": "true" if self.version == 9 else "false"})
        got = {}
        for f in os.scandir(f"{self.dir}/out"):
            if f.name.endswith(".parquet"):
                t = pq.ParquetFile(f.path).read(columns=["id", "ts", "_hoodie_partition_path"]).to_pydict()
                got |= {i: (p, s) for i, p, s in zip(t["id"], t["_hoodie_partition_path"], t["ts"])}
        if got != self.rows or a["rows"] != len(self.rows):
            raise RuntimeError(f"Spark reads {a['rows']} rows {got}, want {self.rows}")
        self.lakectl("verify", "-c", self.config, "--keys")

    def life(self, w):
        self.ingest(("a", "x", DAY, 1), ("b", "x", NEXT, 1), ("c", "y", DAY, 1))
        self.check(w)
        self.spark(w, ("a", "x", DAY, 2), ("d", "y", NEXT, 2), ("e", "x", DAY + dt.timedelta(days=400), 2))
        self.check(w)
        self.ingest(("a", "x", DAY, 3), ("d", "y", NEXT, 3), ("e", "x", DAY + dt.timedelta(days=400), 3), ("f", "y", NEXT, 3))
        self.check(w)


def main():
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "none")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "none")
    tmp, failed = tempfile.mkdtemp(prefix="lakectl-partitions-"), 0
    try:
        for hudi in sys.argv[2:] or ["1.2.0", "0.15.0"]:
            w = services.Spark(hudi, tmp)
            w.wait()
            for kind in KINDS:
                version = 6 if hudi.startswith("0.") else 9
                try:
                    Table(os.path.abspath(sys.argv[1]), tmp, version, kind).life(w)
                    print(f"ok   {kind}, version {version}, Hudi {hudi}", flush=True)
                except Exception as e:
                    failed += 1
                    print(f"FAIL {kind}, version {version}, Hudi {hudi}: {e}", flush=True)
    finally:
        services.stop_all()
        shutil.rmtree(tmp, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

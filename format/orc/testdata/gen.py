"""Writes the ORC files that the tests of format/orc read, each with what it holds as canonical JSON lines beside it.

    gen.py pyarrow                with pyarrow
    gen.py spark ZONE             with pyspark 3.5, for UTC, Asia/Shanghai and America/Los_Angeles
    java -cp 'PYSPARK/jars/*' Gen.java .   with ORC's Java library beneath it
    gen.py bench FILE             a file of a million rows for the benchmark, with pyarrow, and how long pyarrow reads it

Expected rows come from the values written; where calendars and time zones are concerned, from Spark's reader.
"""
import base64, datetime as dt, decimal, json, math, os, random, sys, time

here = os.path.dirname(os.path.abspath(__file__))
D = decimal.Decimal
decimal.getcontext().prec = 60


def canonical(v):
    if isinstance(v, float):
        return v if math.isfinite(v) else "NaN" if v != v else "Infinity" if v > 0 else "-Infinity"
    if isinstance(v, D):
        return f"{v:f}"
    if isinstance(v, dt.datetime):
        return v.strftime("%Y").zfill(4) + v.strftime("-%m-%dT%H:%M:%S.%fZ")
    if isinstance(v, dt.date):
        return v.isoformat()
    if isinstance(v, (bytes, bytearray)):
        return base64.b64encode(v).decode()
    if isinstance(v, list):
        return [canonical(x) for x in v]
    if isinstance(v, dict):
        return {k: canonical(x) for k, x in v.items()}
    if isinstance(v, tuple):  # a map
        return {str(canonical(k)): canonical(x) for k, x in v}
    return v


def expect(name, rows):
    with open(f"{here}/{name}.jsonl", "w", encoding="utf-8") as f:
        for r in rows:
            f.write(json.dumps(canonical(r), sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n")


def with_pyarrow():
    import pyarrow as pa
    from pyarrow import orc

    rnd = random.Random(5)
    epoch = dt.datetime(1970, 1, 1)
    words = ["", "a", "Zürich", "日本", "x" * 40, "tab\there", "quote\"d", "back\\slash"]

    def stamp(i):
        return epoch + dt.timedelta(microseconds=rnd.choice([0, 1, 10, 1500, 1_000_000, 86_400_000_000]) * rnd.randrange(20_000) + i)

    def row(i):
        r = {
            "b": rnd.random() < 0.5, "i8": rnd.randrange(-128, 128), "i16": rnd.randrange(-2**15, 2**15), "i32": rnd.randrange(-2**31, 2**31),
            "i64": rnd.choice([i, rnd.randrange(-2**63, 2**63), 7]), "f": rnd.choice([0.5, -1.25, math.inf, math.nan, i * 0.125]),
            "d": rnd.choice([0.1, -math.inf, 1e300, rnd.random(), 3.0]), "s": rnd.choice(words) + str(i % 7), "bin": bytes([i % 256, 0, 255]),
            "date": dt.date(1970, 1, 1) + dt.timedelta(days=rnd.randrange(-100_000, 100_000)), "ts": stamp(i), "tz": stamp(-i),
            "dec": D(rnd.randrange(-10**9, 10**9)).scaleb(-2), "big": D(rnd.randrange(-10**37, 10**37)).scaleb(-10),
            "st": {"x": i, "y": rnd.choice(words + [None])}, "li": [rnd.randrange(10) if rnd.random() < 0.8 else None for _ in range(rnd.randrange(4))],
            "ma": tuple((w, rnd.choice([1, None])) for w in sorted({rnd.choice(words) for _ in range(rnd.randrange(3))})),
            "deep": [{"m": [("k%d" % i, [None, i])]}],
        }
        r["deep"] = rnd.choice([[], [{"m": None}], [{"m": (("k%d" % i, [None, i]),)}, None]])
        return {k: None if rnd.random() < 0.15 else v for k, v in r.items()}

    schema = pa.schema([
        ("b", pa.bool_()), ("i8", pa.int8()), ("i16", pa.int16()), ("i32", pa.int32()), ("i64", pa.int64()), ("f", pa.float32()), ("d", pa.float64()),
        ("s", pa.string()), ("bin", pa.binary()), ("date", pa.date32()), ("ts", pa.timestamp("ns")), ("tz", pa.timestamp("ns", "UTC")),
        ("dec", pa.decimal128(10, 2)), ("big", pa.decimal128(38, 10)), ("st", pa.struct([("x", pa.int64()), ("y", pa.string())])),
        ("li", pa.list_(pa.int32())), ("ma", pa.map_(pa.string(), pa.int32())),
        ("deep", pa.list_(pa.struct([("m", pa.map_(pa.string(), pa.list_(pa.int64())))]))),
    ])

    def arrow(v):
        if isinstance(v, tuple):
            return [(k, arrow(x)) for k, x in v]
        if isinstance(v, list):
            return [arrow(x) for x in v]
        if isinstance(v, dict):
            return {k: arrow(x) for k, x in v.items()}
        return v

    def write(name, rows, schema, **options):
        columns = [pa.array([arrow(r[f.name]) for r in rows], f.type) for f in schema]
        orc.write_table(pa.table(columns, schema=schema), f"{here}/{name}.orc", **options)
        expect(name.split("_")[0], rows)

    rows = [row(i) for i in range(35)]
    for codec in ["uncompressed", "zlib", "snappy", "lz4", "zstd"]:
        write(f"types_{codec}", rows, schema, compression=codec)
    write("types_v11", rows, schema, file_version="0.11", compression="zlib")
    write("types_dictionary", rows, schema, dictionary_key_size_threshold=1.0, compression="zlib")
    write("types_dictionary_v11", rows, schema, dictionary_key_size_threshold=1.0, file_version="0.11", compression="snappy")

    # Integers that bring out each kind of run.
    n = 240
    ints = [{
        "repeat": i // 7, "delta": 3 * i - 1000, "falling": -(i * i), "random": rnd.randrange(-2**63, 2**63), "width": rnd.randrange(-2**(i // 4), 2**(i // 4) + 1),
        "outliers": rnd.randrange(100) if i % 30 else rnd.randrange(2**40), "below": -(10**6) + rnd.randrange(200) + (0 if i % 37 else 2**33), "nulls": None if i % 3 else i,
        "late": None if i < 225 else i, "edge": rnd.choice([-2**63, 2**63 - 1, 0]), "s": "r%d" % (i % 11),
    } for i in range(n)]
    kinds = pa.schema([(k, pa.string() if k == "s" else pa.int64()) for k in ints[0]])
    write("ints", ints, kinds, compression="zlib")
    write("ints_v11", ints, kinds, compression="lz4", file_version="0.11")
    write("empty", [], schema)


def spark_session(zone):
    os.environ["TZ"] = zone
    time.tzset()
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession
    s = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.driver.bindAddress", "127.0.0.1")
         .config("spark.sql.session.timeZone", zone).config("spark.sql.shuffle.partitions", "1").config("spark.sql.warehouse.dir", "/tmp/orc-gen-warehouse")
         .config("spark.driver.extraJavaOptions", f"-Duser.timezone={zone} -XX:+UseSerialGC -XX:TieredStopAtLevel=1").getOrCreate())
    s.sparkContext.setLogLevel("ERROR")
    return s


def take(frame, name, **options):
    import glob, shutil, tempfile
    out = tempfile.mkdtemp()
    frame.coalesce(1).write.mode("overwrite").options(**options).orc(out)
    (part,) = glob.glob(f"{out}/part-*.orc")
    shutil.copyfile(part, f"{here}/{name}.orc")
    shutil.rmtree(out)


OLD = ["0001-01-01 00:00:00", "0004-02-29 11:22:33.5", "1000-03-01 00:00:00.000001", "1582-10-04 23:59:59.999999", "1582-10-15 00:00:00", "1700-06-01 12:00:00",
       "1883-11-18 12:03:57", "1899-12-31 23:59:59.123", "1900-01-01 00:00:01", "1900-12-31 23:59:59", "1941-03-16 05:00:00", "1942-01-31 23:00:00",
       "1969-12-31 23:59:58.25", "1969-12-31 23:59:59", "1969-12-31 23:59:58.000999", "1970-01-01 00:00:00", "1970-01-01 07:59:59.5", "1986-05-04 05:00:00",
       "1991-09-15 01:30:00", "2014-12-31 23:59:59.999999", "2015-01-01 00:00:00", "2024-02-29 10:11:12.1", "2024-07-01 00:00:00.12",
       "2037-12-31 00:00:00.123456", "2500-07-01 03:00:00", "9999-12-31 23:59:59.999999"]


def old(s, name):
    """Dates and timestamps of all ages; what is expected is what Spark reads back."""
    values = ", ".join(f"({i}, '{t}')" for i, t in enumerate(OLD))
    f = s.sql(f"select i, cast(t as date) d, cast(t as timestamp) ts, cast(t as timestamp_ntz) ntz from values {values} as v(i, t)")
    take(f, name)
    shown = s.read.orc(f"{here}/{name}.orc").orderBy("i").selectExpr(
        "i", "cast(d as string) d", "date_format(ts, \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'\") ts", "date_format(ntz, \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'\") ntz").collect()
    expect(name, [r.asDict() for r in shown])


def with_spark(zone):
    s = spark_session(zone)
    old(s, "spark_old_" + zone.split("/")[-1].lower())
    if zone != "UTC":
        return
    rnd = random.Random(9)
    n = 160
    rows = []
    for i in range(n):
        r = {
            "id": i, "patched": rnd.randrange(1000) if rnd.random() < 0.97 else rnd.randrange(2**50), "negative": -rnd.randrange(1000) - (0 if i % 60 else 2**40),
            "small": rnd.randrange(-100, 100), "word": rnd.choice(["red", "green", "blue", "grün"]), "text": "%x" % rnd.getrandbits(30),
            "price": D(rnd.randrange(-10**6, 10**6)).scaleb(-2), "wide": D(rnd.randrange(-10**30, 10**30)).scaleb(-18) if i % 4 else D(i // 4).scaleb(0),
            "at": dt.datetime(2020, 1, 1) + dt.timedelta(milliseconds=rnd.randrange(10**10)), "on": i % 3 == 0,
        }
        rows.append({k: None if k != "id" and rnd.random() < 0.05 else v for k, v in r.items()})
    columns = list(rows[0])
    f = s.createDataFrame([tuple(r[c] for c in columns) for r in rows],
                          "id long, patched long, negative long, small tinyint, word string, text string, price decimal(12,2), wide decimal(38,18), at timestamp, on boolean")
    take(f, "spark_values", **{"compression": "zlib", "orc.compress.size": "1024"})  # chunks that are smaller than runs
    expect("spark_values", [{k: v.quantize(D(1).scaleb(-18), context=decimal.Context(prec=40)) if k == "wide" and v is not None else v for k, v in r.items()} for r in rows])
    take(f.limit(1), "spark_lzo", compression="lzo")

    s.stop()


def bench(path):
    import pyarrow as pa
    from pyarrow import orc

    rnd = random.Random(3)
    n = 1_000_000
    at = dt.datetime(2024, 1, 1)
    t = pa.table({
        "id": pa.array(range(n), pa.int64()), "customer": pa.array([rnd.randrange(50_000) for _ in range(n)], pa.int32()),
        "value": pa.array([rnd.randrange(2**40) for _ in range(n)], pa.int64()), "status": pa.array([rnd.choice(["new", "paid", "sent"]) for _ in range(n)]),
        "name": pa.array(["customer %x" % rnd.getrandbits(40) for _ in range(n)]), "amount": pa.array([D(rnd.randrange(10**9)).scaleb(-2) for _ in range(n)], pa.decimal128(12, 2)),
        "at": pa.array([at + dt.timedelta(microseconds=rnd.randrange(10**13)) for _ in range(n)], pa.timestamp("us")),
    })
    for codec in ["zlib", "zstd", "snappy"]:
        name = f"{path}.{codec}"
        orc.write_table(t, name, compression=codec, dictionary_key_size_threshold=0.5)
        best = math.inf
        for _ in range(3):
            start = time.process_time()
            orc.read_table(name)
            best = min(best, time.process_time() - start)
        print(f"{name}: {os.path.getsize(name)} bytes, pyarrow {best:.2f} CPU seconds")


if __name__ == "__main__":
    {"pyarrow": with_pyarrow, "spark": with_spark, "bench": bench}[sys.argv[1]](*sys.argv[2:])

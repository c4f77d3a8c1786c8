"""Writes the sources that TestAdopt adopts, with pyarrow and DuckDB, and beside each what its rows are once they are in a table.

Needs pyarrow and duckdb; run it in this directory.
"""

import base64
import datetime as dt
import decimal
import gzip
import json
import random
import uuid

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 60
rnd = random.Random(6)
EPOCH = dt.datetime(1970, 1, 1)
UTC = dt.timezone.utc


def some(make, nulls=True):
    return [None if nulls and rnd.random() < 0.15 else make(i) for i in range(ROWS)]


def micros(n):
    return EPOCH + dt.timedelta(microseconds=n)


def plain(v, t):
    """v as the tests print values: whole numbers as text, times in micro- or milliseconds."""
    if v is None:
        return None
    if pa.types.is_struct(t):
        return {f.name: plain(v[f.name], f.type) for f in t}
    if pa.types.is_map(t):
        return [[plain(k, t.key_type), plain(x, t.item_type)] for k, x in v]
    if pa.types.is_list(t):
        return [plain(x, t.value_type) for x in v]
    if pa.types.is_boolean(t) or pa.types.is_string(t) or pa.types.is_dictionary(t):
        return v
    if pa.types.is_floating(t):
        return repr(v)
    if pa.types.is_integer(t):
        return str(v)
    if pa.types.is_binary(t) or pa.types.is_fixed_size_binary(t):
        return base64.b64encode(v).decode()
    if pa.types.is_decimal(t):
        return f"{v:f}"
    if pa.types.is_date(t):
        return str((v - EPOCH.date()).days)
    if pa.types.is_timestamp(t):
        if v.tzinfo:
            v = v.astimezone(UTC).replace(tzinfo=None)
        n = (v - EPOCH) // dt.timedelta(microseconds=1)
        return str(n // 1000 if t.unit == "ms" else n)
    if pa.types.is_time(t):
        n = ((v.hour * 60 + v.minute) * 60 + v.second) * 1_000_000 + v.microsecond
        return str(n // 1000 if t.unit == "ms" else n)
    raise TypeError(t)


def expect(name):
    table = pq.read_table(name + ".parquet")
    out = {}
    for f in table.schema:
        col = table.column(f.name)
        t = f.type
        if pa.types.is_timestamp(t) and t.unit == "ns":  # cut downwards
            t = pa.timestamp("us")
            col = pa.array([None if n is None else n // 1000 for n in col.cast(pa.int64()).to_pylist()], pa.int64()).cast(t)
        elif pa.types.is_time(t) and t.unit == "ns":
            t = pa.time64("us")
            col = pa.array([None if n is None else n // 1000 for n in col.cast(pa.int64()).to_pylist()], pa.int64()).cast(t)
        if f.name == "uid":
            out[f.name] = [v if v is None else str(v if isinstance(v, uuid.UUID) else uuid.UUID(bytes=v)) for v in col.to_pylist()]
            continue
        out[f.name] = [plain(v, t) for v in col.to_pylist()]
    text = json.dumps(out, separators=(",", ":"), ensure_ascii=False).encode()
    with open(name + ".json.gz", "wb") as f:
        f.write(gzip.compress(text, mtime=0))


def write(name, table, **kw):
    kw.setdefault("data_page_size", 128)
    kw.setdefault("write_batch_size", 16)
    kw.setdefault("row_group_size", 40)
    kw.setdefault("store_schema", False)
    pq.write_table(table, name + ".parquet", **kw)
    expect(name)


def word(i):
    return rnd.choice(["", "a", "Straße", "Żółw", "emoji 😀", "ordinary text"]) + str(rnd.randrange(40))


def keys():
    return pa.array([str(uuid.UUID(int=rnd.getrandbits(128))) for _ in range(ROWS)])


def flat(nulls=True, unsigned=True):
    D = decimal.Decimal
    cols = {
        "id": keys(),
        "b": pa.array(some(lambda i: rnd.random() < 0.5, nulls)),
        "i8": pa.array(some(lambda i: rnd.randrange(-128, 128), nulls), pa.int8()),
        "i16": pa.array(some(lambda i: rnd.randrange(-(1 << 15), 1 << 15), nulls), pa.int16()),
        "i32": pa.array(some(lambda i: rnd.randrange(-(1 << 31), 1 << 31), nulls), pa.int32()),
        "i64": pa.array(some(lambda i: rnd.randrange(-(1 << 63), 1 << 63), nulls), pa.int64()),
        "few": pa.array(some(lambda i: i % 7, nulls), pa.int64()),
        "f": pa.array(some(lambda i: rnd.randrange(-999, 999) / 8, nulls), pa.float32()),
        "d": pa.array(some(lambda i: rnd.gauss(0, 1e6), nulls), pa.float64()),
        "s": pa.array(some(word, nulls)),
        "bin": pa.array(some(lambda i: rnd.randbytes(i % 9), nulls), pa.binary()),
        "day": pa.array(some(lambda i: dt.date(1960, 1, 1) + dt.timedelta(days=rnd.randrange(40000)), nulls)),
        "ms": pa.array(some(lambda i: micros(rnd.randrange(-(10**12), 10**12) * 1000), nulls), pa.timestamp("ms", "UTC")),
        "us": pa.array(some(lambda i: micros(rnd.randrange(-(10**15), 10**15)), nulls), pa.timestamp("us", "UTC")),
        "local": pa.array(some(lambda i: micros(rnd.randrange(-(10**15), 10**15)), nulls), pa.timestamp("us")),
        "ns": pa.array(some(lambda i: rnd.randrange(-(10**18), 10**18), nulls), pa.timestamp("ns", "UTC")),
        "t32": pa.array(some(lambda i: rnd.randrange(86_400_000), nulls), pa.time32("ms")),
        "t64": pa.array(some(lambda i: rnd.randrange(86_400_000_000), nulls), pa.time64("us")),
        "tns": pa.array(some(lambda i: rnd.randrange(86_400_000_000_000), nulls), pa.time64("ns")),
        "dec9": pa.array(some(lambda i: D(rnd.randrange(-(10**9) + 1, 10**9)).scaleb(-2), nulls), pa.decimal128(9, 2)),
        "dec12": pa.array(some(lambda i: D(rnd.randrange(-(10**12) + 1, 10**12)).scaleb(-2), nulls), pa.decimal128(12, 2)),
        "dec38": pa.array(some(lambda i: D(rnd.randrange(-(10**30), 10**30)).scaleb(-10), nulls), pa.decimal128(38, 10)),
        "nothing": pa.array([None] * ROWS, pa.int64()),
    }
    if unsigned:
        cols["u8"] = pa.array(some(lambda i: rnd.randrange(256), nulls), pa.uint8())
        cols["u16"] = pa.array(some(lambda i: rnd.randrange(1 << 16), nulls), pa.uint16())
        cols["u32"] = pa.array(some(lambda i: rnd.randrange(1 << 32), nulls), pa.uint32())
        cols["u64"] = pa.array(some(lambda i: rnd.randrange(1 << 63), nulls), pa.uint64())
    t = pa.table(cols)
    if not nulls:
        t = t.drop(["nothing"])
        t = t.cast(pa.schema([f.with_nullable(False) for f in t.schema]))
    return t


def nested():
    D = decimal.Decimal
    item = lambda i: None if rnd.random() < 0.2 else rnd.randrange(1000)
    some_of = lambda make: (lambda i: [make(i) for _ in range(rnd.randrange(4))])
    st = lambda i: {"a": item(i), "B": word(i), "in": None if rnd.random() < 0.3 else {"x": item(i), "at": micros(rnd.randrange(10**15))}}
    t_in = pa.struct([("x", pa.int32()), ("at", pa.timestamp("us", "UTC"))])
    t_st = pa.struct([("a", pa.int64()), ("B", pa.string()), ("in", t_in)])
    return pa.table({
        "id": keys(),
        "l": pa.array(some(some_of(item)), pa.list_(pa.int64())),
        "ls": pa.array(some(some_of(word)), pa.list_(pa.field("item", pa.string(), nullable=False))),
        "ll": pa.array(some(some_of(lambda i: None if rnd.random() < 0.2 else [item(i) for _ in range(rnd.randrange(3))])), pa.list_(pa.list_(pa.int32()))),
        "st": pa.array(some(st), t_st),
        "lst": pa.array(some(some_of(lambda i: None if rnd.random() < 0.2 else st(i))), pa.list_(t_st)),
        "m": pa.array(some(lambda i: [(f"k{k}", item(i)) for k in range(rnd.randrange(4))]), pa.map_(pa.string(), pa.int64())),
        "md": pa.array(some(lambda i: [(k, D(rnd.randrange(10**11)).scaleb(-2)) for k in range(rnd.randrange(3))]), pa.map_(pa.int32(), pa.decimal128(12, 2))),
        "ml": pa.array(some(lambda i: [(f"k{k}", [item(i) for _ in range(rnd.randrange(3))]) for k in range(rnd.randrange(3))]), pa.map_(pa.string(), pa.list_(pa.int64()))),
    })


write("pyarrow_v1_snappy", flat(), compression="snappy", write_page_index=True, store_schema=True)
fewer = ["few", "local", "ns", "t32", "t64", "tns", "nothing", "i8", "dec9"]
write("pyarrow_v1_plain_gzip", flat().drop(fewer), compression="gzip", use_dictionary=False)
write("pyarrow_v2_zstd", flat(), compression="zstd", data_page_version="2.0", write_page_index=True)
write("pyarrow_v2_plain_none", flat(unsigned=False).drop(fewer), compression="none", data_page_version="2.0", use_dictionary=False)
write("pyarrow_required", flat(nulls=False), compression="snappy", write_page_index=True)
write("pyarrow_no_statistics", flat().select(["id", "b", "i64", "d", "s", "us", "dec12"]), compression="snappy", write_statistics=False)
write("pyarrow_int_decimals", flat().select(["id", "dec9", "dec12", "dec38"]), store_decimal_as_integer=True)
write("pyarrow_lz4_brotli", flat().select(["id", "i32", "s", "d"]), compression={"id": "lz4", "i32": "lz4", "s": "brotli", "d": "brotli"})
write("pyarrow_int96", flat().select(["id", "us", "local", "ns"]), use_deprecated_int96_timestamps=True)
write("pyarrow_nested", nested(), compression="snappy", write_page_index=True)
write("pyarrow_nested_v2_item", nested(), compression="zstd", data_page_version="2.0", use_compliant_nested_type=False)
write("pyarrow_encodings", flat().select(["id", "i32", "i64", "f", "d", "s", "bin"]), use_dictionary=False, data_page_version="2.0",
      column_encoding={"id": "DELTA_BYTE_ARRAY", "i32": "DELTA_BINARY_PACKED", "i64": "BYTE_STREAM_SPLIT", "f": "BYTE_STREAM_SPLIT",
                       "d": "BYTE_STREAM_SPLIT", "s": "DELTA_BYTE_ARRAY", "bin": "DELTA_LENGTH_BYTE_ARRAY"})

c = duckdb.connect()
c.execute("SET TimeZone='UTC'; SELECT setseed(0.5)")
c.execute(f"""CREATE TABLE t AS SELECT uuid()::VARCHAR AS id, i % 3 = 0 AS b, (i % 256 - 128)::TINYINT AS i8, i::SMALLINT AS i16, (i * 1e6)::INTEGER AS i32,
  (random() * 1e18)::BIGINT AS i64, (i % 256)::UTINYINT AS u8, i::USMALLINT AS u16, (i * 14e6)::UINTEGER AS u32, (random() * 1e18)::UBIGINT AS u64,
  random()::FLOAT AS f, CASE WHEN i % 10 > 0 THEN random() END AS d, CASE WHEN i % 5 > 0 THEN 'word ' || i % 20 END AS s, 'x' || i AS s2, encode('b' || i) AS bin,
  (i / 7)::DECIMAL(4, 1) AS dec4, (i * 1000 / 7)::DECIMAL(9, 2) AS dec9, CASE WHEN i % 4 > 0 THEN (i * 1e6 / 7)::DECIMAL(12, 2) END AS dec12,
  (-i * 1e9 / 7)::DECIMAL(18, 4) AS dec18, (i * 1e12 / 7)::DECIMAL(20, 2) AS dec20, (-i * 1e15 / 7)::DECIMAL(38, 10) AS dec38,
  DATE '1965-03-01' + i::INTEGER * 77 AS day, TIMESTAMP '1960-01-01' + INTERVAL (i * 9000001) MILLISECOND AS us,
  (TIMESTAMP '1960-01-01' + INTERVAL (i * 9000001) MILLISECOND)::TIMESTAMPTZ AS utc, (TIMESTAMP '1980-01-01' + INTERVAL (i * 9000001) MILLISECOND)::TIMESTAMP_NS AS ns,
  TIME '00:00:01' + INTERVAL (i) SECOND AS t64, uuid() AS uid, (CASE i % 3 WHEN 0 THEN 'red' WHEN 1 THEN 'green' ELSE 'blue' END)::ENUM('red', 'green', 'blue') AS color,
  CASE WHEN i % 6 > 0 THEN range(i % 4) END AS l, CASE WHEN i % 6 > 1 THEN {{'a': i, 'b': 'x' || i % 9, 'd': (i / 3)::DECIMAL(12, 2)}} END AS st,
  CASE WHEN i % 6 > 2 THEN MAP {{'k' || i % 3: i}} END AS m, CASE WHEN i % 7 > 0 THEN [{{'p': (i / 3)::DECIMAL(10, 2), 'q': [i, NULL]}}, NULL] END AS lst
  FROM range({ROWS}) r(i)""")
for name, options in {
    "duckdb_v1_snappy": "COMPRESSION snappy, ROW_GROUP_SIZE 2048",
    "duckdb_v2_zstd": "COMPRESSION zstd, PARQUET_VERSION v2, ROW_GROUP_SIZE 2048",
}.items():
    c.execute(f"COPY t TO '{name}.parquet' (FORMAT parquet, {options})")
    expect(name)

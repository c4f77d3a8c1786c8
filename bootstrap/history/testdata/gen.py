"""Writes the files that the tests of bootstrap/history read: gen.py, with pyarrow.

parquet/     a table in Hive layout as several engines write it: INT96, decimals of each width, lists, names in other case
orc/         the same rows, and once with the column names of old Hive
"""
import datetime as dt, decimal, os
import pyarrow as pa, pyarrow.parquet as pq
from pyarrow import orc

here = os.path.dirname(os.path.abspath(__file__))
D = decimal.Decimal


def rows(first, n, stamp=pa.timestamp("us"), idtype=pa.int64(), deep=pa.int32()):
    ids = range(first, first + n)
    at = [None if i % 5 == 0 else dt.datetime(2024, 1, 1, 10, 30) + dt.timedelta(hours=i, microseconds=i) for i in ids]
    return pa.table({
        "ID": pa.array(list(ids), idtype),
        "name": pa.array([None if i % 4 == 0 else f"n{i}" for i in ids]),
        "at": pa.array(at, stamp),
        "day": pa.array([dt.date(2024, 1, 1) + dt.timedelta(days=i) for i in ids], pa.date32()),
        "small": pa.array([D(i).scaleb(-2) for i in ids], pa.decimal128(7, 2)),
        "large": pa.array([D(-i).scaleb(-3) for i in ids], pa.decimal128(30, 3)),
        "tags": pa.array([None if i % 3 == 0 else ["a", None, str(i)][: i % 4] for i in ids], pa.list_(pa.string())),
        "lines": pa.array([[{"Sku": f"s{i}", "n": i}] for i in ids], pa.list_(pa.struct([("Sku", pa.string()), ("n", deep)]))),
        "props": pa.array([[("k", i)] for i in ids], pa.map_(pa.string(), pa.int64())),
        "price": pa.array([i / 4 for i in ids], pa.float32()),
    })


def put(path, table, **o):
    path = f"{here}/{path}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pq.write_table(table, path, **o)


def put_orc(path, table, **o):
    path = f"{here}/{path}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    orc.write_table(table, path, **o)


put("parquet/dt=2024-01-01/at_hour=10%3A30/000000_0", rows(0, 40), use_deprecated_int96_timestamps=True, row_group_size=25, compression="snappy")
put("parquet/dt=2024-01-01/at_hour=10%3A30/part-1.parquet", rows(40, 7), store_decimal_as_integer=True, compression="zstd", use_dictionary=False)
put("parquet/dt=__HIVE_DEFAULT_PARTITION__/at_hour=ü%2F%3D/000000_0", rows(47, 3, pa.timestamp("ns"), pa.int32(), pa.int16()),
    version="2.6", use_compliant_nested_type=False, data_page_version="2.0")
put_orc("orc/000000_0", rows(0, 30), compression="zlib", stripe_size=1)
t = rows(30, 5, idtype=pa.int32())
put_orc("orc/000001_0", t.rename_columns([f"_col{i}" for i in range(t.num_columns)]), compression="uncompressed")

#!/usr/bin/env python3
"""The Hive history that lakectl demo loads: orders as a warehouse kept them, older than the change events or of the same time. Needs pyarrow."""
import os
import pyarrow as pa, pyarrow.parquet as pq

here = os.path.dirname(os.path.abspath(__file__))
columns = pa.schema([("order_id", pa.int32()), ("line", pa.int32()), ("customer_id", pa.int64()), ("amount", pa.string()), ("status", pa.string())])
rows = {
    "2025-12-30": [(900, 0, 1, "12.5000", "SHIPPED"), (900, 1, 1, "3.2500", "SHIPPED")],                     # in no event
    "2026-01-02": [(901, 0, 4, "99.0000", "SHIPPED"), (2, 1, 5, "39.9600", "NEW"), (500, 2, 1, "2.0000", "TX")],  # the stream deletes 500/2
    "2026-01-03": [(1, 0, 1, "0.0000", "NEW"), (3, 0, 7, "59.9400", "S40"), (3, 1, 8, "69.9300", "S40"), (4, 0, 10, "89.9100", "NEW")],  # the stream has newer ones
}
for dt, values in rows.items():
    os.makedirs(f"{here}/dt={dt}", exist_ok=True)
    pq.write_table(pa.table(dict(zip(columns.names, map(list, zip(*values)))), schema=columns), f"{here}/dt={dt}/000000_0", compression="snappy")

#!/usr/bin/env python3
"""Expected states of a size, computed by DuckDB from the files alone (latest event of a key wins, op d drops it)."""
import argparse, json, os, duckdb
from common import DATA, hash_sql, state_of, COLS
ap = argparse.ArgumentParser(); ap.add_argument("--size", required=True); ap.add_argument("--data", default=DATA); a = ap.parse_args()
root = f"{a.data}/{a.size}"; c = duckdb.connect()
hist = f"SELECT {','.join(COLS)}, dt::VARCHAR AS dt, 'c' AS op FROM read_parquet('{root}/history/*/*.parquet', hive_partitioning=true, hive_types_autocast=false)"
def at(files):
    src = hist if not files else hist + f" UNION ALL BY NAME SELECT {','.join(COLS)}, dt, op FROM read_parquet({files!r})"
    return state_of(c, f"(SELECT * FROM ({src}) QUALIFY row_number() OVER (PARTITION BY order_id ORDER BY updated_at DESC)=1) WHERE op<>'d'")
bs = [f"{root}/batches/{f}" for f in sorted(os.listdir(f"{root}/batches")) if f.endswith(".parquet")]
ss = [f"{root}/small/{f}" for f in sorted(os.listdir(f"{root}/small")) if f.endswith(".parquet")]
out = {"bulk": at([]), "b05": at(bs[:5]), "upsert": at(bs), "b03": at(bs[:3]), "small": at(bs + ss)}
# a small run straight after the first 3 batches (slow systems)
json.dump(out, open(f"{root}/expected.json", "w"), indent=1)
print(json.dumps({k: (v["rows"], v["hash"]) for k, v in out.items()}))

#!/bin/bash
# make bench: lakectl beside DuckDB, the same work on the same machine in the same run. SIZE=S|M, PEERS=1 adds delta-rs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export LAKECTL_BENCH_DIR=${LAKECTL_BENCH_DIR:-$HOME/.cache/lakectl-bench} PYTHONDONTWRITEBYTECODE=1
size=${SIZE:-M}
SIZES=$size "$here/setup.sh"
tmp=$(mktemp -d); trap 'rm -r "$tmp"' EXIT
(cd "$here/.." && CGO_ENABLED=0 go build -o "$tmp/lakectl" ./cmd/lakectl)
export BENCH_RESULTS=$tmp/results.jsonl
py=$LAKECTL_BENCH_DIR/venv/bin/python
work="--size $size --batches ${BATCHES:-3} --small ${SMALL:-5}"
"$py" "$here/run_duckdb.py" $work --only copy,cow,cowfile,json
"$py" "$here/run_lakectl.py" --binary "$tmp/lakectl" $work --index bucket
"$py" "$here/run_lakectl.py" --binary "$tmp/lakectl" $work --index bloom
[ -z "${PEERS:-}" ] || "$py" "$here/run_delta.py" $work
cp "$tmp/results.jsonl" "$LAKECTL_BENCH_DIR/results.jsonl"
"$py" "$here/report.py" "$tmp/results.jsonl"
if grep -q '"ok": false' "$tmp/results.jsonl"; then echo "a state was wrong" >&2; exit 1; fi

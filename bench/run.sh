#!/bin/bash
# make bench, make bench-mor, make bench-bootstrap: lakectl beside its peers, the same work on the same machine in the same run.
# run.sh [cow|mor|bootstrap], SIZE=S|M. cow: beside DuckDB; PEERS=1 adds delta-rs. mor: without and with a metadata table, beside DuckDB
# and Paimon with its native writer. bootstrap: beside DuckDB's COPY, TIMES=n times in turns, of a history of COPIES=n times the rows.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export LAKECTL_BENCH_DIR=${LAKECTL_BENCH_DIR:-$HOME/.cache/lakectl-bench} PYTHONDONTWRITEBYTECODE=1
size=${SIZE:-M} type=${1:-cow}
[ "$type" != mor ] || PEERS=1
PEERS=${PEERS:-} SIZES=$size "$here/setup.sh"
tmp=$(mktemp -d); trap 'rm -r "$tmp"' EXIT
(cd "$here/.." && CGO_ENABLED=0 go build -o "$tmp/lakectl" ./cmd/lakectl)
export BENCH_RESULTS=$tmp/results.jsonl
py=$LAKECTL_BENCH_DIR/venv/bin/python
case $type in
bootstrap)
  "$py" "$here/run_bootstrap.py" --binary "$tmp/lakectl" --size $size --times ${TIMES:-5} --copies ${COPIES:-1} --only "${ONLY:-duckdb,adopt,sort,orc}"
  exit ;;
cow)
  work="--size $size --batches ${BATCHES:-3} --small ${SMALL:-5}" kept=results.jsonl report=report.py
  "$py" "$here/run_duckdb.py" $work --only copy,cow,cowfile,json
  "$py" "$here/run_lakectl.py" --binary "$tmp/lakectl" $work --index record
  "$py" "$here/run_lakectl.py" --binary "$tmp/lakectl" $work --index bucket
  "$py" "$here/run_lakectl.py" --binary "$tmp/lakectl" $work --index bloom
  [ -z "${PEERS:-}" ] || "$py" "$here/run_delta.py" $work ;;
mor)
  work="--size $size --batches ${BATCHES:-10} --small ${SMALL:-10}" kept=results-mor.jsonl report=report_mor.py
  "$py" "$here/run_lakectl.py" --binary "$tmp/lakectl" $work --type mor --index record
  "$py" "$here/run_lakectl.py" --binary "$tmp/lakectl" $work --type mor --index bucket
  "$py" "$here/run_lakectl.py" --binary "$tmp/lakectl" $work --type mor --index bucket --metadata-table
  "$py" "$here/run_paimon.py" $work --native
  "$py" "$here/run_duckdb.py" $work --only mor --buckets 1 ;;
*) echo "run.sh [cow|mor|bootstrap], not $type" >&2; exit 2 ;;
esac
cp "$tmp/results.jsonl" "$LAKECTL_BENCH_DIR/$kept"
"$py" "$here/$report" "$tmp/results.jsonl"
if grep -q '"ok": false' "$tmp/results.jsonl"; then echo "a state was wrong" >&2; exit 1; fi

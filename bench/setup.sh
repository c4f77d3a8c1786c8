#!/bin/bash
# The Python environment, the data (sizes S = 200,000 and M = 2,000,000 rows) and the expected states, under
# ${LAKECTL_BENCH_DIR:-~/.cache/lakectl-bench}. PEERS=1 also installs what the runners other than run_duckdb.py need.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export LAKECTL_BENCH_DIR=${LAKECTL_BENCH_DIR:-$HOME/.cache/lakectl-bench}
dir=$LAKECTL_BENCH_DIR
mkdir -p "$dir"
exec 9>"$dir/.lock"; flock 9
py="$dir/venv/bin/python"
pip() { "$dir/venv/bin/pip" install -q "$@"; }
[ -f "$dir/venv.stamp" ] || { python3 -m venv "$dir/venv"; pip duckdb==2.0.0 pytz==2026.6 pyarrow==26.0.1; touch "$dir/venv.stamp"; }
[ -z "${PEERS:-}" ] || [ -f "$dir/peers.stamp" ] || { pip deltalake==1.6.6 pypaimon==2.1.0 pypaimon-rust==0.4.0; touch "$dir/peers.stamp"; }
for s in ${SIZES:-S M}; do
  [ -f "$dir/data/$s/expected.json" ] || { "$py" "$here/gen.py" --size $s; "$py" "$here/expected.py" --size $s; }
done

#!/bin/bash
# The interop suite: a real KRaft broker as source, local disk and S3 (versitygw) as stores, and after every step of
# a table's life Spark with Hudi 1.2 and 0.15, Trino, hudi-rs, DuckDB and lakectl read must return exactly the
# expected rows; Spark writes into our tables and lakectl goes on; kill -9 at random moments. Metastores 3.1 and 4.0 hold
# history that Spark wrote, which lakectl bootstraps while producers run, and tables that engines find by name.
# run.sh [--only PART,...] [--rows N] [--kills N] [--seed N] [--keep]; the parts: --help
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${LAKECTL_INTEROP_DIR:-$HOME/.cache/lakectl-interop}
"$here/setup.sh"
bin=${LAKECTL:-}
if [ -z "$bin" ]; then
  bin=$(mktemp -d)/lakectl
  trap 'rm -r "$(dirname "$bin")"' EXIT
  (cd "$here/../.." && CGO_ENABLED=0 go build -o "$bin" ./cmd/lakectl)
fi
PYTHONDONTWRITEBYTECODE=1 "$dir/venv/bin/python" "$here/suite.py" "$bin" "$@"

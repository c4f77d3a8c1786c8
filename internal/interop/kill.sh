#!/bin/bash
# kill.sh [N] [SEED]: kill -9 at N moments of an ingest from a real broker into S3, at random or as the local index is loaded
# or copied, restarts, and the proof that exactly the produced rows are there and no stray file.
set -euo pipefail
exec "$(dirname "$0")/run.sh" --only kills --kills "${1:-50}" ${2:+--seed "$2"}

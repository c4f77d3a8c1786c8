#!/bin/bash
# kill.sh [N] [SEED]: kill -9 at N random moments of an ingest from a real broker into S3, restarts, and the proof
# that exactly the produced rows are there and no stray file.
set -euo pipefail
exec "$(dirname "$0")/run.sh" --only kills --kills "${1:-50}" ${2:+--seed "$2"}

#!/bin/bash
# A real Kubernetes control plane on this machine, for tests and for trying things: --help tells.
#   hack/control-plane.sh build|up|down|status [--dir DIR]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
[ -x "$root/.venv/bin/python" ] || make -C "$root" .venv/.installed >&2
PYTHONPATH=$root/tests exec "$root/.venv/bin/python" -m blixt_control_plane "$@"

#!/usr/bin/env bash
# Generate api/'s protobuf modules and type stubs, which are committed.
#   hack/proto.sh           write them
#   hack/proto.sh --check   fail if they are stale
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-.venv/bin/python}

generate() { # folder
    "$PYTHON" -m grpc_tools.protoc -I api --python_out="$1" --pyi_out="$1" api/blixt_api/*.proto
}

# protoc's own version is written into what it makes, and is no difference.
content() { # file
    sed -e '/^# Protobuf Python Version/d' -e '/^    [0-9]*,$/d' "$1"
}

case ${1-} in
"")
    generate api
    ;;
--check)
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    generate "$fresh"
    stale=0
    for file in "$fresh"/blixt_api/*; do
        committed=api/blixt_api/${file##*/}
        if [[ ! -e $committed ]] || ! cmp -s <(content "$file") <(content "$committed"); then
            echo "$committed is stale: run hack/proto.sh" >&2
            stale=1
        fi
    done
    for committed in api/blixt_api/*_pb2.py api/blixt_api/*_pb2.pyi; do
        if [[ ! -e $fresh/blixt_api/${committed##*/} ]]; then
            echo "$committed has no .proto file any more: remove it" >&2
            stale=1
        fi
    done
    exit "$stale"
    ;;
*)
    echo "usage: hack/proto.sh [--check]" >&2
    exit 2
    ;;
esac

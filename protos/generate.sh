#!/usr/bin/env bash
# Generate the Python code of protos/quantfleet_protos/v1 into DIR (default: in place). It is committed; a test compares.
set -euo pipefail
cd "$(dirname "$0")"
out=${1:-.}
python=$(cd .. && realpath -s "${PYTHON:-.venv/bin/python}")
PATH="$(dirname "$python"):$PATH"
services=(quantfleet_protos/v1/{artifacts,control,enrolment,fleet}.proto)
"$python" -m grpc_tools.protoc -I. --python_out="$out" --mypy_out=quiet:"$out" quantfleet_protos/v1/*.proto
"$python" -m grpc_tools.protoc -I. --grpc_python_out="$out" --mypy_grpc_out=quiet:"$out" "${services[@]}"

#!/bin/sh
# Checks the TensorRT engine's types against the signatures of the real Python bindings, of the last version with
# calibrators and the newest one. Not a test of TensorRT: nothing of it is called, and no GPU is needed.
#
# The bindings' wheels hold no stubs, but their extension module knows its own signatures; it loads once the nine C
# functions that it links against exist. Here they exist and abort, which is enough to read signatures and for nothing
# else. usage: check.sh PYTHON MYPY WORK_FOLDER
set -eu
python=$1 mypy=$2 work=$3
mkdir -p "$work"
test -x "$work/venv/bin/python" || "$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check pybind11-stubgen==3.0.0 typing_extensions numpy

cat > "$work/link.c" <<'C'
#include <stdlib.h>
#define ABORTS(name) void *name(void) { abort(); }
ABORTS(createInferBuilder_INTERNAL)
ABORTS(createInferRefitter_INTERNAL)
ABORTS(createInferRuntime_INTERNAL)
ABORTS(createNvOnnxParser_INTERNAL)
ABORTS(createNvOnnxParserRefitter_INTERNAL)
ABORTS(getBuilderPluginRegistry)
ABORTS(getNvOnnxParserVersion)
ABORTS(getPluginRegistry)
ABORTS(initLibNvInferPlugins)
C
echo > "$work/empty.c"

# stubs VERSION: writes WORK_FOLDER/VERSION/stubs/tensorrt/__init__.pyi
stubs() {
    version=$1 major=${1%%.*} here=$work/$1
    test -f "$here/stubs/tensorrt/__init__.pyi" && return
    rm -rf "$here"
    mkdir -p "$here/link" "$here/stubs/tensorrt"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --target "$here/wheel" "tensorrt-cu12-bindings==$version"
    cc -shared -fPIC -o "$here/link/libnvinfer.so.$major" "$work/link.c"
    for name in nvonnxparser nvinfer_plugin; do
        cc -shared -fPIC -o "$here/link/lib$name.so.$major" "$work/empty.c"
    done
    PYTHONPATH=$here/wheel LD_LIBRARY_PATH=$here/link "$work/venv/bin/python" -m pybind11_stubgen \
        --enum-class-locations ExecutionContextAllocationStrategy:tensorrt_bindings.tensorrt \
        --enum-class-locations DataType:tensorrt_bindings.tensorrt \
        --enum-class-locations EngineStat:tensorrt_bindings.tensorrt \
        --enum-class-locations PluginFieldType:tensorrt_bindings.tensorrt \
        --enum-class-locations Severity:tensorrt_bindings.tensorrt.ILogger \
        --output-dir "$here/read" tensorrt_bindings.tensorrt 2> "$here/stubgen.log"
    # Two signatures of the bindings are no Python: a parameter named `in`, and one without a default behind others. Their
    # `bool` is a data type, and would stand for Python's in every signature. C++ types that have no Python name are `...`.
    {
        echo '# mypy: ignore-errors'
        sed -E -e 's/\bin: collections/in_: collections/' \
            -e 's/(power: Weights = None, channel_axis: typing.SupportsInt)\)/\1 = ...)/' \
            -e '/^bool: /d' \
            "$here/read/tensorrt_bindings/tensorrt.pyi"
        echo '__version__: str'
    } > "$here/stubs/tensorrt/__init__.pyi"
}

# check VERSION FILE…: the files against that version's signatures, and nothing about the ignores that other runs need.
check() {
    version=$1
    shift
    stubs "$version"
    echo "TensorRT $version:"
    MYPYPATH=protos:domain:wire:coordinator:worker:client:$work/$version/stubs "$mypy" \
        --cache-dir "$work/$version/mypy" --no-warn-unused-ignores --follow-imports silent "$@"
}

engine=worker/quantfleet_worker/engines/trt
files=$(ls "$engine"/*.py)
# shellcheck disable=SC2086 # a list of files, none with a space in its name
check 10.16.1.11 $files
# The calibrators of version 10 are in a file of their own, and nothing else of it is gone in 11.
files=$(ls "$engine"/*.py | grep -v calibration.py)
# shellcheck disable=SC2086
check 11.4.0.106 $files

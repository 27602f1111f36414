"""Runs Paddle Lite's `opt` once, under an interpreter that has paddlelite. Not part of the package: it is run by path.

Python 3.8 and its standard library are enough, for paddlelite's wheels are for old Pythons. Its one argument is JSON:
`program`, `parameters` and `out` are paths (opt adds `.nb`), `target` is arm or x86, `weight_bits` is 8 or 16 where
weights are to be stored as integers; an empty object converts nothing. It answers with one line of JSON on its standard
output: `version`, or `missing` with why paddlelite cannot be imported.
"""

import importlib
import json
import os
import sys
from typing import Any, Dict  # noqa: UP035 - likewise


def main(request: str) -> None:
    """Convert, and give the answer."""
    # opt prints what it does on standard output: that becomes standard error, and the answer keeps the pipe.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = json.loads(request)
    try:
        lite = importlib.import_module("paddlelite.lite")
    except ImportError as error:
        answer.write(json.dumps({"missing": str(error)}) + "\n")
        return
    opt = lite.Opt()
    if asked:
        convert(opt, asked)
    answer.write(json.dumps({"version": opt.version()}) + "\n")
    answer.flush()


def convert(opt: Any, asked: Dict[str, Any]) -> None:  # noqa: UP006 - Python 3.8 knows no other
    """Have opt write the file."""
    opt.set_model_file(asked["program"])
    opt.set_param_file(asked["parameters"])
    opt.set_optimize_out(asked["out"])
    opt.set_valid_places(asked["target"])
    if asked["weight_bits"]:
        opt.set_quant_model(True)
        opt.set_quant_type("QUANT_INT{}".format(asked["weight_bits"]))
    opt.run()


if __name__ == "__main__":
    main(sys.argv[1])

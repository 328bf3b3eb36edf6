"""Run the benchmarks named on the command line, or all."""

import importlib
import pkgutil
import sys

import bench

names = sys.argv[1:] or sorted(
    module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_")
)
for name in names:
    print(f"== {name}", flush=True)
    importlib.import_module(f"bench.{name}").main()

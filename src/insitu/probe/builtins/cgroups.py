"""Control groups: cgroup, cgroupid and cgroup_path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand, variable
from insitu.probe.codegen.helpers import Helper
from insitu.probe.types import UINT64, NamedNumber, Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]


def _check_cgroupid(checker: Checker, call: ast.Call) -> Type:
    path = checker.text(call.arguments[0], "the cgroup's path")
    if not Path(path).is_dir():
        raise checker.error(f"{path} is not a directory", call.arguments[0])
    return UINT64


def _cgroupid(low: Lowering, call: ast.Call) -> str:
    # The number of a cgroup is that of its directory's inode (fs/kernfs: kernfs_id_ino).
    return str(Path(low.text(call.arguments[0])).stat().st_ino)


def _check_path(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), "cgroup_path()")
    pattern = checker.text(call.arguments[1], "the hierarchies of cgroup_path()") if len(call.arguments) > 1 else "*"
    return NamedNumber(f"cgroup_path:{pattern}")


BUILTINS: tuple[Builtin, ...] = (
    *variable(
        "cgroup", lambda checker, node: UINT64, value=lambda low, node: low.emit.call(Helper.GET_CURRENT_CGROUP_ID)
    ),
    *function("cgroupid", (1, 1), _check_cgroupid, value=_cgroupid),
    *function("cgroup_path", (1, 2), _check_path, value=lambda low, call: low.value(operand(call))),
)

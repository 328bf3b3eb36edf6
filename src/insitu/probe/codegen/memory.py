"""Lowers what is in memory: arguments of the probe, members, array elements, variables, builtin variables."""

from __future__ import annotations

from collections.abc import Mapping

from insitu.kernel.bpf_abi import AttachType
from insitu.kernel.bpf_helpers import knows_helper
from insitu.probe import ast
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.integers import low_bytes, scalar_layout, signed64
from insitu.probe.codegen.lowering import Local, Lowering, Place, PlaceOf, Remote, Store, Value
from insitu.probe.passes.check.dialect import named_constant
from insitu.probe.passes.check.members import is_args
from insitu.probe.providers.arguments import Argument, ContextField, ContextSlot, DataLocation, Operand, UserStack
from insitu.probe.types import Array, Field, Pointer, Space, Tuple, Type, is_scalar, memory_size, stored_size

__all__ = ["PLACES", "STORES", "VALUES", "argument_value", "element_index", "load_field", "tuple_element"]


# The probe's arguments


def _argument(low: Lowering, name: str) -> Argument:
    return next(a for a in low.clause.arguments or () if a.name == name)


def argument_value(low: Lowering, argument: Argument, kind: Type) -> str:
    """The i64 of a scalar argument."""
    emit = low.emit
    load = argument.load
    if argument.name in low.walked:
        return low.walked[argument.name]
    if isinstance(load, ContextField):
        return low.load_context(load.offset, load.size, signed=load.signed)
    if isinstance(load, ContextSlot):
        return low_bytes(low, low.load_context(8 * load.index, 8), kind)
    if isinstance(load, DataLocation):
        return _data_location(low, load)
    if isinstance(load, UserStack):
        place = Remote(emit.op("add", low.register("sp"), str(load.offset)), low.stack_space())
        return low.read_scalar(place, 0, *scalar_layout(kind))
    return _operand(low, load)


def _data_location(low: Lowering, load: DataLocation) -> str:
    """The address of a string after a tracepoint record."""
    emit = low.emit
    word = low.load_context(load.offset, 4)
    offset = emit.op("and", word, "65535")
    if load.relative:
        offset = emit.op("add", offset, str(load.offset + 4))
    return emit.op("add", emit.address(low.context), offset)


def _operand(low: Lowering, load: Operand) -> str:
    emit = low.emit
    if load.constant is not None:
        return signed64(load.constant)
    if not load.memory:
        assert load.register is not None
        value = low.load_context(load.register, 8)
        if load.shift:
            value = emit.op("lshr", value, str(load.shift))
    else:
        address = str(load.displacement)
        if load.register is not None:
            address = emit.op("add", low.load_context(load.register, 8), address)
        if load.index is not None:
            scaled = emit.op("mul", low.load_context(load.index, 8), str(load.scale))
            address = emit.op("add", address, scaled)
        return low.read_scalar(Remote(address, Space.USER), 0, load.size, load.signed)
    if load.size == 8:
        return value
    cut = emit.value(f"trunc i64 {value} to i{8 * load.size}")
    return emit.value(f"{'sext' if load.signed else 'zext'} i{8 * load.size} {cut} to i64")


def _argument_place(low: Lowering, argument: Argument) -> Place:
    """The location of an argument that is not a scalar. Contexts are kernel memory to the probe_read helpers."""
    emit = low.emit
    load = argument.load
    if isinstance(load, ContextField):
        return Remote(emit.op("add", emit.address(low.context), str(load.offset)), Space.KERNEL)
    if isinstance(load, ContextSlot):
        return Remote(emit.op("add", emit.address(low.context), str(8 * load.index)), Space.KERNEL)
    if isinstance(load, DataLocation):
        return Remote(_data_location(low, load), Space.KERNEL, terminated=True)
    if isinstance(load, UserStack):
        return Remote(emit.op("add", low.register("sp"), str(load.offset)), low.stack_space())
    return Remote(_operand(low, load), Space.USER)


# Members and elements


def _member_value(low: Lowering, node: ast.Member) -> str:
    if is_args(node.object):
        assert node.type is not None
        return argument_value(low, _argument(low, node.name), node.type)
    held = node.object.type
    if isinstance(held, Tuple):
        with low.temporaries():
            return low.emit.load(tuple_element(low, node))
    field = low.field(node)
    place = _record_place(low, node.object)
    size, signed = scalar_layout(field.type)
    if not field.bits:
        return low.read_scalar(place, field.offset, size, signed)
    return _bit_field(low, place, field, signed)


def _bit_field(low: Lowering, place: Place, field: Field, signed: bool) -> str:
    """The smallest aligned word that holds all of it: C puts no bit field across two of its type's words."""
    emit = low.emit
    for size in (1, 2, 4, 8):
        shift = field.shift + 8 * (field.offset % size)
        if shift + field.bits <= 8 * size:
            break
    else:  # packed
        size, shift = 8, field.shift
    word = low.read_scalar(place, field.offset - (shift - field.shift) // 8, size, False)
    left = 64 - shift - field.bits
    if left:
        word = emit.op("shl", word, str(left))
    return emit.op("ashr" if signed else "lshr", word, str(64 - field.bits))


def element_index(low: Lowering, node: ast.Member | ast.Index, held: Tuple) -> int:
    """Which element of a tuple ``.0``, ``.name`` or ``[0]`` means."""
    if isinstance(node, ast.Index):
        return low.constant(node.index)
    return int(node.name) if node.name.isdigit() else (held.names or ()).index(node.name)


def tuple_element(low: Lowering, node: ast.Member | ast.Index) -> str:
    """A pointer to the element of a tuple that ``.0``, ``.name`` or ``[0]`` means."""
    held = node.object.type
    assert isinstance(held, Tuple)
    return low.emit.offset(low.local(node.object), held.offset(element_index(low, node, held)))


def _record_place(low: Lowering, node: ast.Expression) -> Place:
    """The location of the record that an expression is, or points to."""
    if isinstance(node.type, Pointer):
        return Remote(low.value(node), node.type.space, direct=_followed(low, node))
    return low.place(node)


def _followed(low: Lowering, node: ast.Expression) -> bool:
    """Whether direct reads are wanted, and the verifier knows a pointer's type by what leads to it."""
    if not low.options.direct_reads:
        return False
    while isinstance(node, ast.Member) and not is_args(node.object):
        node = node.object
    if isinstance(node, ast.Member):
        is_function = low.clause.kind.attach_type in (AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT)
        return is_function or low.clause.provider.traits.numbered == "slots"
    # Kernels before 5.11 know no type of the current task.
    return (
        isinstance(node, ast.Identifier)
        and node.name in ("curtask", "user_regs")
        and knows_helper(Helper.GET_CURRENT_TASK_BTF)
    )


def _moved(low: Lowering, place: Place, offset: str) -> Place:
    if isinstance(place, Local):
        return Local(low.emit.offset(place.pointer, int(offset) if offset.isdigit() else offset), inner=True)
    if offset == "0":
        return place
    return Remote(low.emit.op("add", place.address, offset), place.space, direct=place.direct)


def _member_place(low: Lowering, node: ast.Member) -> Place:
    if is_args(node.object):
        return _argument_place(low, _argument(low, node.name))
    if isinstance(node.object.type, Tuple):
        return Local(tuple_element(low, node))
    return _moved(low, _record_place(low, node.object), str(low.field(node).offset))


def _index_place(low: Lowering, node: ast.Index) -> Place:
    held = node.object.type
    assert held is not None and node.type is not None
    if isinstance(held, Tuple):
        return Local(tuple_element(low, node))
    if isinstance(held, Pointer):
        place: Place = Remote(low.value(node.object), held.space)
        size = memory_size(low.structures.target(held)) or 1
    elif is_scalar(held):
        place, size = Remote(low.value(node.object), Space.ANY), 8
    else:
        place, size = low.place(node.object), node.type.size
    index = low.value(node.index)
    if isinstance(held, Array) and isinstance(place, Local) and held.count:
        inside = low.emit.value(f"icmp ult i64 {index}, {held.count}")
        index = low.emit.select(inside, index, "0")
    offset = index if size == 1 else low.emit.op("mul", index, str(size))
    return _moved(low, place, offset)


def _index_value(low: Lowering, node: ast.Index) -> str:
    size, signed = scalar_layout(node.type)
    return low.read_scalar(_index_place(low, node), 0, size, signed)


def _unary_place(low: Lowering, node: ast.Unary) -> Place:
    """Of what a pointer leads to; ``comptime`` changes nothing."""
    if node.operator == "comptime":
        return low.place(node.operand)
    held = node.operand.type
    if isinstance(held, Array):
        return _moved(low, low.place(node.operand), "0")
    space = held.space if isinstance(held, Pointer) else Space.ANY
    return Remote(low.value(node.operand), space)


def _store_place(low: Lowering, node: ast.Expression, pointer: str) -> None:
    """Copy a value in memory into its stored form."""
    assert node.type is not None
    if is_scalar(node.type):
        low.emit.store(low.value(node), pointer)
        return
    place = low.rules.places[type(node)](low, node)
    low.convert(place, node.type, pointer, node.type)


# Variables


def _variable_value(low: Lowering, node: ast.Variable) -> str:
    return low.emit.load(low.variable(node)[0])


def _variable_place(low: Lowering, node: ast.Variable) -> Place:
    return Local(low.variable(node)[0])


def _identifier_value(low: Lowering, node: ast.Identifier) -> str:
    builtin = low.rules.variables.get(node.name)
    if builtin is not None:
        if builtin.value is None:
            raise low.error(f"{node.name} is not a number", node)
        return builtin.value(low, node)
    found = named_constant(low.structures, node.name)
    assert found is not None
    return str(found[0])


def _identifier_store(low: Lowering, node: ast.Identifier, pointer: str) -> None:
    builtin = low.rules.variables[node.name]
    assert builtin.store is not None
    builtin.store(low, node, pointer)


def _call_value(low: Lowering, node: ast.Call) -> str:
    builtin = low.rules.functions[node.name]
    assert node.type is not None
    if builtin.store is not None and not is_scalar(node.type):
        # A call that returns something larger, as a statement: done for its effects.
        with low.temporaries():
            builtin.store(low, node, low.temporary(stored_size(node.type)))
        return "0"
    assert builtin.value is not None
    return builtin.value(low, node)


def _call_store(low: Lowering, node: ast.Call, pointer: str) -> None:
    builtin = low.rules.functions[node.name]
    if builtin.store is None:
        assert builtin.value is not None
        low.emit.store(builtin.value(low, node), pointer)
        return
    builtin.store(low, node, pointer)


# Fields of kernel structures that our own code reads


def load_field(low: Lowering, address: str, path: str) -> str:
    """The i64 of a number or pointer in the kernel structure at ``address``; 0 when it cannot be read."""
    offset, size = low.structures.kernel_field(path)
    return low.read_scalar(Remote(address, Space.KERNEL), offset, size, False)


VALUES: Mapping[type[ast.Expression], Value] = {
    ast.Member: _member_value,
    ast.Index: _index_value,
    ast.Variable: _variable_value,
    ast.Identifier: _identifier_value,
    ast.Call: _call_value,
}
PLACES: Mapping[type[ast.Expression], PlaceOf] = {
    ast.Member: _member_place,
    ast.Index: _index_place,
    ast.Unary: _unary_place,
    ast.Variable: _variable_place,
}
STORES: Mapping[type[ast.Expression], Store] = {
    ast.Member: _store_place,
    ast.Index: _store_place,
    ast.Unary: _store_place,
    ast.Variable: _store_place,
    ast.Identifier: _identifier_store,
    ast.Call: _call_store,
}

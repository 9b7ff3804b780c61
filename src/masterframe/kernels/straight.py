"""Loading of tiles of which nothing is left out: all terms at once, value by value in registers.

The load step of `masterframe.kernels.load` goes over a row once for each term, and looks for what
is to be left out. Here all is done in one go, to the same bits, and it is only told whether any
value would have to be left out: then the tile is loaded again, by the other.
"""

from __future__ import annotations

from typing import Any

from masterframe.kernels.deferred import cgutils, ir, types
from masterframe.kernels.load import calibrate_row, is_masked
from masterframe.kernels.native import inlined, operation, part
from masterframe.kernels.vectors import BITS, Row, as_float, spread

_OVERSCAN, _COLUMNS, _BIAS, _DARK, _FLAT, _FACTORS = range(6)
"""Fields of `terms.Calibration`."""
AHEAD = 4
"""Frames whose values are asked for before they are loaded: they lie pages apart."""


class _Writer:
    """Writes the code that loads the values of one frame, `BITS` at a time."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self._context, self._builder = context, builder
        self._kinds, self._given = signature.args, arguments
        self._raw, self._goal = (
            Row(context, builder, signature.args[index], arguments[index], BITS) for index in (0, 4)
        )
        kind = signature.args[4].dtype
        self._kind, self._vector = kind, ir.VectorType(context.get_data_type(kind), BITS)
        self._terms = None
        if not isinstance(signature.args[3], types.NoneType):
            self._terms = _Terms(context, builder, signature.args[3], arguments[3], arguments[1])

    def write(self) -> Any:
        """Return the bits of the lanes of which any value is to be left out."""
        builder = self._builder
        first, ahead, w = (builder.extract_value(self._given[1], place) for place in range(3))
        out = cgutils.alloca_once(builder, ir.IntType(BITS))
        builder.store(ir.IntType(BITS)(0), out)
        lanes = self._context.get_constant(types.intp, BITS)
        with cgutils.for_range(builder, builder.sdiv(w, lanes)) as loop:
            i = builder.mul(loop.index, lanes)
            place = builder.add(first, i)
            self._raw.fetch(builder.add(place, ahead))
            values = self._raw.load(place)
            self._check(out, values)
            if self._terms is not None:
                values = as_float(builder, self._kinds[0].dtype, values, self._vector)
                values = self._terms.applied(values, i)
                apart = builder.fsub(values, values)
                nothing = ir.Constant(self._vector, None)
                self._add(out, builder.fcmp_unordered("!=", apart, nothing))
            self._goal.store(values, i)
        return builder.load(out)

    def _add(self, out: Any, found: Any) -> None:
        builder = self._builder
        bits = builder.bitcast(found, ir.IntType(BITS))
        builder.store(builder.or_(builder.load(out), bits), out)

    def _check(self, out: Any, raw: Any) -> None:
        """Compare raw values with the limits that they can pass."""
        builder, kind = self._builder, self._kinds[0].dtype
        limits, limited = (builder.extract_value(self._given[2], place) for place in range(2))
        is_float = isinstance(kind, types.Float)
        compare = builder.fcmp_ordered if is_float else builder.icmp_unsigned
        for index, sign in enumerate((">=", "<", ">")):
            with builder.if_then(builder.extract_value(limited, index)):
                limit = builder.extract_value(limits, index)
                bound = spread(self._context, builder, kind, limit, BITS)
                self._add(out, compare(sign, raw, bound))


class _Terms:
    """The code of the terms of one frame; the order is that of `load.calibrate_row`."""

    def __init__(self, context: Any, builder: Any, kinds: Any, cal: Any, place: Any) -> None:
        self._context, self._builder, self._kinds = context, builder, kinds
        frame, y, x0 = (builder.extract_value(place, index) for index in range(3, 6))
        self._arrays = [builder.extract_value(cal, index) for index in range(len(kinds))]
        self._kind = kinds[_FACTORS].dtype
        self._present = [self._is_there(index) for index in range(len(kinds))]
        self._starts = [self._element(index, y, x0) for index in range(len(kinds))]
        self._starts[_COLUMNS] = self._element(_COLUMNS, frame, x0)
        zero = context.get_constant(types.intp, 0)
        level = cgutils.alloca_once_value(builder, context.get_constant(self._kind, 0.0))
        with builder.if_then(self._present[_OVERSCAN]):
            builder.store(self._number(_OVERSCAN, self._element(_OVERSCAN, frame, y)), level)
        start = self._element(_FACTORS, frame, zero)
        factors = [
            self._number(_FACTORS, builder.add(start, context.get_constant(types.intp, k)))
            for k in range(3)
        ]
        self._level, self._ratio, self._scale, self._zero = (
            spread(context, builder, self._kind, number, BITS)
            for number in (builder.load(level), *factors)
        )

    def _struct(self, index: int) -> Any:
        kind = self._kinds[index]
        return self._context.make_array(kind)(self._context, self._builder, self._arrays[index])

    def _is_there(self, index: int) -> Any:
        size = self._struct(index).nitems
        return self._builder.icmp_signed("!=", size, size.type(0))

    def _element(self, index: int, row: Any, column: Any) -> Any:
        """Return the place of an element among those of an array without gaps."""
        width = self._builder.extract_value(self._struct(index).shape, 1)
        return self._builder.add(self._builder.mul(row, width), column)

    def _number(self, index: int, place: Any) -> Any:
        return self._builder.load(self._builder.gep(self._struct(index).data, [place]))

    def applied(self, values: Any, i: Any) -> Any:
        """Return calibrated values, the i-th and those that follow."""
        builder = self._builder
        kept = cgutils.alloca_once(builder, values.type)
        builder.store(values, kept)
        with builder.if_then(self._present[_OVERSCAN]):
            builder.store(builder.fsub(builder.load(kept), self._level), kept)
        self._apply(kept, _COLUMNS, i, builder.fsub)
        self._apply(kept, _BIAS, i, builder.fsub)
        self._apply(kept, _DARK, i, self._less_dark)
        self._apply(kept, _FLAT, i, builder.fdiv)
        return builder.fadd(builder.fmul(builder.load(kept), self._scale), self._zero)

    def _apply(self, kept: Any, index: int, i: Any, change: Any) -> None:
        builder = self._builder
        with builder.if_then(self._present[index]):
            row = Row(self._context, builder, self._kinds[index], self._arrays[index], BITS)
            term = row.load(builder.add(self._starts[index], i))
            builder.store(change(builder.load(kept), term), kept)

    def _less_dark(self, values: Any, dark: Any) -> Any:
        return self._builder.fsub(values, self._builder.fmul(dark, self._ratio))


def _loaded(
    typing_context: Any, raw: Any, place: Any, limits: Any, cal: Any, values: Any
) -> Any:  # fmt: skip
    """Load values of a frame into a row; return 0 where none of them is to be left out.

    `place` is the first raw value, how far ahead others are asked for, how many are loaded (a
    multiple of `BITS`), then frame, row and first column. `limits` are those of the raw values, and
    which of them they can pass. `cal` is None, or a `terms.Calibration`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _Writer(context, builder, signature, arguments).write()

    return types.int64(raw, place, limits, cal, values), generate


loaded: Any = operation(_loaded)


@inlined
def load_straight(source: Any, cal: Any, settings: Any, room: Any, place: Any) -> bool:
    """Load a tile; return whether no value is to be left out."""
    if is_masked(source, place):
        return False
    order, (y, x0, w) = settings.order, place
    whole, start, out = w // BITS * BITS, y * source.row_stride + x0, 0
    limits = (source.limits, source.limited)
    for k in range(order.size):
        at = order[k] * source.frame_stride + start
        ahead = order[min(k + AHEAD, order.size - 1)] * source.frame_stride + start
        values = room.tile[k]
        where = (at, ahead - at, whole, order[k], y, x0)
        out |= loaded(source.raw, where, limits, cal, values)
        if whole < w:  # to call it copies a hundred words
            out |= _load_rest(source, cal, (order[k], y, x0, at), values, whole, w)
    return bool(out == 0)


@part
def _load_rest(source: Any, cal: Any, place: Any, values: Any, whole: int, w: int) -> int:
    """Load the values of a frame that are no multiple of `BITS`."""
    frame, y, x0, at = place
    saturation, low, high = source.limits
    has_saturation, has_low, has_high = source.limited
    out = False
    for i in range(whole, w):
        raw = source.raw[at + i]
        out |= has_saturation & (raw >= saturation)
        out |= (has_low & (raw < low)) | (has_high & (raw > high))
        values[i] = raw
    if cal is not None:
        calibrate_row(values[whole:w], cal, (frame, y, x0 + whole, w - whole))
    for i in range(whole, w):
        out |= values[i] - values[i] != 0
    return int(out)

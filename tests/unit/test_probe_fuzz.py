"""Whatever is given to the parser and the checker, it ends in a program or in one error with a place."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.probe.source import ScriptError

from .probe_scripts import checked, compiled

_WORDS = r"""
BEGIN END interval:s:1 { } ( ) [ ] ; , . -> : ? = == != < > << >> + - * / % & | ^ ! ~ ++ -- += && || .. $x $y @ @a
@b[1] 1 0 -1 0xff 1e3 18446744073709551615 "s" "%d" comm pid nsecs args kstack struct S int64 (uint8) if else
while for unroll let break return macro f config printf print count() hist( lhist( str( buf( delete( exit() sizeof(
offsetof( #define #if /* // ' " \\ $1 $# 5ms _ = ?: comptime typeof( typeinfo( config container_of( str_concat( f(
__attribute__((packed)) uint64 * is_str(
"""
_OPERATORS = ["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "==", "!=", "<", ">=", "&&", "||"]
_SETTINGS = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _survives(text: str) -> None:
    try:
        checked(text, "5", "word")
    except ScriptError as error:
        assert error.rendered
        assert 0 <= error.span.start <= len(text)
    except InsituError as error:
        assert "\n" not in str(error)


@given(st.text(max_size=200))
@_SETTINGS
def test_any_text_ends_in_an_error_or_a_program(text: str) -> None:
    _survives(text)


@given(st.lists(st.sampled_from(_WORDS.split()), max_size=40).map(" ".join))
@_SETTINGS
def test_any_row_of_tokens_ends_in_an_error_or_a_program(text: str) -> None:
    _survives("BEGIN { " + text)
    _survives("macro f(a) { a } macro f($a, t) { (t)$a } BEGIN { $x = 1; " + text)


_ATOMS = st.sampled_from(["1", "-7", "pid", "comm", '"ab"', "nsecs", "@m[1]", "$v", "(1, 2)", "$1", "0", "str(5)"])
_EXPRESSIONS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(_OPERATORS), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} ? {parts[1]} : {parts[2]})"),
        st.tuples(st.sampled_from(["-", "!", "~", "(uint8)", "(int16)"]), inner).map("".join),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]}, {parts[1]}).0"),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]} ?: {parts[1]})"),
        st.tuples(inner, inner, inner).map(lambda p: f"if ({p[0]}) {{ @m[1] = 3; {p[1]} }} else {{ {p[2]} }}"),
        st.tuples(inner, inner).map(lambda parts: f"str_concat({parts[0]}, {parts[1]})"),
        inner.map(lambda part: f"typeinfo({part}).full_ty"),
    ),
    max_leaves=12,
)


@given(_EXPRESSIONS, _EXPRESSIONS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_expression_that_the_checker_takes_compiles(key: str, value: str) -> None:
    text = f"BEGIN {{ $v = 3; @m[1] = 2; @k[{key}] = {value}; }}"
    try:
        program = compiled(text, "5")
    except ScriptError:
        return
    assert program.programs[0].code


_RECORDS = """
struct in { int a; unsigned b:3; char c[3]; }; enum e { RED = 3, BLUE };
struct S { int x; struct S *next; struct in i; struct in arr[2]; char t[8]; uint8 u[4]; union { int f; long g; };
    enum e col; int flex[0]; int grid[2][2]; };
"""
_MEMBERS = """
    $p *$p $s *$p->next $p->i $s.i $p->arr $s.arr[1] $s.arr[1].a $p->i.b $p->t $s.u $s.flex $p->grid[1] $s.g RED
    @st @st.i @k[$s.i] &$s &$p->i &$s.arr[1] &@m &$v $t $t[1] (a=1,b=$s.x) true 1 comm
"""
_OF_RECORDS = st.recursive(
    st.sampled_from(_MEMBERS.split()),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(_OPERATORS), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} ? {parts[1]} : {parts[2]})"),
        st.tuples(st.sampled_from(["*", "&", "!", "(struct S *)", "(uint8[])", "(bool)", "(enum e)"]), inner).map(
            "".join
        ),
        st.tuples(inner, st.sampled_from([".x", ".i", "[1]", ".0", "->next"])).map(
            lambda parts: f"({parts[0]}){parts[1]}"
        ),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]}, {parts[1]})"),
    ),
    max_leaves=8,
)


@given(_OF_RECORDS, _OF_RECORDS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_use_of_records_that_the_checker_takes_compiles(key: str, value: str) -> None:
    begin = "$v = 3; $p = (struct S *)0; $s = *$p; $t = (1, comm); @m[1] = 2; @st = *$p; @k[$s.i] = 1;"
    try:
        program = compiled(f"{_RECORDS} BEGIN {{ {begin} $n = {value}; print($n); @y[{key}] = {value}; }}")
    except ScriptError as error:
        assert "\n" not in str(error)
        return
    assert program.programs[0].code


@given(st.data())
@_SETTINGS
def test_a_working_script_with_a_piece_cut_out_ends_in_an_error_or_a_program(data: st.DataObject) -> None:
    text = (
        "struct A { int x; }; macro m($a) { $a + 1 } BEGIN /pid > 1/ { $a = (struct A *)0; "
        "for $i : 0..3 { @[$i, comm] = hist($a->x); } "
        'if (@c == 2) { printf("%d %s", m($a), str($1)); } else { clear(@); } @c++; } END { print(@); }'
    )
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    _survives(text[:start] + text[end:])

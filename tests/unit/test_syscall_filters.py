"""Filter expressions: the language is sysdig's, as its user guide and the Falco libraries' documentation have it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.syscalls.filters.call_filter import CallFilter
from insitu.syscalls.filters.evaluate import compiled
from insitu.syscalls.filters.fields import FIELDS
from insitu.syscalls.filters.parser import Check, Every, FilterError, Node, Not, Some, parse, unparse
from insitu.syscalls.filters.subject import Argument, Descriptor, Process, Subject

SHELL = Process(7, 1, "bash", "/usr/bin/bash", ("bash",), "/", 0, 0, 7, "/", Process(1, 0, "init"))
CAT = Process(
    9, 7, "cat", "/usr/bin/cat", ("cat", "/etc/passwd"), "/root", 1000, 1000, 3, f"/docker/{'ab' * 32}", SHELL
)


def subject(descriptor: Descriptor | None = None, **changed: object) -> Subject:
    known: dict[str, object] = {
        "number": 4,
        "name": "openat",
        "unix_ns": 1_795_764_957_000_000_000,
        "pid": 9,
        "tid": 10,
        "dur_ns": 2_000_000,
        "ret": -13,
        "error": "EACCES",
        "process_of": lambda: CAT,
        "arguments_of": lambda: [
            Argument("dfd", -100, "AT_FDCWD"),
            Argument("filename", 0x1000, '"/etc/passwd"'),
            Argument("flags", 0o1101, "O_WRONLY|O_CREAT|O_TRUNC"),
        ],
        "descriptor_of": lambda: descriptor or Descriptor(None, "/etc/passwd"),
    }
    return Subject(**{**known, **changed})  # type: ignore[arg-type]


TCP = Descriptor(5, "TCP:[127.0.0.1:40000->127.0.0.2:443]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evt.type = openat", True),
        ("evt.type==openat", True),
        ("evt.type in (open, openat)", True),
        ("evt.category = file and evt.is_open_write = true and evt.is_open_read = false", True),
        ("evt.is_io = true or evt.io_dir exists or evt.is_wait = true", False),
        ("proc.pexe = bash and proc.pexepath = /usr/bin/bash and proc.pcmdline = bash", True),
        ("evt.type in (open, 'close')", False),
        ("fd.name contains /etc and evt.latency > 1ms and not proc.name = cat", False),
        ("fd.name contains /etc and evt.latency > 1ms and proc.name = cat", True),
        ("evt.latency > 2ms", False),
        ("evt.latency >= 2000us", True),
        ("evt.latency = 0.002s", True),
        ("evt.failed = true and evt.res = EACCES and evt.rawres < 0", True),
        ("evt.failed = false or evt.type startswith open", True),
        # 'and' binds tighter than 'or', 'not' tighter than both
        ("evt.type = openat or evt.type = x and evt.type = y", True),
        ("not evt.type = openat or evt.type = openat", True),
        ("not (evt.type = openat or evt.type = x)", False),
        ("proc.aname = bash and proc.aname[2] = init and proc.pname = bash", True),
        ("proc.apid = 1 and proc.apid[1] = 7", True),
        ("proc.aname = cat", False),
        ("proc.cmdline = 'cat /etc/passwd' and proc.args = /etc/passwd and proc.exe = cat", True),
        ("proc.vpid = 3 and proc.ppid = 7 and thread.ismain = false", True),
        ("user.uid = 1000 and group.gid != 0", True),
        ("container.id = abababababab and container.id != host", True),
        ("fd.directory = /etc and fd.filename = passwd and fd.type = file and fd.typechar = f", True),
        ("fd.num exists", False),
        ("fd.name exists", True),
        ("fd.ip = 127.0.0.1", False),
        # of what a call does not have, every comparison is false, its negation true
        ("fd.num != 3", False),
        ("not fd.num = 3", True),
        ("evt.arg.flags contains O_CREAT and evt.arg[0] = AT_FDCWD", True),
        ("evt.arg.filename = /etc/passwd", True),
        ("evt.rawarg.dfd = -100 and evt.arg.flags > 0x200 and evt.rawarg.nothing exists", False),
        ("evt.args icontains o_wronly", True),
        ("evt.arg.filename glob '/etc/*wd' and evt.arg.filename regex '/etc/[a-z]+'", True),
        ("evt.arg.filename regex '/etc/'", False),
        ("fd.name pmatch (/usr, /etc)", True),
        ("fd.name pmatch (/et)", False),
        ("fd.name endswith wd", True),
    ],
)
def test_an_expression_holds_or_not(text: str, expected: bool) -> None:
    assert compiled(parse(text))(subject()) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fd.ip = 127.0.0.1 and fd.ip = 127.0.0.2", True),
        ("fd.ip != 127.0.0.1", False),
        ("fd.cip = 127.0.0.1 and fd.sip = 127.0.0.2", True),
        ("fd.sport = 443 and fd.cport = 40000 and fd.port in (80, 443)", True),
        ("fd.lport = 40000 and fd.rport = 443", True),
        ("fd.type = ipv4 and fd.typechar = 4 and fd.proto = tcp and fd.num = 5", True),
        ("fd.directory exists", False),
    ],
)
def test_sockets_have_addresses_and_ports(text: str, expected: bool) -> None:
    assert compiled(parse(text))(subject(TCP)) is expected


def test_a_call_that_never_returned_has_no_result() -> None:
    waiting = subject(ret=None, error="", dur_ns=None)
    assert compiled(parse("evt.dir = '>' and not evt.latency exists and not evt.res exists"))(waiting)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("fd.nam = x", "did you mean 'fd.name'", 0),
        ("evt.type contans x", "did you mean 'contains'", 9),
        ("evt.type > 3", "evt.type is text", 9),
        ("evt.latency > 1KB", "a time such as 1ms", 14),
        ("proc.pid = cat", "compared with a number", 11),
        ("evt.failed = maybe", "true or false", 13),
        ("evt.type = open evt.dir = '<'", "'and' or 'or'", 16),
        ("(evt.type = open", "missing ')'", 16),
        ("evt.type in (open", "expected ',' or ')'", 17),
        ("evt.type in open", "list in parentheses", 12),
        ("evt.type = 'open", "missing '", 11),
        ("evt.type =", "expected a value", 10),
        ("evt.type", "expected an operator", 8),
        ("", "expected a field", 0),
        ("evt.arg = 3", "needs a name or an index", 0),
        ("fd.name regex '['", "invalid regular expression", 14),
        ("proc.name[1] = x", "takes no argument", 0),
        ("(" * 200, "levels deep", 100),
    ],
)
def test_an_error_names_the_remedy_and_the_place(text: str, message: str, column: int) -> None:
    with pytest.raises(FilterError) as raised:
        parse(text)
    assert message in str(raised.value)
    assert raised.value.column == column
    shown = raised.value.rendered.splitlines()
    assert shown[2].index("^") - 2 == min(column, 60)
    assert raised.value.status == 2


def test_every_field_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/syscalls.md").read_text()
    assert [name for name in FIELDS if f"| `{name}" not in page] == []


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
OPERATORS = {
    "text": ["=", "!=", "contains", "icontains", "startswith", "endswith", "glob", "iglob"],
    "number": ["=", "!=", "<", "<=", ">", ">="],
    "time": ["=", "!=", "<", "<=", ">", ">="],
    "size": ["=", "!=", "<", "<=", ">", ">="],
    "flag": ["=", "!="],
}


@st.composite
def conditions(draw: st.DrawFn) -> Node:
    field = draw(
        st.sampled_from([name for name, each in FIELDS.items() if each.type != "argument" and not each.takes])
    )
    type_ = FIELDS[field].type
    value = {"text": TEXT, "flag": st.booleans()}.get(type_, st.integers(-(10**18), 10**18))
    shape = draw(st.sampled_from(["one", "list", "exists"] if type_ != "flag" else ["one", "exists"]))
    if shape == "exists":
        return Check(field, "", "exists", ())
    if shape == "list":
        return Check(field, "", "in", tuple(draw(st.lists(value, min_size=1, max_size=3))))
    return Check(field, "", draw(st.sampled_from(OPERATORS[type_])), (draw(value),))


NODES = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda nodes: Every(tuple(nodes)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda nodes: Some(tuple(nodes)), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)


@given(NODES)
def test_an_expression_that_is_written_out_means_the_same(node: Node) -> None:
    assert parse(unparse(node)) == node


@given(NODES)
def test_not_is_the_opposite(node: Node) -> None:
    about = subject()
    assert compiled(Not(node))(about) is not compiled(node)(about)


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_an_error_of_one_kind(text: str) -> None:
    try:
        compiled(parse(text))(subject())
    except FilterError as error:
        assert len(error.rendered.splitlines()) == 3


@given(st.text(st.sampled_from("evt.type fd.name=!<>()'\",[]in and or not 12ms\\"), max_size=60))
def test_any_text_of_the_language_is_an_expression_or_an_error_of_one_kind(text: str) -> None:
    try:
        compiled(parse(text))(subject())
    except FilterError as error:
        assert len(error.rendered.splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "open_on", "expected"),
    [
        ("read", "/etc/passwd", "file"),
        ("read", "TCP:[127.0.0.1:1->127.0.0.1:2]", "net"),
        ("write", "pipe:[7]", "IPC"),
        ("connect", "", "net"),
        ("nanosleep", "", "sleep"),
        ("epoll_wait", "", "wait"),
        ("mmap", "/lib/libc.so.6", "memory"),
        ("execve", "", "process"),
        ("rt_sigaction", "", "signal"),
        ("getuid", "", "user"),
        ("clock_gettime", "", "time"),
        ("sched_yield", "", "scheduler"),
    ],
)
def test_categories_are_sysdigs(name: str, open_on: str, expected: str) -> None:
    assert compiled(parse(f"evt.category = {expected}"))(subject(Descriptor(3, open_on), name=name))


def test_a_category_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(InsituError, match=r"evt.category is never files; did you mean 'file'"):
        CallFilter("evt.category = files", 0)

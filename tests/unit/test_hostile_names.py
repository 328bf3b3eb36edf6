"""Files of other formats stay well-formed, and say what a name was, whatever it is."""

import json
import re
import shutil
import subprocess
import xml.dom.minidom
from collections.abc import Callable

import pytest

from insitu.convert.formats.folded import export_folded
from insitu.convert.formats.pprof import write_pprof
from insitu.convert.formats.registry import ExportOptions
from insitu.convert.formats.speedscope import export_speedscope
from insitu.session.weighted_stacks import WeightedStacks
from insitu.symbols.frame import Frame
from insitu.terminal_text import printable
from insitu.views.call_tree import call_tree
from insitu.views.callgraph import call_graph, to_dot, to_svg
from insitu.views.report import build_report, to_json

from .test_format_pprof import Decoded

NAMES = [
    "nul\0nul",
    "\x01\x08\x0b\x0c\x1f\x7f\x9b",
    "a\nb\r\nc\td",
    "\udc80\udcff",
    "\ufffe\uffff\u2028\u2029",
    "\u202e\u2066\u200f\u061c",
    "</title></script><script>alert(1)</script>",
    "]]><![CDATA[",
    '"><img src=x onerror="alert(1)">',
    "<!-- --!> -->",
    "a & b &lt; &#0; &amp;",
    '\\" \\N \\l \\',
    "x; y 5",
    "\U000e0001\U0001f600",
]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stacks(name: str, profile_of: Callable[..., WeightedStacks]) -> WeightedStacks:
    return profile_of([(name, 1, ["main", Frame(name, name, name, 3)], 5)], losses={name: 1}, notes=(name,))


# A quoted string of the DOT language, what is outside of them, and nothing else
# (https://graphviz.org/doc/info/lang.html: only \" is an escape there).
_DOT = re.compile(r'(?:"(?:[^"\\\x00-\x1f]|\\.)*"|[A-Za-z0-9_.,;=\[\]{} \n>-])*')


def test_dot_has_closed_strings_and_no_control_characters(name: str, stacks: WeightedStacks) -> None:
    dot = to_dot(call_graph(call_tree(stacks)), title=name, lost=name)
    assert _DOT.fullmatch(dot)
    dot.encode()


@pytest.mark.skipif(not shutil.which("dot"), reason="needs graphviz")
def test_svg_is_xml_of_the_escaped_names(name: str, stacks: WeightedStacks) -> None:
    dot = to_dot(call_graph(call_tree(stacks)), title=name, lost=name)
    done = subprocess.run(["dot", "-Tcanon"], input=dot.encode(), capture_output=True, check=True)
    assert done.stderr == b""
    document = xml.dom.minidom.parseString(to_svg(dot))
    assert not document.getElementsByTagName("script") and not document.getElementsByTagName("img")
    texts = [text.firstChild.data for text in document.getElementsByTagName("text")]
    squeezed = [re.sub(r"\s+", " ", text).strip() for text in texts]
    # Title, what was lost, and the function with its module.
    assert squeezed.count(re.sub(r"\s+", " ", printable(name)).strip()) >= 3


def test_speedscope_is_json_that_holds_the_name(name: str, stacks: WeightedStacks) -> None:
    document = json.loads(export_speedscope(stacks, ExportOptions(name)))
    valid = name.encode(errors="surrogateescape").decode(errors="replace")
    assert document["name"] == valid
    assert {"name": valid, "file": valid, "line": 3} in document["shared"]["frames"]


def test_a_report_is_json_that_holds_the_name(name: str, stacks: WeightedStacks) -> None:
    document = json.loads(to_json(build_report(stacks)))
    valid = name.encode(errors="surrogateescape").decode(errors="replace")
    assert valid in [row["function"] for row in document["functions"]]


def test_pprof_decodes_and_holds_the_name(name: str, stacks: WeightedStacks) -> None:
    assert name.encode(errors="backslashreplace").decode() in Decoded(write_pprof(stacks)).strings


def test_folded_stacks_are_one_line_of_three_frames(name: str, stacks: WeightedStacks) -> None:
    (line,) = export_folded(stacks, ExportOptions(name)).decode().splitlines()
    stack, _, count = line.rpartition(" ")
    assert stack.count(";") == 2 and stack.split(";")[1] == "main" and int(count) > 0

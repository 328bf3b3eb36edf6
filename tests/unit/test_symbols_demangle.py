"""Demangling against binutils' c++filt, asked for what perf asks of the same code: no parameters, no details."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.symbols.bounded_demangle import _is_bounded
from insitu.symbols.demangle import demangle, demangle_with_parameters
from insitu.symbols.elf import Elf

from .symbols_peer import compiled, needs


def cxxfilt(names: list[bytes]) -> list[str]:
    words = ["c++filt", "--no-params", "--no-verbose"]
    return (
        subprocess.run(words, input=b"\n".join(names), capture_output=True, check=True).stdout.decode().splitlines()
    )


def names_in(path: Path, table: str, prefixes: tuple[bytes, ...]) -> list[bytes]:
    symbols = Elf(path).symbols(table)
    assert symbols is not None
    names = {symbols.name(int(entry["name"])) for entry in symbols.entries}
    return sorted(name.partition(b"@")[0].partition(b".")[0] for name in names if name.startswith(prefixes))


def mapped(name: str) -> Path:
    import ctypes

    ctypes.CDLL("libstdc++.so.6")
    lines = Path("/proc/self/maps").read_text().splitlines()
    return Path(next(line.split()[-1] for line in lines if name in line))


@needs("c++filt")
def test_every_name_of_the_cpp_library_reads_as_cxxfilt_says() -> None:
    names = names_in(mapped("libstdc++.so"), ".dynsym", (b"_Z",))
    names.remove(
        b"_ZNKSt15__exception_ptr13exception_ptrcvMS0_FvvEEv"
    )  # a conversion to a pointer to member function
    assert len(names) > 4000
    assert [demangle(name) for name in names] == cxxfilt(names)


RUST = """
use std::fmt::Display;
mod work { pub struct W<T>(pub T); impl<T: Copy + Into<u64>> W<T> { #[inline(never)]
  pub fn spin(&self, n: u64) -> u64 { (0..n).fold(1, |s, i| s ^ self.0.into().wrapping_mul(i)) } } }
#[inline(never)] fn show<T: Display + ?Sized>(x: &T) -> usize { format!("{}", x).len() }
trait Go { fn go(&self, f: &dyn Fn(u64) -> u64) -> u64; }
impl<const N: usize> Go for [u8; N] { #[inline(never)]
  fn go(&self, f: &dyn Fn(u64) -> u64) -> u64 { self.iter().map(|x| f(*x as u64)).sum() } }
fn main() { println!("{} {} {}", work::W(3u32).spin(9), show("abc"), [1u8, 2].go(&|x| x + 1)); }
"""


@needs("rustc")
@needs("c++filt")
def test_names_of_a_rust_program_read_as_cxxfilt_says(tmp_path: Path) -> None:
    (tmp_path / "prog.rs").write_text(RUST)
    subprocess.run([str(shutil.which("rustc")), "-g", "prog.rs"], cwd=tmp_path, check=True)
    names = names_in(tmp_path / "prog", ".symtab", (b"_R", b"_ZN"))
    assert len(names) > 200
    assert [demangle(name) for name in names] == cxxfilt(names)


@pytest.mark.parametrize(
    ("mangled", "shown"),
    [
        (b"main", "main"),
        (b"<script>", "<script>"),
        (b"_Z", "_Z"),
        (b"_Znonsense", "_Znonsense"),
        (b"caf\xc3\xa9\xff", "café\ufffd"),
        (b"_ZN5outer3topEi.part.0", "outer::top"),
        (b"_Z3fooIiEvT_@plt", "foo<int>@plt"),
        (b"_ZlsRSoi", "operator<<"),
        (b"_ZN1AcvbEv", "A::operator bool"),
        # Vectors of the Rust reference, chapter "v0 symbol mangling", and of RFC 2603
        (b"_RNvCskwGfYPst2Cb_3foo16example_function", "foo::example_function"),
        (b"_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar"),
        (b"_RNCNvCs1234_7mycrate3foo0", "mycrate::foo::{closure#0}"),
        (b"_RINvCs1234_7mycrate3fooaE", "mycrate::foo::<i8>"),
        (b"_RNvXs_Cs1234_7mycrateNtB4_3FooNtB4_3Bar3baz", "<mycrate::Foo as mycrate::Bar>::baz"),
        (b"_RNvMs_Cs1234_7mycrateNtB4_3Foo3baz", "<mycrate::Foo>::baz"),
    ],
)
def test_names_are_shown_for_what_they_are(mangled: bytes, shown: str) -> None:
    assert demangle(mangled) == shown


def test_back_references_that_print_exponentially_long_names_are_left_mangled() -> None:
    bomb = b"_RMC0" + b"".join(b"TB" + b"%d_" % i * 2 for i in range(30))
    assert len(demangle(bomb)) <= 1 << 15


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([b"_R", b"_ZN", b"_Z"]),
    st.binary(max_size=60) | st.text("CNvtMXYIBsuRQTAFDE_0123456789abpKL").map(str.encode),
)
def test_any_bytes_give_some_text(prefix: bytes, rest: bytes) -> None:
    assert isinstance(demangle(prefix + rest.replace(b"\0", b"")), str)


TEMPLATES_CPP = """
#include <string>
#include <functional>
#include <map>
#include <tuple>
#include <vector>
template <class A, class B> struct Pair { A a; B b; template <class F> void each(F f) { f(a); f(b); } };
template <class T> using Deep = Pair<std::map<T, std::vector<T>>, std::function<T(std::map<T, std::vector<T>>, T)>>;
template <class... T> __attribute__((noinline)) int many(std::tuple<T, T *>... all, Pair<T, T>... pairs) {
  auto local = [&](auto... more) { return sizeof...(more) + sizeof...(all) + sizeof...(pairs); };
  return local(all...) + local(pairs...);
}
int main(int c, char **v) {
  Deep<std::string> deep;
  deep.b = [](auto &&m, auto &&s) { return m.begin()->first + s; };
  deep.a[v[0]].push_back(v[0]);
  int n = 0;
  deep.each([&](auto &x) { n += sizeof(x); });
  Pair<Pair<Deep<std::string>, Deep<std::string>>, Pair<Deep<std::string>, Deep<std::string>>> deeper;
  deeper.each([&](auto &x) { x.each([&](auto &y) { y.each([&](auto &z) { n += sizeof(z); }); }); });
  std::tuple<int, int *> t;
  return n + many<int, int>(t, t, {1, 2}, {3, 4}) + deep.b(deep.a, v[0]).size();
}
"""


def doubling(levels: int) -> bytes:
    """``f(A<int, int>, A<A<int, int>, A<int, int>>, ...)``, each parameter with the one before in it twice."""
    ids = ["", *"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    return b"_Z1f1AIiiE" + b"".join(f"S_IS{ids[i]}_S{ids[i]}_E".encode() for i in range(1, levels + 1))


def test_names_that_expand_to_gigabytes_stay_mangled() -> None:
    ends = b"_Z1f1AIiiE" + doubling(3)[10:]
    assert demangle_with_parameters(ends).count("int") == 2 + 4 + 8 + 16
    bomb = doubling(29)
    assert demangle(bomb) == bomb.decode()
    assert demangle_with_parameters(bomb) == bomb.decode()
    assert demangle_with_parameters(doubling(10)).count("int") == 2**12 - 2  # 2 + 4 + ... + 2^11


def test_after_a_name_that_ends_the_demangling_process_others_get_a_new_one() -> None:
    in_process = b"_ZN1AIiE1fI" + b"S0_" * 20 + b"EEvZ1gvE1B"
    before = demangle_with_parameters(in_process)
    assert demangle(doubling(28)).startswith("_Z")
    assert demangle_with_parameters(in_process) == before


@pytest.mark.parametrize(
    "name",
    [
        b"_Z42" + b"&" * 40 + b"xyv",
        b"_Z8002" + b"&" * 8000 + b"xyv",
        b"_Z1fIiE" + b"PF" * 900 + b"v" + b"vE" * 900 + b"v",
        b"_Z9000" + b"operator " * 1000 + b"v",
        b"_R" + b"NvC1a" * 3000,
        b"_ZN" + b"17h0123456789abcdefE" * 800 + b"$",
    ],
    ids=["ampersands", "many ampersands", "pointers to functions", "operators", "rust paths", "rust hashes"],
)
def test_names_made_to_be_slow_are_shown_within_a_moment(name: bytes) -> None:
    code = "import sys; from insitu.symbols.demangle import demangle; demangle(sys.stdin.buffer.read())"
    subprocess.run([sys.executable, "-c", code], input=name, check=True, timeout=60)


@needs("c++filt")
def test_names_of_a_program_with_deep_templates_are_those_of_cxxfilt(tmp_path: Path) -> None:
    program = compiled(tmp_path, TEMPLATES_CPP, "-O1", "-std=c++17")
    names = names_in(program, ".symtab", (b"_Z",))
    assert any(not _is_bounded(name) for name in names) and any(map(_is_bounded, names))
    done = subprocess.run(["c++filt"], input=b"\n".join(names), capture_output=True, check=True)
    assert [demangle_with_parameters(name) for name in names] == done.stdout.decode().splitlines()

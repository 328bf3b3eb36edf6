"""Symbols, stacks and settings, seen in a program whose functions and variables are known."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

import insitu
from insitu.probe.source import ScriptError

from .tracing import known_program, run_trace

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return known_program(tmp_path_factory.mktemp("program"))


# Stacks


def test_functions_of_a_process_that_has_ended_have_names(program: Path) -> None:
    script = f"uprobe:{program}:inner {{ @[ustack] = count(); print((ustack(2), len(ustack), len(ustack(2)))); }}"
    output = run_trace("-a", "-e", script, "-c", f"sh -c '{program}; true'").stdout
    printed, _, kept = output.partition("@[")
    assert [line.split("+")[0].strip(" (\n") for line in printed.split("\n") if "+" in line] == ["inner", "outer"]
    frames = [line.split("+")[0].strip() for line in kept.split("\n") if "+" in line]
    assert frames[:3] == ["inner", "outer", "main"]
    assert printed.rstrip().endswith(f", {len(frames)}, 2)") or printed.rstrip().endswith(", 2)")


def test_functions_of_a_stripped_program_come_from_its_debug_file(program: Path, tmp_path: Path) -> None:
    stripped, debug = tmp_path / "it", tmp_path / "it.debug"
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
    subprocess.run(["strip", "-s", "-o", stripped, program], check=True)
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", stripped], check=True)
    script = f"uprobe:{stripped}:inner {{ @[ustack(perf, 3)] = count(); }}"
    output = run_trace("-a", "-e", script, "-c", f"sh -c '{stripped}; true'").stdout
    lines = [line.split() for line in output.splitlines() if "+" in line]
    assert [words[1].split("+")[0] for words in lines] == ["inner", "outer", "main"]
    assert all(words[2] == f"({stripped})" for words in lines)


def test_functions_of_a_library_that_was_opened_late_have_names(tmp_path: Path) -> None:
    (tmp_path / "late.c").write_text('#include <unistd.h>\nvoid late(void) { getppid(); __asm__ volatile(""); }')
    library = tmp_path / "late.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-fno-omit-frame-pointer", "-o", library, tmp_path / "late.c"], check=True
    )
    opener = f"import ctypes; ctypes.CDLL('{library}').late()"
    script = f'uprobe:{library}:late {{ @[usym(reg("ip"))] = count(); }}'
    command = f'sh -c "{sys.executable} -c \\"{opener}\\"; true"'
    assert "@[late]: 1" in run_trace("-a", "-e", script, "-c", command).stdout


def test_kernel_stacks_begin_in_what_runs_the_probe() -> None:
    lengths = "len(kstack(3)), len(kstack) > 3"
    probe = "tracepoint:sched:sched_switch /pid == cpid/"
    named = run_trace("-e", f"{probe} {{ print((kstack(3), {lengths})); }}", "-c", "sleep 0.1").stdout
    frames = [line.split("+")[0].strip(" (") for line in named.split("\n") if "+" in line]
    assert frames[:2] == ["__schedule", "schedule"] or "schedule" in "".join(frames[:3])
    assert named.count(", 3, true)") == len(frames) // 3
    raw = run_trace("-e", f"{probe} {{ print(kstack(raw, 2)); exit(); }}", "-c", "sleep 0.1").stdout
    assert all(line.startswith("ffff") for line in raw.split())


def test_a_result_is_in_the_register_of_that_role(program: Path) -> None:
    script = f'uretprobe:{program}:eight {{ print((reg("result"), (int64)retval, reg("sp") != 0)); }}'
    assert run_trace("-e", script, "-c", str(program)).stdout.strip() == "(801, 801, true)"


# Settings


def test_settings_of_environment_and_script_are_taken_or_refused(program: Path) -> None:
    stack = f"uprobe:{program}:inner {{ print(ustack(1)); }}"
    run = ("-c", str(program))
    perf = run_trace(*run, "-e", f"config = {{ stack_mode = perf }} {stack}").stdout
    assert f"inner+0 ({program})" in perf
    raw = run_trace(
        *run, "-e", f"config = {{ stack_mode = perf }} {stack}", env={"BPFTRACE_STACK_MODE": "raw"}
    ).stdout
    assert "inner" not in raw
    for setting, message in [
        ("stackmode = perf", "unknown setting 'stackmode' in config; did you mean 'stack_mode'?"),
        ("stack_mode = nice", "stack_mode is bpftrace, perf or raw, not 'nice'"),
        ("max_map_keys = 0", "max_map_keys must be 1 to"),
        ("print_maps_on_exit = maybe", "print_maps_on_exit must be true or false"),
    ]:
        with pytest.raises(ScriptError, match=message.replace("?", "\\?")):
            insitu.trace(f"config = {{ {setting} }} BEGIN {{ exit(); }}")
    accepted = 'cache_user_symbols = PER_PID; log_size = 10; on_stack_limit = 8; license = "GPL v2"; max_map_keys = 2'
    assert "x" in run_trace("-e", f'config = {{ {accepted} }} BEGIN {{ printf("x"); exit(); }}').stdout


def test_places_that_are_missing_are_an_error_a_warning_or_nothing(program: Path) -> None:
    script = f'uprobe:{program}:nothing {{ @ = 1; }} BEGIN {{ printf("on"); exit(); }}'
    assert "there is no function nothing" in run_trace("-e", script, status=1).stderr
    warned = run_trace("-e", f"config = {{ missing_probes = warn }} {script}")
    assert warned.stdout.startswith("on") and "there is no function nothing" in warned.stderr
    ignored = run_trace("-e", script, env={"BPFTRACE_MISSING_PROBES": "ignore"})
    assert ignored.stdout.startswith("on") and ignored.stderr == ""


def test_names_of_cpp_are_shown_as_they_are_in_the_file_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "it.cc").write_text(
        'namespace space { __attribute__((noinline)) int call(int n) { __asm__ volatile(""); return n; } }\n'
        "int main() { return space::call(0); }\n"
    )
    built = tmp_path / "it"
    subprocess.run(["g++", "-O1", "-o", built, tmp_path / "it.cc"], check=True)
    script = f'uprobe:{built}:_ZN5space4callEi {{ printf("%s|", usym(reg("ip"))); }}'
    assert "space::call|" in run_trace("-e", script, "-c", str(built)).stdout
    plain = run_trace("-e", script, "-c", str(built), env={"BPFTRACE_CPP_DEMANGLE": "false"}).stdout
    assert "_ZN5space4callEi|" in plain


def test_printf_of_percent_c_and_p_is_the_c_librarys() -> None:
    buffer = ctypes.create_string_buffer(100)
    ctypes.CDLL(None).snprintf(buffer, 100, b"%c%c|%p|%5c|%-20s|%08llx|%ld", *map(ctypes.c_int, b"hi"),
                               ctypes.c_void_p(0xABC), ctypes.c_int(33), b"text", ctypes.c_longlong(-1),
                               ctypes.c_long(-5))  # fmt: skip
    script = 'BEGIN { printf("%c%c|%p|%5c|%-20s|%08llx|%ld", 104, 105, 0xabc, 33, "text", -1, -5); exit(); }'
    assert run_trace("-e", script).stdout.rstrip("\n") == buffer.value.decode()


def test_types_of_the_kernel_may_come_from_a_file(tmp_path: Path) -> None:
    own = Path("/sys/kernel/btf/vmlinux")
    if not own.exists():
        pytest.skip("this kernel describes no types")
    script = "BEGIN { print(curtask->tgid == pid); exit(); }"
    (tmp_path / "types").write_bytes(own.read_bytes())
    (tmp_path / "none").write_bytes(own.read_bytes()[:1000])
    assert run_trace("-e", script, env={"BPFTRACE_BTF": str(tmp_path / "types")}).stdout.split() == ["true"]
    for name, status in (("none", 1), ("missing", 1)):
        message = run_trace("-e", script, status=status, env={"BPFTRACE_BTF": str(tmp_path / name)}).stderr
        assert "Traceback" not in message and message.startswith("insitu: ")


def test_text_that_was_cut_is_marked_where_that_is_asked_for() -> None:
    script = 'config = { str_trunc_trailer = "~"; max_strlen = 5 } BEGIN { $long = str($1); $short = str($2); '
    script += 'printf("%s %s %s|", $long, $short, comm); print($long); @x[$long] = 1; exit(); }'
    shown = run_trace("-e", script, "abcdef", "abc").stdout
    comm = shown.split("|")[0].split()[2]
    assert shown.split("|")[0] == f"abcd~ abc {comm}" and "~" not in comm
    assert "|abcd~\n" in shown and "@x[abcd~]: 1" in shown


def test_names_of_attach_points_are_compared_and_searched_as_text(program: Path) -> None:
    script = f"""
        uprobe:{program}:outer, uprobe:{program}:inner {{
            $is_inner = probe == "uprobe:{program}:inner";
            printf("%s %d %d %d %d\\n", func, func == "outer", $is_inner, strcontains(func, "nn"), strlen(func));
            $name = func;
            @[$name] = $name == "inner" ? 1 : 2;
            @["text"] = strncmp(probe, "uprobe:", 7) == 0 ? 3 : 4;
            @kept = cpu < 0 ? "none" : func;
        }}
        uprobe:{program}:eight {{
            printf("%d %d %s\\n", func == "eight", strcontains(probe, "it:ei"), str(func, 4));
        }}
        """
    output = run_trace("-e", script, "-c", str(program)).stdout.split()
    shown = "outer 1 0 0 5 inner 0 1 1 5 1 1"
    assert " ".join(output).startswith(shown)
    assert " ".join(output).endswith("@[inner]: 1 @[outer]: 2 @[text]: 3 @kept: inner")

"""What latency tracers of real kernels have written (Debian's 6.1.0-56-rt, and Documentation/trace/ftrace.rst)."""

import pytest

from insitu.convert.latency_text import Measured, StackFrame, measured, section, stack_frames, stacks

WAKEUP = """\
# tracer: wakeup
#
# wakeup latency trace v1.1.5 on 6.1.0-56-rt-amd64
# --------------------------------------------------------------------
# latency: 10541 us, #5/5, CPU#0 | (M:preempt_rt VP:0, KP:0, SP:0 HP:0 #P:2)
#    -----------------
#    | task: rcuc/0-19 (uid:0 nice:0 policy:1 rt_prio:1)
#    -----------------
#
   sleep-184       0dn.h4..    4us!:      184:120:R   + [000]      19: 98:R rcuc/0
   sleep-184       0dn.h4..  146us : <stack trace>
 => probe_wakeup
 => try_to_wake_up
 => asm_sysvec_apic_timer_interrupt
   sleep-184       0dn.h4.. 10282us!: 0
   sleep-184       0d...3.. 10492us+:      184:120:R ==> [000]      19: 98:R rcuc/0
   sleep-184       0d...3.. 10539us : <stack trace>
 => probe_wakeup_sched_switch
 => __schedule
"""
IRQSOFF = """\
# tracer: irqsoff
#
# irqsoff latency trace v1.1.5 on 3.8.0-test+
# --------------------------------------------------------------------
# latency: 16 us, #4/4, CPU#0 | (M:preempt VP:0, KP:0, SP:0 HP:0 #P:4)
#    -----------------
#    | task: swapper/0-0 (uid:0 nice:0 policy:0 rt_prio:0)
#    -----------------
#  => started at: run_timer_softirq
#  => ended at:   run_timer_softirq
#
  <idle>-0       0d.s2    0us+: _raw_spin_lock_irq <-run_timer_softirq
  <idle>-0       0dNs3   25us : <stack trace>
 => _raw_spin_unlock_irq
 => run_timer_softirq
"""
OSNOISE = """\
# tracer: osnoise
#           TASK-PID      CPU# |||||||   TIMESTAMP    IN US       IN US  AVAILABLE  IN US     HW    NMI    IRQ   SIRQ THREAD
           <...>-189     [000] .......    27.434856: 1002936     676689  32.52919   55512    234      0    197      0    204
"""  # noqa: E501
TIMERLAT = """\
# tracer: timerlat
          <idle>-0       [001] d..h1..    30.819588: #1     context    irq timer_latency   2743741 ns
           <...>-195     [001] .......    30.821110: #1     context thread timer_latency   4273734 ns
           <...>-195     [001] .......    30.821111: <stack trace>
"""
HWLAT = """\
# tracer: hwlat
# entries-in-buffer/entries-written: 3/3   #P:2
           <...>-198     [001] dn.....    33.471538: #1     inner/outer(us): 28083/18770 ts:1795794668.661895339 count:2268
"""  # noqa: E501
STACK = """\
        Depth    Size   Location    (3 entries)
        -----    ----   --------
  0)     3768      48   __rcu_read_lock+0x5/0x30
  1)     3720      24   p9_client_prepare_req+0x99/0x1b0 [9pnet]
"""


def test_a_wakeup_has_its_task_and_the_stacks_of_the_waker_and_of_the_switch() -> None:
    found = section(WAKEUP)
    assert found is not None
    assert (found.latency_ns, found.cpu) == (10_541_000, 0)
    assert found.task == "rcuc/0-19 (uid:0 nice:0 policy:1 rt_prio:1)"
    assert found.stacks == (
        ("probe_wakeup", "try_to_wake_up", "asm_sysvec_apic_timer_interrupt"),
        ("probe_wakeup_sched_switch", "__schedule"),
    )
    assert len(found.lines) == 5


def test_a_section_has_where_it_started_and_ended() -> None:
    found = section(IRQSOFF)
    assert found is not None
    assert (found.latency_ns, found.started, found.ended) == (16_000, "run_timer_softirq", "run_timer_softirq")
    assert found.stacks == (("_raw_spin_unlock_irq", "run_timer_softirq"),)


def test_a_tracer_that_has_found_nothing_has_no_section() -> None:
    assert section("# tracer: wakeup\n#\n") is None


def test_a_period_of_osnoise_has_its_noise_and_what_interfered() -> None:
    assert list(measured(OSNOISE)) == [
        Measured(27_434_856_000, 0, "", 55_512_000, 1_002_936_000, 676_689_000, 234, 0, 197, 0, 204)
    ]


def test_a_timer_is_measured_in_its_interrupt_and_in_its_thread() -> None:
    assert list(measured(TIMERLAT)) == [
        Measured(30_819_588_000, 1, "irq", 2_743_741),
        Measured(30_821_110_000, 1, "thread", 4_273_734),
    ]


def test_a_gap_of_hwlat_is_inside_and_between_its_loops() -> None:
    assert [(row.context, row.latency_ns) for row in measured(HWLAT)] == [
        ("inner", 28_083_000),
        ("outer", 18_770_000),
    ]


def test_the_deepest_stack_has_its_frames() -> None:
    assert stack_frames(STACK) == [
        StackFrame(3768, 48, "__rcu_read_lock+0x5/0x30"),
        StackFrame(3720, 24, "p9_client_prepare_req+0x99/0x1b0 [9pnet]"),
    ]


@pytest.mark.parametrize("text", ["", "\0", "# latency: x us", "[0] 1.1: #1 context irq timer_latency", "9" * 10000])
def test_other_text_is_nothing(text: str) -> None:
    assert not list(measured(text)) and not stack_frames(text)


# Debian's 6.1.0-56-rt: what the interrupt did not fill is zero.
LATE = """\
           <...>-155     [000] d..h...    42.466996: #919   context    irq timer_latency 2038239056 ns
           <...>-155     [000] d..h1..    42.467282: <stack trace>
 => timerlat_irq
 => asm_sysvec_apic_timer_interrupt
 => without_interrupts
 => 0
 => 0
"""


def test_the_stack_of_a_late_timer_ends_where_the_kernel_did_not_fill_it() -> None:
    assert stacks(LATE) == [("timerlat_irq", "asm_sysvec_apic_timer_interrupt", "without_interrupts")]
    assert [each.latency_ns for each in measured(LATE)] == [2038239056]


def test_of_many_stacks_the_last_are_kept() -> None:
    text = "".join(f" x-1 [000] 1.0: <stack trace>\n => f{number}\n" for number in range(40))
    assert stacks(text)[-1] == ("f39",)
    assert len(stacks(text)) == 16

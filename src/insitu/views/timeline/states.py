"""Thread states of a session that has only spans of waits (insitu profile --off-cpu)."""

from insitu.convert.thread_states import STATES

__all__ = ["off_cpu_states"]

# Names of waits (convert/off_cpu.py) that are other words for a state.
_NAMES = {
    "sleep": "sleeping",
    "uninterruptible sleep": "uninterruptible",
    "ended": "exited",
    "unknown state": "unknown",
}


def off_cpu_states() -> str:
    """SQL: the columns of thread_state from the spans of the categories off-cpu and run-queue.

    Between two waits a thread ran, on the CPU that it left at the second: to move it must leave the CPU.
    """
    names = " ".join(f"when '{name}' then '{state}'" for name, state in _NAMES.items())
    known = ", ".join(f"'{state}'" for state in STATES)
    return f"""(
        with waits as (
            select *, lead(ts_ns) over each as next_ns, lead(cpu) over each as next_cpu
            from span where category = 'off-cpu' window each as (partition by utid order by ts_ns)
        ), states as (
            select ts_ns, case when dur_ns is null then null else coalesce(self_ns, dur_ns) end as dur_ns, utid,
                -1 as cpu, case name {names} else name end as state, stack
            from waits
            union all
            select ts_ns, dur_ns, utid, -1, 'runnable', stack from span where category = 'run-queue'
            union all
            select ts_ns + dur_ns, next_ns - ts_ns - dur_ns, utid, next_cpu, 'running', 0
            from waits where next_ns > ts_ns + dur_ns
        )
        select * replace (case when state in ({known}) then state else 'unknown' end as state), null as waker
        from states
    )"""

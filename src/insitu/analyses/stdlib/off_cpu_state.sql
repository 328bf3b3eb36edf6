-- When each thread was off the CPU, and on it or runnable in between: from spans of the category off-cpu.
-- question: did a thread work, or did it wait, and for how long?
-- inputs: span
-- utid: the thread
-- ts_ns: when the state began
-- dur_ns: how long; null if its end is unknown
-- state: off-cpu or on-cpu
-- name: the wait's name; empty for on-cpu
-- stack: what waited; 0 for on-cpu
create view off_cpu_state as
with waits as (
    select utid, ts_ns, dur_ns, name, stack, lead(ts_ns) over (partition by utid order by ts_ns) as next_ns
    from span where category = 'off-cpu'
)
select utid, ts_ns, dur_ns, 'off-cpu' as state, name, stack from waits
union all
select utid, ts_ns + dur_ns, (next_ns - ts_ns - dur_ns)::bigint, 'on-cpu', '', 0
from waits where next_ns > ts_ns + dur_ns;

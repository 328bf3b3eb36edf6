-- The wall time of each thread: blocked in which system call, runnable without a CPU, and running; adds up to all of it.
-- question: what did each thread do all the time, and in which call did it wait?
-- inputs: span, stack, frame, thread, process
-- report: 0 threads, wall time
-- pid: its process
-- tid: the thread's id in the kernel
-- thread: its name
-- state: running, runnable, or blocked
-- what: of blocked, the system call that it was in, by the calls recorded or the kernel's stack; empty where it was in none (a page fault, a stop)
-- dur_ns: how long, in all
-- percent: of the thread's time within the recording
create view thread_wall as
with ends as (select min(ts_ns) as first_ns, max(ts_ns + coalesce(dur_ns, 0)) as last_ns from span),
life as (
    select t.utid, t.tid, t.upid, t.name, greatest(t.start_ns, e.first_ns) as from_ns,
           coalesce(t.end_ns, e.last_ns) as until_ns
    from thread t, ends e
    where t.utid <> 0 and exists (select 1 from span where category = 'off-cpu')
),
entered as (
    select k.stack, any_value(regexp_extract(k.function, '^__(?:x64|ia32|ia32_compat|arm64|riscv|s390x)_sys_(.+)$', 1)) as name
    from stack_frame k
    where k.kind = 'kernel' and regexp_matches(k.function, '^__(?:x64|ia32|ia32_compat|arm64|riscv|s390x)_sys_.')
    group by k.stack
),
wait as (
    select utid, category, name, stack, ts_ns, ts_ns + coalesce(self_ns, dur_ns) as until_ns
    from span
    where category in ('off-cpu', 'run-queue') and dur_ns is not null
),
call as (
    select utid, ts_ns, coalesce(ts_ns + dur_ns, 9223372036854775807) as until_ns, name
    from span where category = 'syscall'
),
part as (
    select w.utid, case when w.category = 'run-queue' or w.name = 'preempted' then 'runnable' else 'blocked' end as state,
           case when w.category <> 'off-cpu' or w.name = 'preempted' then ''
                when c.until_ns >= w.ts_ns then c.name
                else coalesce(e.name, '') end as what,
           greatest(least(w.until_ns, l.until_ns) - greatest(w.ts_ns, l.from_ns), 0) as dur_ns
    from wait w
    join life l on l.utid = w.utid
    left join entered e on e.stack = w.stack
    asof left join call c on c.utid = w.utid and w.ts_ns >= c.ts_ns
),
state as (
    select utid, state, what, sum(dur_ns)::bigint as dur_ns from part group by all
    union all
    select l.utid, 'running', '', (l.until_ns - l.from_ns - coalesce(p.dur_ns, 0))::bigint
    from life l
    left join (select utid, sum(dur_ns) as dur_ns from part group by utid) p on p.utid = l.utid
)
select p.pid, l.tid, l.name as thread, s.state, s.what, s.dur_ns,
       round(100.0 * s.dur_ns / (l.until_ns - l.from_ns), 2) as percent
from state s
join life l on l.utid = s.utid and l.until_ns > l.from_ns
left join process p on p.upid = l.upid
order by p.pid, l.tid, s.dur_ns desc;

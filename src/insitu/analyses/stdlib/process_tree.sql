-- Processes as a tree: each below the one that started it, in order of their start.
-- question: what was started, by what, with which command line, and how long did it run?
-- inputs: process
-- report: 6 processes
-- pid: the process's id in the kernel
-- dur_ns: from its start to its end; null if one of them was not seen
-- command: its last command line, to be pasted into a shell, else its program; two columns in for each ancestor
create view process_tree as
with recursive tree as (
    select upid, pid, start_ns, end_ns, cmdline, exe, 0 as depth, [start_ns, upid] as place
    from process
    where upid <> 0 and (parent_upid is null or parent_upid = 0 or parent_upid = upid)
    union all
    select p.upid, p.pid, p.start_ns, p.end_ns, p.cmdline, p.exe, t.depth + 1, t.place || [p.start_ns, p.upid]
    from process p
    join tree t on p.parent_upid = t.upid
    where p.upid <> t.upid and t.depth < 1000
)
select pid, case when start_ns > 0 then end_ns - start_ns end as dur_ns,
       repeat('  ', depth) || case when cmdline <> '' then cmdline else exe end as command
from tree
order by place;

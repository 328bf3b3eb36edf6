-- System calls with their thread, their process, and what their descriptor was open on.
-- question: which call, by whom, on which file, with what result?
-- inputs: syscall, span, thread, process, descriptor
-- span_id: the call
-- ts_ns: when it was entered
-- dur_ns: how long it took; null if it did not return
-- utid: the thread
-- upid: its process
-- pid: the process's id in the kernel
-- name: the call's name
-- arguments: as strace(1) shows them
-- ret: what it returned; null if it did not
-- errno: the error; null if none
-- fd: the first descriptor among the arguments; null if none
-- file: what was opened or the descriptor was open on, else the first path among the arguments; null if not known
-- kind: what the descriptor was open on (file, socket, ...); null if not known
create view syscall_call as
with call as (
    select c.*, s.ts_ns, s.dur_ns, s.utid, s.name, t.upid, p.pid,
           s.name in ('open', 'openat', 'openat2', 'creat') and c.ret >= 0 as opens
    from syscall c
    join span s on s.id = c.span_id and s.category = 'syscall'
    left join thread t on t.utid = s.utid
    left join process p on p.upid = t.upid
),
used as (
    select *, case when opens then ret else fd end as descriptor,
           case when opens then ts_ns + dur_ns else ts_ns end as at_ns
    from call
)
select c.span_id, c.ts_ns, c.dur_ns, c.utid, c.upid, c.pid, c.name, c.arguments, c.ret, c.errno, c.fd,
       case when (c.opens or coalesce(c.path, '') = '') and (d.until_ns is null or d.until_ns >= c.at_ns) then d.path
            else c.path end as file,
       case when d.until_ns is null or d.until_ns >= c.at_ns then d.kind end as kind
from used c
asof left join descriptor d on d.upid = c.upid and d.fd = c.descriptor and c.at_ns >= d.from_ns;

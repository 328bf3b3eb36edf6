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
-- file: the first path among the arguments, else what the descriptor was open on; null if neither is known
-- kind: what the descriptor was open on (file, socket, ...); null if not known
create view syscall_call as
select c.span_id, s.ts_ns, s.dur_ns, s.utid, t.upid, p.pid, s.name, c.arguments, c.ret, c.errno, c.fd,
       case when c.path is not null and c.path <> '' then c.path
            when d.until_ns is null or d.until_ns >= s.ts_ns then d.path end as file,
       case when d.until_ns is null or d.until_ns >= s.ts_ns then d.kind end as kind
from syscall c
join span s on s.id = c.span_id and s.category = 'syscall'
left join thread t on t.utid = s.utid
left join process p on p.upid = t.upid
asof left join descriptor d on d.upid = t.upid and d.fd = c.fd and s.ts_ns >= d.from_ns;

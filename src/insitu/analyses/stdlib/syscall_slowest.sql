-- System calls, the slowest first.
-- question: which single calls took long?
-- inputs: syscall_call
-- uses: syscall_call
-- report: 2 slowest calls
-- dur_ns: how long it took
-- ts_ns: when it was entered
-- pid: the process
-- name: the call
-- arguments: as strace(1) shows them
-- ret: what it returned
-- file: the file that it was about; null if none is known
create view syscall_slowest as
select dur_ns, ts_ns, pid, name, arguments, ret, file
from syscall_call
where dur_ns is not null
order by dur_ns desc, ts_ns;

-- Samples with the thread and process that they were taken in.
-- question: which thread, of which process, and under which name was it sampled?
-- inputs: sample, event_type, thread, thread_name, process
-- ts_ns: when
-- utid: the thread
-- tid: the thread's id in the kernel
-- thread: its name at that time
-- upid: the process
-- pid: the process's id in the kernel
-- exe: the process's program
-- cpu: where; -1 if not known
-- event: what was sampled
-- unit: what weight counts
-- weight: what the sample stands for, in unit
-- stack: the leaf of its stack
create view sample_with_thread as
select s.ts_ns, s.utid, t.tid, coalesce(n.name, t.name, '') as thread, t.upid, p.pid, p.exe,
       s.cpu, e.name as event, e.unit, s.weight, s.stack
from sample s
left join event_type e on e.id = s.event_type
left join thread t on t.utid = s.utid
left join process p on p.upid = t.upid
asof left join thread_name n on n.utid = s.utid and s.ts_ns >= n.ts_ns;

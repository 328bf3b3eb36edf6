-- Samples of each thread, all its names together, by event.
-- question: which threads used the CPU, or caused the event?
-- inputs: sample, event_type, thread, process
-- event: what was sampled
-- utid: the thread
-- tid: the thread's id in the kernel
-- thread: the last name that it had
-- pid: the process's id in the kernel
-- exe: the process's program
-- samples: number of samples
-- weight: sum of their weights, in unit
-- unit: what weight counts
create view thread_samples as
select e.name as event, s.utid, t.tid, t.name as thread, p.pid, p.exe, s.samples, s.weight, e.unit
from (
    select event_type, utid, count(*) as samples, sum(weight)::bigint as weight from sample group by event_type, utid
) s
left join event_type e on e.id = s.event_type
left join thread t on t.utid = s.utid
left join process p on p.upid = t.upid;

-- System calls added up by name.
-- question: what does the program ask of the kernel, how long does that take, and what fails?
-- inputs: syscall_call
-- uses: syscall_call
-- report: 1 calls
-- name: the call
-- calls: number of calls
-- errors: calls that returned an error
-- unfinished: calls that did not return
-- total_ns: sum of their durations
-- mean_ns: mean duration
-- p50_ns: median duration
-- p99_ns: 99th percentile
-- max_ns: longest duration
create view syscall_summary as
select name, count(*) as calls, count(errno) as errors, count(*) - count(dur_ns) as unfinished,
       coalesce(sum(dur_ns), 0)::bigint as total_ns, avg(dur_ns)::bigint as mean_ns,
       quantile_cont(dur_ns, 0.5)::bigint as p50_ns, quantile_cont(dur_ns, 0.99)::bigint as p99_ns,
       max(dur_ns) as max_ns
from syscall_call
group by name
order by total_ns desc, name;

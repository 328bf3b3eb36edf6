-- Spans added up by category and name.
-- question: which calls, waits or requests took longest, in all and each?
-- inputs: span_self
-- uses: span_self
-- category: such as off-cpu, syscall, block
-- name: what it was
-- spans: number of spans that ended
-- total_ns: sum of their durations
-- self_ns: the same less the spans inside
-- mean_ns: mean duration
-- p50_ns: median duration
-- p99_ns: 99th percentile
-- max_ns: longest duration
create view span_summary as
select category, name, count(dur_ns) as spans, sum(dur_ns)::bigint as total_ns, sum(self_ns)::bigint as self_ns,
       avg(dur_ns)::bigint as mean_ns, quantile_cont(dur_ns, 0.5)::bigint as p50_ns,
       quantile_cont(dur_ns, 0.99)::bigint as p99_ns, max(dur_ns) as max_ns
from span_self
where dur_ns is not null
group by category, name;

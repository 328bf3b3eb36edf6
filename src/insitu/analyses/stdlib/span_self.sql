-- Spans with the time of the spans directly inside each, and what is left.
-- question: how long did a call or request take by itself?
-- inputs: span
-- id: the span
-- ts_ns: when it began
-- dur_ns: how long; null if its end is unknown
-- utid: the thread
-- category: such as off-cpu, syscall, block
-- name: what it was
-- parent: the span around it; null if none
-- depth: number of spans around it
-- children_ns: duration of the spans directly inside, as far as they ended
-- self_ns: dur_ns less children_ns; null if its end is unknown
create view span_self as
select s.id, s.ts_ns, s.dur_ns, s.utid, s.category, s.name, s.parent, s.depth,
       coalesce(c.dur_ns, 0)::bigint as children_ns,
       greatest(s.dur_ns - coalesce(c.dur_ns, 0), 0)::bigint as self_ns
from span s
left join (select parent, sum(dur_ns) as dur_ns from span where parent is not null group by parent) c
  on c.parent = s.id;

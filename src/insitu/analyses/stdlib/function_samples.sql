-- Samples of each function, by itself and with all that it calls, by event.
-- question: where does the time go?
-- inputs: sample, event_type, stack_frame
-- uses: stack_frame
-- event: what was sampled
-- function: the function
-- module: its file
-- self_samples: samples in the function itself
-- total_samples: samples with the function anywhere on the stack, each counted once however deep the recursion
-- self_weight: weight of the former, in unit
-- total_weight: weight of the latter, in unit
-- unit: what weights count
create view function_samples as
with leaf as (
    select event_type, stack, count(*) as samples, sum(weight)::bigint as weight from sample group by all
),
on_stack as (
    select stack, function, module, min(position) = 0 as is_leaf from stack_frame
    where stack in (select stack from leaf) group by all
)
select e.name as event, o.function, o.module,
       coalesce(sum(l.samples) filter (o.is_leaf), 0)::bigint as self_samples,
       sum(l.samples)::bigint as total_samples,
       coalesce(sum(l.weight) filter (o.is_leaf), 0)::bigint as self_weight,
       sum(l.weight)::bigint as total_weight,
       e.unit
from leaf l
join on_stack o on o.stack = l.stack
left join event_type e on e.id = l.event_type
group by e.name, o.function, o.module, e.unit;

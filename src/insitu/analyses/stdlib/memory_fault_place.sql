-- Faults in the use of the heap, in the order of time, each with its function and those of the block.
-- question: what corrupts memory, and where?
-- inputs: memory_fault, stack_frame, thread, process
-- uses: stack_frame
-- report: 1 memory faults
-- ts_ns: when
-- pid: the process
-- kind: what was wrong
-- access: read, write, or found later; empty for calls
-- offset_bytes: from the start of the block; null: no block is concerned
-- block_bytes: size of the block
-- place: the innermost function
-- allocated: the function that allocated the block
-- freed: the function that freed it
create view memory_fault_place as
with innermost as (select stack, function from stack_frame where position = 0)
select f.ts_ns, p.pid, f.kind, f.access, f.offset_bytes, f.block_bytes,
       i.function as place, a.function as allocated, d.function as freed
from memory_fault f
left join thread t on t.utid = f.utid
left join process p on p.upid = t.upid
left join innermost i on i.stack = f.stack
left join innermost a on a.stack = f.allocated_stack
left join innermost d on d.stack = f.freed_stack
order by f.ts_ns;

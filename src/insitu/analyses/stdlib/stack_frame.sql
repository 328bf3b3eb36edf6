-- Every frame of every stack: a stack of 30 frames has 30 rows.
-- question: what is on a stack, and which stacks have a function anywhere on them?
-- inputs: stack, frame
-- stack: the stack, by the id of its leaf
-- position: 0 for the leaf, 1 for its caller, and so on
-- function: the function
-- module: its file
-- file: source file; empty if not known
-- line: source line; 0 if not known
-- kind: user, kernel, jit or python
-- symbolized: whether function is a symbol's name
create view stack_frame as
with recursive chain as (
    select id as stack, id as node, 0 as position from stack where id <> 0
    union all
    select chain.stack, stack.parent, chain.position + 1
    from chain join stack on stack.id = chain.node
    where stack.parent <> 0
)
select chain.stack, chain.position, frame.function, frame.module, frame.file, frame.line, frame.kind, frame.symbolized
from chain
join stack on stack.id = chain.node
join frame on frame.id = stack.frame;

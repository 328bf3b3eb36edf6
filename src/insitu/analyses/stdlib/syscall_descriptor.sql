-- Descriptors: what each was open on, from when until when, and how it was used.
-- question: where was a descriptor opened, what went through it, and was it closed?
-- inputs: descriptor, process, syscall_call
-- uses: syscall_call
-- report: 5 descriptors
-- spare: kind, from_ns, until_ns, total_ns
-- pid: the process
-- fd: the descriptor
-- kind: file, directory, device, fifo, socket or other
-- from_ns: when it was opened, inherited or first seen
-- until_ns: when it was closed or replaced; null if that was not seen
-- calls: calls on it
-- read_bytes: bytes that calls returned from it
-- write_bytes: bytes that calls took for it
-- total_ns: time in these calls
-- file: what it was open on
-- opened_by: the call that made it, with its arguments; null if it was open before, or is one of a pair
create view syscall_descriptor as
with used as (
    select d.upid, d.fd, d.from_ns, count(*) as calls,
           coalesce(sum(c.ret) filter (c.ret > 0 and c.name in ('read', 'pread64', 'readv', 'preadv', 'preadv2',
               'recvfrom', 'recvmsg')), 0)::bigint as read_bytes,
           coalesce(sum(c.ret) filter (c.ret > 0 and c.name in ('write', 'pwrite64', 'writev', 'pwritev', 'pwritev2',
               'sendto', 'sendmsg')), 0)::bigint as write_bytes,
           coalesce(sum(c.dur_ns), 0)::bigint as total_ns
    from syscall_call c
    asof join descriptor d on d.upid = c.upid and d.fd = c.fd and c.ts_ns >= d.from_ns
    where d.until_ns is null or c.ts_ns <= d.until_ns
    group by d.upid, d.fd, d.from_ns
),
opener as (
    select upid, ret as fd, ts_ns, ts_ns + dur_ns as until_ns, name || '(' || arguments || ')' as text
    from syscall_call
    where name in ('open', 'openat', 'openat2', 'creat', 'dup', 'dup2', 'dup3', 'fcntl', 'socket', 'accept',
        'accept4', 'epoll_create', 'epoll_create1', 'eventfd', 'eventfd2', 'memfd_create', 'timerfd_create',
        'signalfd4', 'inotify_init1', 'pidfd_open', 'perf_event_open') and ret >= 0
)
select p.pid, d.fd, d.kind, d.from_ns, d.until_ns, coalesce(u.calls, 0) as calls,
       coalesce(u.read_bytes, 0) as read_bytes, coalesce(u.write_bytes, 0) as write_bytes,
       coalesce(u.total_ns, 0) as total_ns, d.path as file, case when o.until_ns >= d.from_ns then o.text end as opened_by
from descriptor d
left join process p on p.upid = d.upid
left join used u on u.upid = d.upid and u.fd = d.fd and u.from_ns = d.from_ns
asof left join opener o on o.upid = d.upid and o.fd = d.fd and d.from_ns >= o.ts_ns
order by read_bytes + write_bytes desc, d.from_ns;

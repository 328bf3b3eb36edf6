-- Peers: addresses that sockets were connected or sent to, or accepted from.
-- question: whom does the program talk to, how much, and how long does it wait for them?
-- inputs: syscall_call, descriptor
-- uses: syscall_call
-- report: 4 peers
-- peer: the address, as strace(1) shows it
-- sockets: sockets with this peer
-- failed: connections that failed
-- read_bytes: bytes received
-- write_bytes: bytes sent
-- total_ns: time in calls on these sockets
create view syscall_peer as
with addressed as (
    select c.upid, c.ts_ns + coalesce(c.dur_ns, 0) as end_ns, c.errno, regexp_extract(c.arguments, '\{sa_family=.*\}') as peer,
           case when c.name in ('accept', 'accept4') then c.ret else c.fd end as fd
    from syscall_call c
    where c.name in ('connect', 'accept', 'accept4', 'sendto') and c.arguments like '%{sa_family=%'
),
sockets as (
    select a.peer, d.upid, d.fd, d.from_ns, d.until_ns,
           count(*) filter (a.errno is not null and a.errno <> 115) as failed
    from addressed a
    asof join descriptor d on d.upid = a.upid and d.fd = a.fd and a.end_ns >= d.from_ns
    group by all
),
used as (
    select s.peer,
           coalesce(sum(u.ret) filter (u.ret > 0 and u.name in ('read', 'readv', 'recvfrom', 'recvmsg')), 0) as got,
           coalesce(sum(u.ret) filter (u.ret > 0 and u.name in ('write', 'writev', 'sendto', 'sendmsg')), 0) as given,
           coalesce(sum(u.dur_ns), 0) as total_ns
    from sockets s
    left join syscall_call u on u.upid = s.upid and u.fd = s.fd and u.ts_ns >= s.from_ns
         and (s.until_ns is null or u.ts_ns <= s.until_ns)
    group by s.peer
)
select s.peer, count(*) as sockets, sum(s.failed)::bigint as failed, any_value(u.got)::bigint as read_bytes,
       any_value(u.given)::bigint as write_bytes, any_value(u.total_ns)::bigint as total_ns
from sockets s
join used u on u.peer = s.peer
group by s.peer
order by total_ns desc, s.peer;

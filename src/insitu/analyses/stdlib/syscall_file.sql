-- System calls added up by file: by the path that was given, or what the descriptor was open on.
-- question: which files are looked for, opened, read and written, by how many calls, and for how long?
-- inputs: syscall_call
-- uses: syscall_call
-- report: 3 files
-- file: the file; a relative path as it was given; sockets and pipes as socket:[INODE]
-- calls: number of calls
-- opened: successful opens
-- not_found: calls that failed with ENOENT
-- errors: calls that failed, those included
-- read_bytes: bytes that calls returned from it
-- write_bytes: bytes that calls took for it
-- total_ns: time in these calls
create view syscall_file as
select file, count(*) as calls,
       count(*) filter (name in ('open', 'openat', 'openat2', 'creat') and ret >= 0) as opened,
       count(*) filter (errno = 2) as not_found, count(errno) as errors,
       coalesce(sum(ret) filter (ret > 0 and name in ('read', 'pread64', 'readv', 'preadv', 'preadv2',
           'recvfrom', 'recvmsg')), 0)::bigint as read_bytes,
       coalesce(sum(ret) filter (ret > 0 and name in ('write', 'pwrite64', 'writev', 'pwritev', 'pwritev2',
           'sendto', 'sendmsg')), 0)::bigint as write_bytes,
       coalesce(sum(dur_ns), 0)::bigint as total_ns
from syscall_call
where file is not null
group by file
order by total_ns desc, file;

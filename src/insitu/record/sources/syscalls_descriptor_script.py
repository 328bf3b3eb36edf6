"""The part of the script for system calls (syscalls_script.py) that says what descriptors are open on."""

from __future__ import annotations

import errno
import fcntl
import os

from insitu.record.sources.syscalls_call_script import NUMBER, arguments, identified
from insitu.record.sources.syscalls_map_words import (
    MOVES,
    ON_SOCKET,
    OPENS,
    OPENS_BY_FCNTL,
    OPENS_PAIR,
    OPENS_PAIR_AT_3,
    WORKING_DIRECTORY,
)
from insitu.record.sources.syscalls_memory_script import indented
from insitu.syscalls.call_word import abis_of
from insitu.syscalls.facts import facts_of

__all__ = ["described", "netlink_protocol", "socket_addresses"]

_MESSAGES = ("sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "recvmmsg_time64")
_AF_NETLINK = 16


def _of_target(fails: str) -> list[str]:
    """$call of a call of the target, whether it is recorded or not."""
    return [
        "$new = @task[tid];",
        f"if (($new == 0 && (@whole == 0 || pid == @self)) || {fails}) {{ return; }}",
        *identified(NUMBER),
        "$call = @opens[$key];",
    ]


def described() -> list[str]:
    """At exit, before the exit is sent: what new descriptors are open on. A program of its own: the verifier takes as
    long for this as for all the rest, and longer for both in a row."""
    return [
        *_of_target("args.ret < 0"),
        f"if (($call & {OPENS | MOVES}) == 0) {{ return; }}",
        "$fd = (uint64)args.ret;",
        "$other = (uint64)0xffffffff;",
        f"if ($call & {OPENS_PAIR | OPENS_BY_FCNTL}) {{",
        *indented(arguments("$compat")),
        f"    if ($call & {OPENS_PAIR}) {{",
        f"        $pair = $call & {OPENS_PAIR_AT_3} ? $a3 : $a0;",
        "        $fd = (uint64)*(uint32 *)uptr($pair);",
        "        $other = (uint64)*(uint32 *)uptr($pair + 4);",
        f"    }} else if ($a1 != {fcntl.F_DUPFD} && $a1 != {fcntl.F_DUPFD_CLOEXEC}) {{ return; }}",
        "}",
        "$files = curtask.files.fdt.fd;",
        "$place = &$files[$fd].f_path;",
        "$inode2 = $other != 0xffffffff ? $files[$other].f_inode.i_ino : 0;",
        f"if ($call & {MOVES}) {{",
        f"    $fd = (uint64){WORKING_DIRECTORY};",
        "    $place = &curtask.fs.pwd;",
        "}",
        "$inode = $place.dentry.d_inode;",
        'emit("descriptor", (call=$new, fd=$fd, mode=$inode.i_mode, device=$inode.i_rdev, inode=$inode.i_ino,',
        "    fd2=$other, inode2=$inode2, path=path($place)));",
    ]


def socket_addresses() -> list[str]:
    """At exit, after that: the addresses of the socket that a call has made or used, once it has some."""
    return [
        *_of_target(f"(args.ret < 0 && args.ret != -{errno.EINPROGRESS})"),
        f"if (($call & {OPENS | ON_SOCKET}) == 0 || $call & {OPENS_BY_FCNTL}) {{ return; }}",
        "$fd = (uint64)args.ret;",
        f"if ($call & {OPENS_PAIR | ON_SOCKET}) {{",
        *indented(arguments("$compat")),
        "    $fd = $a0 & 0xffffffff;",
        f"    if ($call & {OPENS_PAIR_AT_3}) {{ $fd = (uint64)*(uint32 *)uptr($a3); }}",
        "}",
        "$files = curtask.files.fdt.fd;",
        "$file = $files[$fd];",
        "$inode = (uint64)$file.f_inode.i_ino;",
        "$slot = $inode & 0x3fff;",
        "if (($file.f_inode.i_mode & 0170000) != 0140000 || @addressed[$slot] == $inode) { return; }",
        "$sk = ((struct socket *)$file.private_data).sk;",
        "$c = &$sk.__sk_common;",
        "$family = $c.skc_family;",
        "$unix = (struct unix_sock *)$sk;",
        "$netlink = (struct netlink_sock *)$sk;",
        "$address = $unix.addr;",
        "$peer = $family == 1 ? (uint64)$unix.peer.sk_socket.file.f_inode.i_ino : (uint64)0;",
        "$length = $family == 1 ? (uint64)$address.len : (uint64)0;",
        "if ($family == 16) { $peer = (uint64)$netlink.portid; }",
        "$whole = $peer != 0 || $length > 2 || $c.skc_num != 0;",
        f"if (!$whole && $call & {ON_SOCKET}) {{ return; }}",
        "if ($whole) { @addressed[$slot] = $inode; }",
        "$name = (uint64 *)kptr((uint64)$sk.sk_prot_creator + offsetof(struct proto, name));",
        "$from = (uint64 *)kptr((uint64)$sk + offsetof(struct sock_common, skc_v6_rcv_saddr));",
        "$to = (uint64 *)kptr((uint64)$sk + offsetof(struct sock_common, skc_v6_daddr));",
        'emit("socket", (inode=$inode, protocol=$name[0], protocol_more=$name[1], netlink=(uint64)$sk.sk_protocol,',
        "    port=(uint64)$c.skc_num, remote_port=(uint64)$c.skc_dport,",
        "    ipv4=(uint64)$c.skc_rcv_saddr, remote_ipv4=(uint64)$c.skc_daddr, ipv6=$from[0], ipv6_more=$from[1],",
        "    remote_ipv6=$to[0], remote_ipv6_more=$to[1], peer=$peer, data=buf($address.name, $length)));",
    ]


def netlink_protocol() -> list[str]:
    """At entry, before the entry is sent: of a call that sends or receives messages by a netlink socket, what these
    are. A program of its own, which has a look at the number of every call."""
    known = (facts_of(abi).numbers.get(name) for abi in abis_of(os.uname().machine) if abi for name in _MESSAGES)
    numbers = sorted({number & 0xFFF for number in known if number is not None})
    return [
        "$nr = (uint64)args.id & 0xbfffffff;",
        f"if ({' && '.join(f'$nr != {number}' for number in numbers)}) {{ return; }}",
        "$state = @task[tid];",
        "if ($state == 0 && (@whole == 0 || pid == @self)) { return; }",
        *identified(),
        *arguments("$compat"),
        "$fd = $a0 & 0xffffffff;",
        "$table = curtask.files.fdt;",
        "if ($fd >= $table.max_fds) { return; }",
        "$files = $table.fd;",
        "$file = $files[$fd];",
        "if (($file.f_inode.i_mode & 0170000) != 0140000) { return; }",
        "$sk = ((struct socket *)$file.private_data).sk;",
        f"if ($sk.__sk_common.skc_family != {_AF_NETLINK}) {{ return; }}",
        "$port = ((struct netlink_sock *)$sk).portid;",
        'emit("netlink", (call=$state, fd=$fd, protocol=(uint64)$sk.sk_protocol, port=(uint64)$port));',
    ]

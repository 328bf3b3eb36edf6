"""Texts of sockets from what the kernel has of them."""

import socket

from insitu.syscalls.sockets import Sockets, State


def _state(inode: int, protocol: str, **fields: int) -> State:
    name = protocol.encode().ljust(16, b"\0")
    words = {"protocol": int.from_bytes(name[:8], "little"), "protocol_more": int.from_bytes(name[8:], "little")}
    return State(inode=inode, **dict.fromkeys(State._fields[1:], 0) | words | fields)


def _word(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "little")


def test_the_first_addresses_of_a_socket_are_kept() -> None:
    sockets = Sockets()
    sockets.add(_state(7, "TCP"), b"")
    assert sockets.text("socket:[7]") == "TCP:[7]"
    ends = {"ipv4": _word("10.0.0.1"), "remote_ipv4": _word("10.0.0.2"), "remote_port": socket.htons(80)}
    sockets.add(_state(7, "TCP", port=40000, **ends), b"")
    sockets.add(_state(7, "TCP", port=40001, **ends), b"")
    assert sockets.text("socket:[7]") == "TCP:[10.0.0.1:40000->10.0.0.2:80]"
    assert sockets.text("socket:[8]") == "socket:[8]" and sockets.text("/a/file") == "/a/file"


def test_both_ends_of_a_connection_know_each_other_until_a_name_is_known() -> None:
    sockets = Sockets()
    sockets.add(_state(5, "UNIX-STREAM", peer=6), b"\1\0/run/x\0")
    assert sockets.text("socket:[5]") == 'UNIX-STREAM:[5->6,"/run/x"]'
    assert sockets.text("socket:[6]") == "UNIX-STREAM:[6->5]"
    sockets.add(_state(6, "UNIX-STREAM", peer=5), b"\1\0\0hidden")
    assert sockets.text("socket:[6]") == 'UNIX-STREAM:[6->5,@"hidden"]'


def test_sockets_of_other_families_have_their_numbers() -> None:
    sockets = Sockets()
    sockets.add(_state(1, "NETLINK", netlink=16, peer=321), b"")
    sockets.add(_state(2, "RAW"), b"")
    sockets.add(_state(3, "PACKET"), b"")
    sockets.opened(4, "UDP:[0.0.0.0:53]")
    found = [sockets.text(f"socket:[{inode}]") for inode in range(1, 5)]
    assert found == ["NETLINK:[GENERIC:321]", "RAW:[2]", "socket:[3]", "UDP:[0.0.0.0:53]"]

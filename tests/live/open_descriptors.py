"""Opens descriptors of all kinds, for -y and -yy: each is given to fstat(2)."""

import os
import select
import socket
import sys
from pathlib import Path

directory = sys.argv[1]
odd = directory + '/o dd\n<\u00e9>7"\\'


def show(*these: socket.socket) -> None:
    for each in these:
        os.fstat(each.fileno())


listening = socket.create_server(("127.0.0.1", 0))
client = socket.socket()
show(listening, client)
client.connect(listening.getsockname())
server, _ = listening.accept()
show(client, server)
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
show(datagrams)
datagrams.bind(("127.0.0.1", 0))
show(datagrams)
datagrams.connect(listening.getsockname())
show(datagrams)
listening6 = socket.create_server(("::1", 0), family=socket.AF_INET6)
client6 = socket.create_connection(listening6.getsockname()[:2])
show(listening6, client6)
show(*socket.socketpair())
named = socket.socket(socket.AF_UNIX)
named.bind(odd)
named.listen()
to_named = socket.socket(socket.AF_UNIX)
to_named.connect(odd)
from_named, _ = named.accept()
show(named, to_named, from_named)
abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
show(abstract)
abstract.bind(f"\0insitu-test-{os.getpid()}")
show(abstract)
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
show(netlink)
netlink.bind((0, 0))
show(netlink)
Path(odd).unlink()
reading, writing = os.pipe()
null = os.open("/dev/null", os.O_RDONLY)
file = os.open(odd, os.O_CREAT | os.O_RDWR)
memory = os.memfd_create("hello")
process = os.pidfd_open(os.getpid())
for each in (reading, writing, null, file, memory, process, select.epoll().fileno(), os.eventfd(3)):
    os.fstat(each)
Path(odd).unlink()
os.fstat(file)
os.dup2(null, file)
os.fstat(file)

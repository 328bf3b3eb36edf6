/* Descriptors of all kinds, and sockets before and after they have addresses. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void talk(int family, int type, void *address, socklen_t length)
{
    char data[8];
    int server = socket(family, type, 0), client = socket(family, type, 0), peer;
    bind(server, address, length);
    if (type == SOCK_STREAM)
        listen(server, 5);
    getsockname(server, address, &length);
    connect(client, address, length);
    write(client, "to", 2);
    peer = type == SOCK_STREAM ? accept(server, 0, 0) : server;
    read(peer, data, sizeof data);
    write(client, "again", 5);
    fcntl(peer, F_DUPFD_CLOEXEC, 0);
    dup2(client, 50);
    write(50, "third", 5);
    close(50);
    shutdown(client, SHUT_RDWR);
}

int main(int count, char **words)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_un local = {AF_UNIX, "socket <\n>"}, hidden = {AF_UNIX, "\0insitu-test-of-descriptors"};
    struct sockaddr_nl netlink = {AF_NETLINK};
    int fd, ends[2];
    chdir(words[1]);
    talk(AF_INET, SOCK_STREAM, &v4, sizeof v4);
    v4.sin_port = 0;
    talk(AF_INET, SOCK_DGRAM, &v4, sizeof v4);
    talk(AF_INET6, SOCK_STREAM, &v6, sizeof v6);
    talk(AF_UNIX, SOCK_STREAM, &local, sizeof local);
    talk(AF_UNIX, SOCK_DGRAM, &hidden, 2 + 27);
    sendto(socket(AF_INET, SOCK_DGRAM, 0), "x", 1, 0, (void *)&v4, sizeof v4);
    fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    bind(fd, (void *)&netlink, sizeof netlink);
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &(int){0}, &(socklen_t){4});
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends);
    write(ends[1], "x", 1);
    pipe(ends);
    write(ends[1], "x", 1);
    fd = open("/dev/null", O_RDWR);
    write(fd, "x", 1);
    fd = open("file", O_RDWR | O_CREAT, 0600);
    write(fd, "x", 1);
    mkdir("one", 0700);
    openat(AT_FDCWD, "one", O_RDONLY);
    chdir("one");
    openat(AT_FDCWD, "two", O_RDONLY);
    if (!fork()) {
        openat(AT_FDCWD, "three", O_RDONLY);
        write(fd, "x", 1);
        _exit(0);
    }
    wait(0);
    return 0;
}

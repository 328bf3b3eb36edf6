/* Calls of sockets, each with telling arguments: valid, NULL, failing. Harmless: loopback only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/genetlink.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <linux/vm_sockets.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define BAD ((void *)0xdead000UL)

static char control[256] __attribute__((aligned(8)));
static char space[20000];

static void addresses(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un un = {AF_UNIX, "/nonexistent/socket"};
    connect(fd, (void *)&un, sizeof un);
    connect(fd, (void *)&un, 2 + 5);
    connect(fd, (void *)&un, 2);
    connect(fd, (void *)&un, 1);
    connect(fd, (void *)&un, 0);
    connect(fd, (void *)&un, -1);
    connect(fd, (void *)&un, 0x7fffffff);
    connect(fd, NULL, 10);
    connect(fd, BAD, 110);
    memset(un.sun_path, 'x', sizeof un.sun_path);
    connect(fd, (void *)&un, sizeof un);
    un.sun_path[0] = 0;
    connect(fd, (void *)&un, sizeof un);
    strcpy(un.sun_path + 1, "insitu\ttest");
    bind(fd, (void *)&un, 2 + 1 + 11);
    bind(-1, (void *)&un, 3);
    socklen_t length = sizeof un;
    getsockname(fd, (void *)&un, &length);
    length = 4;
    getsockname(fd, (void *)&un, &length);
    length = sizeof un;
    getpeername(fd, (void *)&un, &length);
    getsockname(fd, (void *)&un, NULL);
    getsockname(fd, NULL, &length);
    close(fd);
    struct sockaddr_in in = {AF_INET, htons(1), {htonl(INADDR_LOOPBACK)}};
    fd = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    connect(fd, (void *)&in, sizeof in);
    connect(fd, (void *)&in, 8);
    close(fd);
    struct sockaddr_in6 in6 = {AF_INET6, htons(1), htonl(7), IN6ADDR_LOOPBACK_INIT, 3};
    connect(-1, (void *)&in6, sizeof in6);
    connect(-1, (void *)&in6, 24);
    inet_pton(AF_INET6, "fe80::1", &in6.sin6_addr);
    in6.sin6_scope_id = 1;
    connect(-1, (void *)&in6, sizeof in6);
    struct sockaddr_nl nl = {AF_NETLINK, 0, 12, 0x41};
    connect(-1, (void *)&nl, sizeof nl);
    struct sockaddr_ll ll = {AF_PACKET, htons(ETH_P_ALL), 1, 1, PACKET_HOST, 6, {0, 1, 2, 3, 4, 5, 0xff, 0}};
    connect(-1, (void *)&ll, sizeof ll);
    ll.sll_halen = 0;
    ll.sll_ifindex = 99;
    connect(-1, (void *)&ll, sizeof ll);
    struct sockaddr_vm vm = {AF_VSOCK, 0, 1234, 2};
    connect(-1, (void *)&vm, sizeof vm);
    vm.svm_port = vm.svm_cid = -1;
    connect(-1, (void *)&vm, sizeof vm);
    unsigned char raw[40] = {31, 0, 1, 0, 3, 0, 7, 8, 9, 10, 11, 12, 1};
    connect(-1, (void *)raw, 6);
    connect(-1, (void *)raw, 8);
    connect(-1, (void *)raw, 10);
    connect(-1, (void *)raw, 14);
    raw[0] = 77;
    connect(-1, (void *)raw, 16);
    raw[0] = 5;
    connect(-1, (void *)raw, 16);
    raw[0] = 0;
    connect(-1, (void *)raw, 16);
}

static void kinds(void) {
    int pair[2];
    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair);
    close(pair[0]);
    close(pair[1]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, BAD);
    socketpair(AF_INET, SOCK_STREAM, 0, pair);
    close(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)));
    close(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    close(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT));
    close(socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP));
    socket(77, 99, 5);
    socket(AF_INET, SOCK_STREAM | 0x1000, 999);
    socket(AF_BLUETOOTH, SOCK_RAW, 1);
    listen(-1, 5);
    shutdown(-1, SHUT_RDWR);
    shutdown(-1, 9);
}

static void stream(void) {
    struct sockaddr_in in = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}}, from;
    int server = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    in.sin_port = htons(45871);
    bind(server, (void *)&in, sizeof in);
    listen(server, 3);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    connect(client, (void *)&in, sizeof in);
    socklen_t length = 128;
    struct sockaddr_storage big;
    int accepted = accept4(server, (void *)&big, &length, SOCK_CLOEXEC);
    getsockname(accepted, (void *)&big, &length);
    sendto(client, "hello\n", 6, MSG_NOSIGNAL, NULL, 0);
    send(client, space, 100, 0);
    recvfrom(accepted, space, 6, 0, NULL, NULL);
    length = sizeof from;
    recvfrom(accepted, space, sizeof space, MSG_DONTWAIT, (void *)&from, &length);
    recv(accepted, space, 10, MSG_DONTWAIT | MSG_PEEK);
    length = 4;
    int error;
    getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &length);
    struct tcp_info info;
    length = 8;
    getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &length);
    shutdown(client, SHUT_WR);
    recv(accepted, space, 10, 0);
    accept(-1, NULL, NULL);
    accept(-1, (void *)&in, &length);
    close(client);
    close(accepted);
    close(server);
}

static void messages(void) {
    int pair[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    int one = 1;
    setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
    struct iovec io[3] = {{"one", 3}, {"two\0x", 5}, {NULL, 0}};
    struct msghdr msg = {NULL, 0, io, 2, NULL, 0, 0};
    sendmsg(pair[0], &msg, 0);
    msg.msg_control = control;
    msg.msg_controllen = CMSG_SPACE(8) + CMSG_SPACE(12);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){CMSG_LEN(8), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), (int[]){0, 1}, 8);
    c = (void *)((char *)c + CMSG_SPACE(8));
    *c = (struct cmsghdr){CMSG_LEN(12), SOL_SOCKET, SCM_CREDENTIALS};
    memcpy(CMSG_DATA(c), (int[]){getpid(), 0, 0}, 12);
    sendmsg(pair[0], &msg, MSG_DONTWAIT);
    char buffer[64], other[8];
    struct iovec in[2] = {{other, 4}, {buffer, sizeof buffer}};
    struct msghdr got = {NULL, 0, in, 2, control, sizeof control, 0};
    recvmsg(pair[1], &got, 0);
    got.msg_controllen = sizeof control;
    recvmsg(pair[1], &got, MSG_CMSG_CLOEXEC);
    got.msg_control = NULL;
    got.msg_controllen = 0;
    recvmsg(pair[1], &got, MSG_DONTWAIT);
    recvmsg(pair[1], NULL, 0);
    recvmsg(pair[1], BAD, 0);
    sendmsg(-1, BAD, 0);
    /* control messages with wrong lengths */
    msg.msg_control = control;
    msg.msg_controllen = 24;
    *(struct cmsghdr *)control = (struct cmsghdr){1000, SOL_SOCKET, SCM_RIGHTS};
    sendmsg(-1, &msg, 0);
    *(struct cmsghdr *)control = (struct cmsghdr){3, SOL_SOCKET, SCM_RIGHTS};
    sendmsg(-1, &msg, 0);
    *(struct cmsghdr *)control = (struct cmsghdr){16, SOL_IP, IP_TTL};
    msg.msg_controllen = 16;
    sendmsg(-1, &msg, 0);
    msg.msg_controllen = 5;
    sendmsg(-1, &msg, 0);
    msg.msg_controllen = 28;
    *(struct cmsghdr *)control = (struct cmsghdr){28, SOL_IP, IP_PKTINFO};
    struct in_pktinfo pi = {1, {htonl(0x7f000001)}, {htonl(0x7f000002)}};
    memcpy(control + 16, &pi, 12);
    sendmsg(-1, &msg, 0);
    *(struct cmsghdr *)control = (struct cmsghdr){20, SOL_IP, IP_TOS};
    sendmsg(-1, &msg, 0);
    *(struct cmsghdr *)control = (struct cmsghdr){20, SOL_IPV6, IPV6_HOPLIMIT};
    sendmsg(-1, &msg, 0);
    *(struct cmsghdr *)control = (struct cmsghdr){20, SOL_TCP, 9};
    sendmsg(-1, &msg, 0);
    *(struct cmsghdr *)control = (struct cmsghdr){20, 12345, 9};
    sendmsg(-1, &msg, 0);
    msg.msg_control = BAD;
    sendmsg(-1, &msg, 0);
    msg.msg_control = NULL;
    sendmsg(-1, &msg, 0);
    msg.msg_controllen = 0;
    msg.msg_iov = BAD;
    sendmsg(-1, &msg, 0);
    msg.msg_iov = NULL;
    sendmsg(-1, &msg, 0);
    msg.msg_iov = io;
    msg.msg_iovlen = 3;
    msg.msg_name = "\1\0abc";
    msg.msg_namelen = 5;
    msg.msg_flags = 0x40;
    sendmsg(-1, &msg, MSG_OOB | 0x1000000);
    msg.msg_iovlen = 0;
    msg.msg_namelen = 0;
    sendmsg(-1, &msg, 0);
    io[0].iov_base = BAD;
    msg.msg_iovlen = 1;
    sendmsg(-1, &msg, 0);
    io[0].iov_base = "one";

    struct mmsghdr many[2] = {{{NULL, 0, io, 1}}, {{NULL, 0, io + 1, 1}}};
    sendmmsg(pair[0], many, 2, 0);
    sendmmsg(-1, many, 2, 0);
    sendmmsg(-1, BAD, 2, 0);
    sendmmsg(-1, NULL, 0, 0);
    struct mmsghdr into[2] = {{{NULL, 0, in, 1}}, {{NULL, 0, in + 1, 1}}};
    struct timespec t = {1, 5000};
    recvmmsg(pair[1], into, 2, 0, &t);
    recvmmsg(pair[1], into, 2, MSG_DONTWAIT, NULL);
    recvmmsg(pair[1], into, 2, MSG_DONTWAIT, BAD);
    struct sockaddr_un un = {AF_UNIX, "/nonexistent"};
    sendto(pair[0], "0123456789012345678901234567890123456789", 40, 0, (void *)&un, sizeof un);
    sendto(pair[0], BAD, 40, 0, NULL, 0);
    sendto(pair[0], NULL, 0, 0, NULL, 0);
    recvfrom(pair[1], space, 10, MSG_DONTWAIT, NULL, NULL);
    recvfrom(pair[1], space, 10, MSG_DONTWAIT, (void *)&un, (socklen_t[]){5});
    close(pair[0]);
    close(pair[1]);

    int a = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
    struct sockaddr_in to = {AF_INET, htons(45872), {htonl(INADDR_LOOPBACK)}}, name;
    bind(a, (void *)&to, sizeof to);
    setsockopt(a, SOL_IP, IP_PKTINFO, &on, sizeof on);
    setsockopt(a, SOL_IP, IP_RECVTTL, &on, sizeof on);
    setsockopt(a, SOL_IP, IP_RECVTOS, &on, sizeof on);
    struct msghdr with = {&to, sizeof to, io, 2};
    sendmsg(a, &with, 0);
    struct msghdr got2 = {&name, sizeof name, in, 2, control, sizeof control, 0};
    recvmsg(a, &got2, 0);
    sendto(a, "x", 1, 0, (void *)&to, sizeof to);
    recvfrom(a, space, 100, 0, (void *)&name, (socklen_t[]){sizeof name});
    sendto(a, "x", 1, 0, (void *)&to, sizeof to);
    recvfrom(a, space, 100, 0, (void *)&name, (socklen_t[]){100});
    sendto(a, "x", 1, 0, (void *)&to, sizeof to);
    recvfrom(a, space, 100, MSG_TRUNC, (void *)&name, (socklen_t[]){6});
    close(a);
}

static void options(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_UNIX, SOCK_STREAM, 0), v = 1;
    socklen_t length;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, (int[]){1, 5}, 8);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, (int[]){1, 5}, 4);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, (int[]){1, 5, 7}, 12);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, (long[]){1, 500}, 16);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, (long[]){1, 500}, 8);
    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
    setsockopt(fd, SOL_SOCKET, SO_DEBUG, NULL, 0);
    setsockopt(fd, SOL_SOCKET, SO_DEBUG, BAD, 4);
    setsockopt(fd, SOL_SOCKET, SO_DEBUG, &v, 2);
    setsockopt(fd, SOL_SOCKET, SO_DEBUG, &v, -2);
    setsockopt(fd, SOL_SOCKET, 999, &v, 4);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, (int[]){3}, 4);
    setsockopt(fd, 888, 999, &v, 4);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, 4);
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
    setsockopt(fd, IPPROTO_IP, IP_TOS, &v, 4);
    setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, (int[]){0x010000e0, 0x0100007f, 1}, 12);
    setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, (int[]){0x010000e0, 0x0100007f, 1}, 8);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v, 4);
    setsockopt(fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, (int[]){2, 0, 0, 3, 1}, 20);
    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, (int[]){1, 2, 3, 4, 5}, 16);
    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, (int[]){1, 0x60001, 0x03020100, 5}, 16);
    setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &v, 4);
    setsockopt(fd, IPPROTO_RAW, 1, &v, 4);
    setsockopt(fd, IPPROTO_IP, 64, &v, 4);
    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, (int[]){0x010000e0, 0x0100007f, 1}, 12);
    struct sock_filter filter[] = {{0x28, 0, 0, 12}, {0x15, 0, 1, 0x800}, {0x20, 0, 0, 0xfffff008}, {0x6, 0, 0, 0xffff}, {0x6, 0, 0, 0}};
    struct sock_fprog program = {5, filter};
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, 8);
    program.filter = BAD;
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
    setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, NULL, 0);
    length = 4;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &length);
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &v, &length);
    length = 3;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &length);
    length = 64;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, space, &length);
    length = 8;
    getsockopt(fd, SOL_SOCKET, SO_LINGER, space, &length);
    length = 100;
    getsockopt(fd, SOL_SOCKET, SO_LINGER, space, &length);
    length = 16;
    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, space, &length);
    length = 12;
    getsockopt(u, SOL_SOCKET, SO_PEERCRED, space, &length);
    length = 100;
    getsockopt(u, SOL_SOCKET, SO_PEERCRED, space, &length);
    length = 100;
    getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, space, &length);
    length = 104;
    getsockopt(fd, IPPROTO_TCP, TCP_INFO, space, &length);
    length = 16;
    getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, space, &length);
    getsockopt(fd, SOL_SOCKET, 999, &v, &length);
    getsockopt(fd, SOL_SOCKET, SO_TYPE, NULL, &length);
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, NULL);
    getsockopt(-1, SOL_SOCKET, SO_TYPE, &v, &length);
    close(fd);
    close(u);
}

static void routes(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct sockaddr_nl to = {AF_NETLINK};
    socklen_t length = sizeof to;
    bind(fd, (void *)&to, sizeof to);
    getsockname(fd, (void *)&to, &length);
    to.nl_pid = 0;
    for (int type = RTM_GETLINK; type <= RTM_GETNEIGH; type += 4) {
        struct {
            struct nlmsghdr head;
            struct rtgenmsg body;
        } ask = {{17, type, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_UNSPEC}};
        sendto(fd, &ask, 20, 0, (void *)&to, sizeof to);
        int ended = 0;
        while (!ended) {
            struct iovec io = {space, sizeof space};
            struct sockaddr_nl from;
            struct msghdr msg = {&from, sizeof from, &io, 1};
            ssize_t n = recvmsg(fd, &msg, 0);
            for (struct nlmsghdr *each = (void *)space; NLMSG_OK(each, n); each = NLMSG_NEXT(each, n))
                ended |= each->nlmsg_type == NLMSG_DONE || each->nlmsg_type == NLMSG_ERROR;
            if (n <= 0)
                break;
        }
    }
    struct {
        struct nlmsghdr head;
        struct ifinfomsg body;
        struct rtattr attribute;
        char name[8];
    } link = {{sizeof link, RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, 2, 0}, {AF_UNSPEC}, {4 + 3, IFLA_IFNAME}, "lo"};
    send(fd, &link, sizeof link, 0);
    recv(fd, space, sizeof space, 0);
    recv(fd, space, sizeof space, MSG_DONTWAIT);
    link.head.nlmsg_type = RTM_DELLINK;
    link.body.ifi_index = 9999;
    send(fd, &link, 32, 0);
    recv(fd, space, sizeof space, MSG_DONTWAIT);
    link.head.nlmsg_len = 5;
    send(fd, &link, sizeof link, 0);
    send(fd, &link, 10, 0);
    link.head.nlmsg_len = 5000;
    send(fd, &link, sizeof link, 0);
    recv(fd, space, sizeof space, MSG_DONTWAIT);
    close(fd);
    fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
    struct {
        struct nlmsghdr head;
        struct genlmsghdr body;
        struct rtattr attribute;
        char name[8];
    } family = {{sizeof family, GENL_ID_CTRL, NLM_F_REQUEST, 2, 0}, {CTRL_CMD_GETFAMILY, 1}, {4 + 7, CTRL_ATTR_FAMILY_NAME}, "nlctrl"};
    send(fd, &family, sizeof family, 0);
    recv(fd, space, sizeof space, MSG_DONTWAIT);
    close(fd);
    fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
    struct {
        struct nlmsghdr head;
        struct unix_diag_req body;
    } sockets = {{sizeof sockets, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 3, 0}, {AF_UNIX, 0, 0, 1 << 10, 12345, UDIAG_SHOW_NAME | UDIAG_SHOW_PEER, {-1, -1}}};
    send(fd, &sockets, sizeof sockets, 0);
    recv(fd, space, sizeof space, MSG_DONTWAIT);
    close(fd);
}

int main(void) {
    addresses();
    kinds();
    stream();
    messages();
    options();
    routes();
    return 0;
}

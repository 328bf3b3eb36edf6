/* Calls that only 32-bit programs make, each with telling arguments. Harmless. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define call(name, ...) syscall(SYS_##name, ##__VA_ARGS__)
#define BAD ((void *)0xdead000UL)

static char space[4096];

static void handler(int number) {
}

int main(void) {
    int32_t short_time[4] = {0, 1000, 1, 999999999}, short_zero[4] = {0};
    int64_t long_time[4] = {0, 1000, 0x123456789, 999999999};
    int fd = open("/etc/hostname", O_RDONLY), null = open("/dev/null", O_RDWR);
    write(-1, "begin", 5);
    call(stat64, "/etc/hostname", BAD);
    call(fstat64, null, space);
    call(lstat64, "/nonexistent", space);
    call(fstatat64, AT_FDCWD, "/dev/null", space, AT_SYMLINK_NOFOLLOW);
    call(stat, "/dev/null", space);
    call(statfs64, "/proc", 84, space);
    call(fstatfs64, null, 83, space);
    call(mmap2, NULL, 8192, 3, 0x22, -1, 0);
    call(mmap2, NULL, 8192, 1, 2, fd, 1);
    call(mmap2, NULL, 0, 0, 0, -1, 0x100000);
    call(mmap, (unsigned[]){0, 4096, 3, 0x22, -1, 0});
    call(mmap, BAD);
    call(fcntl64, fd, F_GETFL);
    call(fcntl64, fd, F_GETLK64, &(struct flock64){F_RDLCK, SEEK_SET, 1, 5000000000LL});
    call(fcntl64, fd, F_GETLK, &(struct flock){F_RDLCK, SEEK_SET, 1, 5});
    call(fcntl64, fd, F_SETOWN, 1);
    call(fcntl, fd, F_GETLK, &(struct flock){F_WRLCK, SEEK_SET, 1, 5});
    call(_llseek, fd, 0, 3, space, SEEK_SET);
    call(_llseek, fd, 1, 3, space, 77);
    call(lseek, fd, -1, SEEK_SET);
    call(pread64, fd, space, 4, 1, 0);
    call(pread64, fd, space, 4, 1, 1);
    call(pwrite64, null, "abc", 3, 0, 2);
    call(ftruncate64, null, 5, 1);
    call(truncate64, "/nonexistent", -1, -1);
    call(fallocate, null, 1, 1, 0, 2, 0);
    call(fadvise64_64, fd, 0, 0, 4096, 0, 4);
    call(fadvise64, fd, 0, 0, 4096, 4);
    call(readahead, fd, 1, 0, 10);
    call(sync_file_range, null, 1, 0, 2, 0, 4);
    call(sendfile, null, fd, NULL, 3);
    call(sendfile64, null, fd, &(int64_t){1}, 3);
    call(rt_sigaction, SIGUSR1, NULL, space, 8);
    call(sigaction, SIGUSR1, (unsigned long[]){(unsigned long)handler, 1 << 1, 0x10000000, 0}, NULL);
    call(sigaction, SIGUSR1, NULL, space);
    call(sigaction, 99, BAD, NULL);
    call(signal, SIGUSR2, 1);
    call(signal, SIGUSR2, handler);
    call(sigprocmask, SIG_BLOCK, (unsigned long[]){1 << 9 | 1 << 11}, space);
    call(sigprocmask, SIG_SETMASK, NULL, space);
    call(sigpending, space);
    call(sgetmask);
    call(ssetmask, 0);
    call(nanosleep, short_time, short_zero);
    call(clock_gettime, CLOCK_MONOTONIC, BAD);
    call(clock_getres, CLOCK_MONOTONIC, space);
    call(clock_gettime64, 77, space);
    call(clock_getres_time64, CLOCK_MONOTONIC, space);
    call(clock_nanosleep_time64, CLOCK_REALTIME, 0, long_time, NULL);
    call(clock_nanosleep, CLOCK_REALTIME, 0, short_time, NULL);
    call(clock_settime64, -1, long_time + 2);
    call(futex_time64, space, 0, 5, long_time, NULL, 0);
    call(futex, space, 0, 5, short_time, NULL, 0);
    call(ppoll_time64, NULL, 0, long_time, NULL, 8);
    call(ppoll, NULL, 0, short_time, NULL, 8);
    call(pselect6_time64, 0, NULL, NULL, NULL, long_time, NULL);
    call(pselect6, 0, NULL, NULL, NULL, short_time, NULL);
    call(_newselect, 0, NULL, NULL, NULL, short_zero);
    call(utimensat_time64, AT_FDCWD, "/nonexistent", long_time, 0);
    call(utimensat, AT_FDCWD, "/nonexistent", short_time, 0);
    call(utimes, "/nonexistent", short_time);
    call(rt_sigtimedwait_time64, (uint64_t[]){1 << 9}, NULL, long_time, 8);
    call(rt_sigtimedwait, (uint64_t[]){1 << 9}, NULL, short_time, 8);
    call(timerfd_settime64, null, 1, long_time, space);
    call(timer_settime64, 77, 1, long_time, space);
    call(mq_timedsend_time64, -1, "x", 1, 2, long_time + 2);
    call(mq_timedreceive_time64, -1, space, 1, space, long_time + 2);
    call(semtimedop_time64, -1, space, 0, long_time);
    call(sched_rr_get_interval_time64, -1, space);
    call(recvmmsg_time64, -1, space, 0, 0, long_time);
    call(io_pgetevents_time64, 0, 0, 1, space, long_time, NULL);
    call(getrlimit, 3, space);
    call(ugetrlimit, 3, space);
    call(setrlimit, 77, space);
    call(prlimit64, 0, 3, NULL, space);
    call(readv, fd, (unsigned long[]){(unsigned long)space, 3}, 1);
    call(writev, null, (unsigned long[]){(unsigned long)"abc", 3, (unsigned long)"de", 2}, 2);
    call(preadv, fd, (unsigned long[]){(unsigned long)space, 3}, 1, 1, 0);
    call(pwritev, null, (unsigned long[]){(unsigned long)"abc", 3}, 1, 1, 2);
    call(getuid);
    call(getuid32);
    call(setresuid32, -1, -1, -1);
    call(setresuid, -1, -1, -1);
    call(getresuid32, space, space, space);
    call(getresuid, space, space, space);
    call(chown32, "/nonexistent", -1, 5);
    call(chown, "/nonexistent", -1, 5);
    call(fchown32, -1, 0, 0);
    call(getgroups32, 0, NULL);
    call(waitpid, -1, space, 1);
    call(olduname, BAD);
    call(uname, BAD);
    call(umount, "/nonexistent");
    call(nice, 0);
    call(stime, BAD);
    call(alarm, 0);
    call(getdents64, -1, space, 10);
    call(getdents, -1, space, 10);
    call(readlink, "/nonexistent", space, 10);
    call(open, "/nonexistent", O_RDONLY | O_LARGEFILE);
    call(creat, "/nonexistent/x", 0600);
    call(sysinfo, BAD);
    call(set_thread_area, BAD);
    call(pipe, space);
    call(dup2, -1, 5);
    call(epoll_ctl, -1, 1, 3, space);
    return 0;
}

/* Makes each call of the tables files, memory, process, signals, time and poll with telling arguments: valid, NULL,
 * invalid pointers, failing. The test compares what strace(1) and insitu say of it, line by line.
 *
 * Its argument is an empty directory. Groups of calls are chosen by name: every_call DIRECTORY GROUP */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/fanotify.h>
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/rseq.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/quota.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#define S(name, ...) syscall(SYS_##name, ##__VA_ARGS__)
#define BAD ((void *)0xdeadbeef0000)

static char *page_end; /* the end of a mapping: nothing after it */
static char buffer[65536];

/* a copy that ends where the mapping ends */
static void *at_end(const void *data, size_t size)
{
	return memcpy(page_end - size, data, size);
}

static void files(void)
{
	struct stat st;
	struct statx stx;
	struct statfs fs;
	int fd = S(open, "file", O_RDWR | O_CREAT | O_TRUNC, 0644);
	S(write, fd, "hello\n\t\"\\\1\0012\377 world, this is a long string of more than 32", 60);
	S(write, fd, NULL, 3);
	S(write, fd, BAD, 3);
	S(write, fd, "", 0);
	S(write, -1, "abc", 3);
	S(write, fd, at_end("abc", 3), 3);
	S(write, fd, at_end("abc", 3), 5);
	S(lseek, fd, 0, SEEK_SET);
	S(lseek, fd, -1, SEEK_CUR);
	S(lseek, fd, 3, 77);
	S(lseek, fd, 0, SEEK_DATA);
	S(read, fd, buffer, 10);
	S(read, fd, buffer, 4096);
	S(read, fd, buffer, 4096);
	S(read, fd, BAD, 10);
	S(read, 99, buffer, 10);
	S(pread64, fd, buffer, 5, 3L);
	S(pread64, fd, buffer, 5, -3L);
	S(pwrite64, fd, "xyz", 3, 100000000000L);
	S(ftruncate, fd, 100L);
	S(ftruncate, fd, -1L);
	S(truncate, "file", 90L);
	S(truncate, "nofile", 1L << 62);
	S(truncate, NULL, 0L);
	S(fallocate, fd, 0, 0L, 200L);
	S(fallocate, fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 10L, 20L);
	S(fallocate, fd, 0x12345678, 10L, -1L);
	S(fadvise64, fd, 0L, 100L, POSIX_FADV_SEQUENTIAL);
	S(fadvise64, fd, 0L, 100L, 77);
	S(readahead, fd, 0L, 100L);
	S(sync_file_range, fd, 0L, 100L, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
	S(sync_file_range, fd, 0L, 100L, 0x100);
	S(fsync, fd);
	S(fdatasync, fd);
	S(syncfs, -1);
	S(flock, fd, LOCK_EX | LOCK_NB);
	S(flock, fd, LOCK_UN);
	S(flock, fd, 77);
	S(fstat, fd, &st);
	S(fstat, fd, BAD);
	S(fstat, -1, &st);
	S(stat, "/dev/null", &st);
	S(stat, "/", &st);
	S(stat, NULL, NULL);
	S(stat, BAD, BAD);
	S(stat, "", &st);
	S(stat, at_end("abc", 3), &st);
	S(lstat, "/proc/self", &st);
	S(newfstatat, AT_FDCWD, "/dev/zero", &st, 0);
	S(newfstatat, AT_FDCWD, "file", &st, AT_SYMLINK_NOFOLLOW | 0x80000000);
	S(newfstatat, fd, "", &st, AT_EMPTY_PATH);
	S(newfstatat, 77, "x", &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
	S(statx, AT_FDCWD, "/dev/null", AT_STATX_SYNC_AS_STAT, STATX_ALL, &stx);
	S(statx, AT_FDCWD, "/", AT_STATX_FORCE_SYNC | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &stx);
	S(statx, AT_FDCWD, "file", AT_STATX_DONT_SYNC, STATX_SIZE | STATX_MODE | 0x40000000, &stx);
	S(statx, AT_FDCWD, "file", AT_STATX_DONT_SYNC | 0x10, 0, &stx);
	S(statx, -1, "nofile", 0, STATX_TYPE, &stx);
	S(statx, -1, NULL, 0, 0, NULL);
	S(statfs, "/proc", &fs);
	S(statfs, "/", &fs);
	S(statfs, "/nonexistent", &fs);
	S(fstatfs, fd, &fs);
	S(fstatfs, -1, &fs);
	S(ustat, 0, buffer);
	S(access, "file", F_OK);
	S(access, "file", R_OK | X_OK);
	S(access, "file", 0xff);
	S(faccessat, AT_FDCWD, "file", W_OK);
	S(faccessat2, AT_FDCWD, "file", W_OK, AT_EACCESS);
	S(faccessat2, 5, "file", R_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW | 1);
	S(symlink, "file", "link");
	S(symlinkat, "target/of/link", AT_FDCWD, "link2");
	S(readlink, "link", buffer, 100);
	S(readlink, "link2", buffer, 3);
	S(readlink, "file", buffer, 100);
	S(readlinkat, AT_FDCWD, "link2", buffer, 4096);
	S(readlinkat, fd, "link2", BAD, 4096);
	S(link, "file", "hard");
	S(linkat, AT_FDCWD, "file", AT_FDCWD, "hard2", AT_SYMLINK_FOLLOW);
	S(linkat, AT_FDCWD, "file", -1, "hard2", 1);
	S(rename, "hard", "renamed");
	S(renameat, AT_FDCWD, "renamed", AT_FDCWD, "hard");
	S(renameat2, AT_FDCWD, "hard", AT_FDCWD, "hard2", RENAME_NOREPLACE);
	S(renameat2, AT_FDCWD, "hard", AT_FDCWD, "hard2", RENAME_EXCHANGE | RENAME_WHITEOUT | 0x100);
	S(unlink, "hard");
	S(unlink, "hard");
	S(unlinkat, AT_FDCWD, "hard2", 0);
	S(mkdir, "dir", 0755);
	S(mkdir, "dir", 07777);
	S(mkdirat, AT_FDCWD, "dir2", 0);
	S(unlinkat, AT_FDCWD, "dir2", AT_REMOVEDIR);
	S(rmdir, "dir2");
	S(mknod, "fifo", S_IFIFO | 0600, 0);
	S(mknod, "device", S_IFCHR | 0600, 0x103);
	S(mknodat, AT_FDCWD, "block", S_IFBLK | 0644, 0x801);
	S(mknodat, AT_FDCWD, "plain", S_IFREG | 04644, 0);
	S(mknodat, AT_FDCWD, "plain2", 0644, 0);
	S(mknodat, AT_FDCWD, "plain3", 0170644, 5);
	S(chmod, "file", 0);
	S(chmod, "file", 04755);
	S(chmod, "file", 0177777);
	S(fchmod, fd, 0600);
	S(fchmodat, AT_FDCWD, "file", 0644);
	S(chown, "file", 0, 0);
	S(chown, "file", -1, 1000);
	S(lchown, "link", 65534, -1);
	S(fchown, fd, -1, -1);
	S(fchownat, AT_FDCWD, "link", 1, 2, AT_SYMLINK_NOFOLLOW);
	S(umask, 022);
	S(umask, 07777);
	S(umask, 022);
	S(chdir, "dir");
	S(chdir, "..");
	S(fchdir, fd);
	S(chroot, "/nonexistent");
	S(pivot_root, "/nonexistent", "/nonexistent/old");
	S(getcwd, buffer, 4096);
	S(getcwd, buffer, 1);
	S(creat, "created", 0600);
	S(openat, AT_FDCWD, "nofile", O_RDONLY | O_CLOEXEC);
	S(openat, AT_FDCWD, "file", O_WRONLY | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC | O_NOATIME);
	S(openat, fd, "file", O_RDWR | O_EXCL | O_NOCTTY | O_DIRECT | O_LARGEFILE | O_NOFOLLOW | O_PATH);
	S(openat, AT_FDCWD, "dir", O_RDWR | O_TMPFILE | O_EXCL, 0600);
	S(openat, AT_FDCWD, "dir", 3 | O_DIRECTORY | 0x80000000);
	S(openat, -1, NULL, 0);
	S(openat, AT_FDCWD, BAD, 0x10000000);
	S(open, "dir", O_RDONLY | O_DIRECTORY);
	struct open_how how = {.flags = O_RDWR | O_CREAT, .mode = 0600, .resolve = RESOLVE_NO_XDEV | RESOLVE_BENEATH};
	S(openat2, AT_FDCWD, "file", &how, sizeof(how));
	how.flags = O_PATH;
	how.mode = 0;
	how.resolve = 0;
	S(openat2, AT_FDCWD, "file", &how, sizeof(how));
	S(openat2, AT_FDCWD, "file", &how, 5L);
	S(openat2, AT_FDCWD, "file", NULL, sizeof(how));
	S(openat2, AT_FDCWD, "file", BAD, 100L);
	S(dup, fd);
	S(dup2, fd, 20);
	S(dup3, fd, 21, O_CLOEXEC);
	S(dup3, fd, fd, 0);
	S(close_range, 20, 21, 0);
	S(close_range, 40, ~0U, CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE);
	S(close_range, 40, 10, 77);
	S(close, fd);
	S(close, fd);
	S(memfd_create, "name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	S(memfd_create, "name", MFD_HUGETLB | (21 << 26));
	S(memfd_create, "a name that is longer than the limit of strings", 0x100);
	S(memfd_create, NULL, 0);
	S(memfd_secret, 0);
}

static void directories(void)
{
	S(mkdir, "dir", 0755);
	S(mkdir, "dir/sub", 0755);
	int file = S(open, "dir/file", O_CREAT | O_RDWR, 0600);
	int fd = S(openat, AT_FDCWD, "dir", O_RDONLY | O_DIRECTORY | O_NONBLOCK);
	S(getdents64, fd, buffer, 32768);
	S(getdents64, fd, buffer, 32768);
	S(getdents64, file, buffer, 32768);
	S(lseek, fd, 0, SEEK_SET);
	S(getdents, fd, buffer, 4096);
	S(getdents, fd, buffer, 4096);
	S(getdents, -1, NULL, 10);
	struct { struct file_handle h; char f[128]; } handle = {.h = {.handle_bytes = 128}};
	int mount;
	S(name_to_handle_at, AT_FDCWD, "dir", &handle, &mount, 0);
	S(name_to_handle_at, AT_FDCWD, "nodir", &handle, &mount, AT_SYMLINK_FOLLOW);
	handle.h.handle_bytes = 0;
	S(name_to_handle_at, AT_FDCWD, "dir", &handle, &mount, AT_EMPTY_PATH);
	S(name_to_handle_at, AT_FDCWD, "dir", NULL, NULL, 8);
	handle.h.handle_bytes = 8;
	S(open_by_handle_at, -1, &handle, O_RDONLY);
	S(open_by_handle_at, -1, NULL, O_RDWR | O_CLOEXEC);
}

static void vectors(void)
{
	int fd = S(open, "file", O_RDWR | O_CREAT | O_TRUNC, 0644);
	char one[10], two[100];
	struct iovec w[3] = {{"abc", 3}, {"", 0}, {"a longer string, more than the limit of 32", 42}};
	struct iovec r[2] = {{one, 10}, {two, 100}};
	S(writev, fd, w, 3);
	S(writev, fd, w, 0);
	S(writev, fd, NULL, 0);
	S(writev, fd, w, 1L << 60);
	S(writev, fd, BAD, 2);
	S(writev, fd, at_end(w, sizeof w), 5);
	w[1].iov_base = BAD;
	w[1].iov_len = 5;
	S(writev, -1, w, 3);
	S(pwritev, fd, w, 1, 10L, 0L);
	S(pwritev2, fd, w, 1, -1L, -1L, RWF_SYNC | RWF_HIPRI);
	S(pwritev2, fd, w, 1, 5L, 0L, 0x1000);
	S(lseek, fd, 0, SEEK_SET);
	S(readv, fd, r, 2);
	S(readv, fd, r, 2);
	S(readv, -1, r, 2);
	S(preadv, fd, r, 2, 2L, 0L);
	S(preadv2, fd, r, 2, 40L, 0L, RWF_NOWAIT);
	S(preadv2, fd, r, 2, 40L, 0L, 0);
	r[0].iov_base = BAD;
	S(readv, fd, r, 2);
	int other = S(open, "other", O_RDWR | O_CREAT | O_TRUNC, 0644);
	long in = 5, out = 7;
	S(copy_file_range, fd, &in, other, &out, 10L, 0);
	S(copy_file_range, fd, NULL, other, NULL, 10L, 1);
	S(copy_file_range, fd, BAD, -1, NULL, 10L, 0);
	S(sendfile, other, fd, &in, 5L);
	S(sendfile, other, fd, NULL, 5L);
	S(sendfile, other, -1, BAD, 5L);
	int pipes[2];
	S(pipe, pipes);
	S(pipe, BAD);
	S(pipe2, pipes, O_CLOEXEC | O_NONBLOCK);
	S(pipe2, NULL, 0x1);
	in = 1;
	S(splice, fd, &in, pipes[1], NULL, 10L, SPLICE_F_MOVE | SPLICE_F_MORE);
	S(splice, fd, BAD, pipes[1], NULL, 10L, 0x100);
	S(tee, pipes[0], pipes[1], 10L, SPLICE_F_NONBLOCK);
	w[0].iov_base = "data";
	w[0].iov_len = 4;
	S(vmsplice, pipes[1], w, 1L, SPLICE_F_GIFT);
	S(vmsplice, pipes[1], NULL, 1L, 0);
	S(process_vm_readv, getpid(), r + 1, 1L, w, 1L, 0L);
	S(process_vm_readv, -1, r, 1L, w, 1L, 1L);
	S(process_vm_writev, getpid(), w, 1L, r + 1, 1L, 0L);
	int queue = S(eventfd, 3);
	S(eventfd2, 3, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	S(eventfd2, -1, 7);
	S(close, queue);
}

static void attributes(void)
{
	int fd = S(open, "file", O_RDWR | O_CREAT | O_TRUNC, 0644);
	S(setxattr, "file", "user.name", "value", 5L, 0);
	S(setxattr, "file", "user.name", "value\0with\1", 11L, XATTR_CREATE);
	S(setxattr, "file", "user.name", NULL, 0L, XATTR_REPLACE | 8);
	S(lsetxattr, "nofile", "user.name", "value", 5L, XATTR_REPLACE);
	S(fsetxattr, fd, "user.other", "a value that is much longer than the limit", 42L, XATTR_CREATE);
	S(fsetxattr, fd, "user.other", BAD, 42L, 8);
	S(getxattr, "file", "user.name", buffer, 100L);
	S(getxattr, "file", "user.name", NULL, 0L);
	S(getxattr, "file", "user.none", buffer, 100L);
	S(lgetxattr, "file", "user.name", buffer, 2L);
	S(fgetxattr, fd, "user.other", buffer, 100L);
	S(listxattr, "file", buffer, 1000L);
	S(listxattr, "file", NULL, 0L);
	S(llistxattr, "nofile", buffer, 1000L);
	S(flistxattr, fd, buffer, 3L);
	S(removexattr, "file", "user.name");
	S(lremovexattr, "file", "user.name");
	S(fremovexattr, fd, "user.other");
	int notify = S(inotify_init);
	int notify2 = S(inotify_init1, IN_CLOEXEC | IN_NONBLOCK);
	S(inotify_init1, 77);
	S(inotify_add_watch, notify2, ".", IN_CREATE | IN_DELETE | IN_ONLYDIR);
	S(inotify_add_watch, notify2, ".", IN_ALL_EVENTS);
	S(inotify_add_watch, notify, "nofile", 0);
	S(inotify_rm_watch, notify2, 1);
	S(inotify_rm_watch, notify2, 7);
	S(fanotify_init, FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_LARGEFILE);
	S(fanotify_init, FAN_CLASS_CONTENT | FAN_UNLIMITED_QUEUE | FAN_REPORT_FID | 0x80000000, O_RDWR);
	S(fanotify_mark, -1, FAN_MARK_ADD | FAN_MARK_ONLYDIR, FAN_OPEN | FAN_CLOSE_WRITE | FAN_ONDIR, AT_FDCWD, "dir");
	S(fanotify_mark, -1, FAN_MARK_FLUSH | FAN_MARK_MOUNT, 0L, FAN_NOFD, NULL);
	S(fanotify_mark, -1, 0x1000, 1L << 50, 5, BAD);
}

static void mounts(void)
{
	S(mount, "none", "/nonexistent", "tmpfs", MS_NOSUID | MS_NODEV, "size=1");
	S(mount, NULL, "/nonexistent", NULL, MS_BIND | MS_REC, NULL);
	S(mount, "source", "/nonexistent", "ext4", MS_REMOUNT | MS_RDONLY, NULL);
	S(mount, "source", "/nonexistent", BAD, 0xc0ed0000 | MS_MOVE, BAD);
	S(mount, "none", "/nonexistent", NULL, MS_PRIVATE | MS_REC, NULL);
	S(umount2, "/nonexistent", 2 | 8);
	S(umount2, "/nonexistent", 0);
	S(umount2, NULL, 0x100);
	S(open_tree, AT_FDCWD, "/nonexistent", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	S(open_tree, -1, NULL, 0);
	S(move_mount, -1, "", AT_FDCWD, "/nonexistent", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
	S(fsopen, "nofs", FSOPEN_CLOEXEC);
	S(fsopen, "nofs", 2);
	S(fsconfig, -1, FSCONFIG_SET_FLAG, "ro", NULL, 0);
	S(fsconfig, -1, FSCONFIG_SET_STRING, "source", "value", 0);
	S(fsconfig, -1, FSCONFIG_SET_BINARY, "key", "val\0ue", 6);
	S(fsconfig, -1, FSCONFIG_SET_PATH, "key", "/path", AT_FDCWD);
	S(fsconfig, -1, FSCONFIG_SET_FD, "key", NULL, 7);
	S(fsconfig, -1, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	S(fsconfig, -1, 77, "a", "b", 1);
	S(fsmount, -1, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
	S(fspick, AT_FDCWD, "/nonexistent", FSPICK_CLOEXEC | FSPICK_NO_AUTOMOUNT);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY, .attr_clr = MOUNT_ATTR_NODEV, .propagation = MS_PRIVATE};
	S(mount_setattr, AT_FDCWD, "/nonexistent", AT_RECURSIVE, &attr, sizeof attr);
	S(mount_setattr, AT_FDCWD, "/nonexistent", 0, &attr, 5L);
	S(mount_setattr, AT_FDCWD, "/nonexistent", 0, NULL, sizeof attr);
	S(quotactl, QCMD(Q_SYNC, USRQUOTA), NULL, 0, NULL);
	S(quotactl, QCMD(Q_GETQUOTA, GRPQUOTA), "/dev/nonexistent", 1000, buffer);
	S(quotactl, QCMD(Q_QUOTAON, USRQUOTA), "/dev/nonexistent", 2, "/path");
	S(quotactl, QCMD(Q_QUOTAOFF, USRQUOTA), "/dev/nonexistent", 0, NULL);
	S(quotactl_fd, -1, QCMD(Q_GETFMT, USRQUOTA), 0, NULL);
	S(swapon, "/nonexistent", 0x8005);
	S(swapoff, "/nonexistent");
	S(acct, "/nonexistent");
	S(sync_file_range, -1, 0L, 0L, 0);
	S(sysfs, 3, 0, 0);
}

static void memory(void)
{
	char *p = (char *)S(mmap, NULL, 8192L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
	S(mmap, p, 4096L, PROT_READ | PROT_EXEC | PROT_GROWSDOWN, MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
	S(mmap, NULL, 4096L, PROT_NONE, MAP_SHARED_VALIDATE | MAP_SYNC, 99, 4096L);
	S(mmap, NULL, 0L, 0x77, 0x10000000, 99, 5L);
	S(mmap, NULL, 4096L, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (21 << 26), -1, 0L);
	S(mprotect, p, 4096L, PROT_READ);
	S(mprotect, p + 1, 4096L, PROT_NONE);
	S(mremap, p + 4096, 4096L, 8192L, MREMAP_MAYMOVE);
	S(mremap, p, 4096L, 8192L, MREMAP_MAYMOVE | MREMAP_FIXED, 1L);
	S(mremap, NULL, 1L, 2L, 0);
	S(mremap, NULL, 1L, 2L, 0x100);
	S(madvise, p, 4096L, MADV_DONTNEED);
	S(madvise, p, 4096L, 77);
	S(madvise, p, 4096L, MADV_HUGEPAGE);
	S(mlock, p, 4096L);
	S(mlock2, p, 4096L, MLOCK_ONFAULT);
	S(mlock2, p, 4096L, 7);
	S(munlock, p, 4096L);
	S(mlockall, MCL_CURRENT | MCL_ONFAULT | 0x100);
	S(munlockall);
	S(msync, p, 4096L, MS_SYNC | MS_INVALIDATE);
	S(msync, p + 1, 4096L, 0);
	S(mincore, p, 4096L, buffer);
	S(mincore, p, 4096L, BAD);
	S(mincore, p, 100L << 12, buffer);
	S(remap_file_pages, p, 4096L, 0L, 0L, 0);
	unsigned long nodes[2] = {1, 0};
	int mode;
	S(mbind, p, 4096L, MPOL_BIND, nodes, 64L, MPOL_MF_STRICT | MPOL_MF_MOVE);
	S(mbind, p, 4096L, MPOL_PREFERRED | MPOL_F_STATIC_NODES, NULL, 0L, 0);
	S(mbind, p, 4096L, 77, BAD, 128L, 0x100);
	S(set_mempolicy, MPOL_DEFAULT, NULL, 0L);
	S(set_mempolicy, MPOL_INTERLEAVE, nodes, 2L);
	S(get_mempolicy, &mode, nodes, 1024L, NULL, 0L);
	S(get_mempolicy, &mode, NULL, 0L, p, MPOL_F_NODE | MPOL_F_ADDR);
	S(get_mempolicy, BAD, nodes, 8L, NULL, 0x100);
	S(set_mempolicy_home_node, p, 4096L, 0L, 0L);
	void *pages[2] = {p, BAD};
	int node[2] = {0, 0}, status[2] = {0, 0};
	S(move_pages, 0, 2L, pages, node, status, MPOL_MF_MOVE);
	S(move_pages, 0, 2L, pages, NULL, status, 0);
	S(move_pages, -1, 1L << 60, NULL, NULL, NULL, 0x100);
	S(migrate_pages, 0, 8L, nodes, nodes);
	S(pkey_alloc, 0L, 1L);
	S(pkey_alloc, 1L, 77L);
	S(pkey_mprotect, p, 4096L, PROT_READ, -1);
	S(pkey_free, 7);
	S(munmap, p, 8192L);
	S(munmap, NULL, 0L);
	S(brk, 0L);
	S(brk, 0x1000L);
	S(userfaultfd, O_CLOEXEC | O_NONBLOCK);
	S(process_madvise, -1, NULL, 0L, MADV_COLD, 0);
	S(process_mrelease, -1, 0);
}

static void child(int status)
{
	S(exit_group, status);
}

static void processes(void)
{
	int status;
	struct rusage usage;
	siginfo_t info;
	char *args[] = {"program", "an argument", "with \"quotes\" and \001", NULL};
	char *environment[] = {"A=1", "B=2", NULL};
	char *many[100];
	for (int i = 0; i < 99; i++)
		many[i] = "x";
	many[99] = NULL;
	S(execve, "/nonexistent", args, environment);
	S(execve, "/nonexistent", NULL, NULL);
	S(execve, NULL, args + 3, environment + 1);
	S(execve, "/nonexistent", many, many);
	S(execve, "/nonexistent", BAD, BAD);
	args[1] = BAD;
	S(execve, "/nonexistent", args, args);
	S(execve, "/nonexistent", at_end(args, 24), args);
	S(execveat, AT_FDCWD, "nonexistent", args, environment, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH);
	S(execveat, -1, "", NULL, NULL, 0x1);
	int pid = fork();
	if (!pid)
		child(7);
	S(wait4, -1, &status, 0, &usage);
	pid = fork();
	if (!pid) {
		signal(SIGTERM, SIG_DFL);
		kill(getpid(), SIGTERM);
	}
	S(wait4, pid, &status, WUNTRACED | __WALL, NULL);
	S(wait4, -1, &status, WNOHANG, &usage);
	S(wait4, -5, NULL, 0x100000, BAD);
	pid = fork();
	if (!pid)
		child(3);
	S(waitid, P_PID, pid, &info, WEXITED | WNOWAIT, NULL);
	S(waitid, P_ALL, 0, &info, WEXITED, &usage);
	S(waitid, P_ALL, -1, &info, WEXITED | WNOHANG, NULL);
	S(waitid, 77, -1, NULL, 0, NULL);
	int ready[2];
	S(pipe, ready);
	pid = fork();
	if (!pid) {
		S(write, ready[1], "x", 1);
		S(pause);
	}
	S(read, ready[0], buffer, 1);
	S(waitid, P_PID, pid, &info, WEXITED | WNOHANG, &usage);
	kill(pid, SIGSTOP);
	S(wait4, pid, &status, WUNTRACED, NULL);
	kill(pid, SIGCONT);
	S(wait4, pid, &status, WCONTINUED, NULL);
	kill(pid, SIGKILL);
	S(wait4, pid, &status, 0, NULL);
	S(getrusage, RUSAGE_SELF, &usage);
	S(getrusage, RUSAGE_THREAD, BAD);
	S(getrusage, 77, NULL);
	struct rlimit limit;
	S(getrlimit, RLIMIT_NOFILE, &limit);
	S(setrlimit, RLIMIT_CORE, &limit);
	S(getrlimit, RLIMIT_CPU, &limit);
	S(getrlimit, 77, &limit);
	S(prlimit64, 0, RLIMIT_STACK, NULL, &limit);
	S(prlimit64, 0, RLIMIT_DATA, &limit, &limit);
	limit.rlim_cur = 4096;
	limit.rlim_max = 4097;
	S(prlimit64, -1, RLIMIT_AS, &limit, NULL);
	S(prlimit64, 0, RLIMIT_RTPRIO, BAD, BAD);
	unsigned long mask[16] = {0};
	S(sched_getaffinity, 0, 128L, mask);
	S(sched_getaffinity, -1, 128L, mask);
	S(sched_getaffinity, 0, 4L, mask);
	S(sched_setaffinity, 0, 128L, mask);
	S(sched_setaffinity, 0, 0L, mask);
	mask[0] = 0x35;
	S(sched_setaffinity, -1, 8L, mask);
	S(sched_setaffinity, 0, 8L, BAD);
	struct sched_param param = {.sched_priority = 5};
	S(sched_getscheduler, 0);
	S(sched_getparam, 0, &param);
	S(sched_setscheduler, 0, SCHED_OTHER | 0x40000000, &param);
	S(sched_setscheduler, 0, 77, &param);
	S(sched_setparam, 0, &param);
	S(sched_get_priority_max, SCHED_FIFO);
	S(sched_get_priority_min, 77);
	struct timespec ts;
	S(sched_rr_get_interval, 0, &ts);
	S(sched_yield);
	struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; uint32_t min, max; } attr;
	S(sched_getattr, 0, &attr, 56, 0);
	attr.flags = 1;
	S(sched_setattr, 0, &attr, 0);
	attr.size = 5;
	S(sched_setattr, 0, &attr, 0);
	S(sched_setattr, 0, NULL, 1);
	S(sched_getattr, -1, BAD, 5, 1);
	S(getpriority, PRIO_PROCESS, 0);
	S(getpriority, 77, 1);
	S(setpriority, PRIO_USER, 12345, 19);
	S(ioprio_get, 1, 0);
	S(ioprio_set, 1, 0, (2 << 13) | 4);
	S(ioprio_set, 77, 0, 0xffff);
	S(getpid);
	S(getppid);
	S(gettid);
	S(getpgrp);
	S(getpgid, 0);
	S(getsid, 0);
	S(setpgid, 0, 0);
	S(setpgid, -1, 5);
	S(setsid);
	S(getuid);
	S(geteuid);
	S(getgid);
	S(getegid);
	S(setuid, -1);
	S(setgid, -1);
	S(setreuid, -1, -1);
	S(setregid, -1, -1);
	S(setresuid, -1, -1, -1);
	S(setresgid, -1, -1, -1);
	S(setfsuid, -1);
	S(setfsgid, 0);
	unsigned a, b, c;
	S(getresuid, &a, &b, &c);
	S(getresgid, &a, NULL, &c);
	unsigned groups[40];
	for (int i = 0; i < 40; i++)
		groups[i] = i * 10;
	S(setgroups, 3L, groups);
	S(getgroups, 40L, groups);
	S(getgroups, 1L, groups);
	S(getgroups, 0L, NULL);
	S(setgroups, 0L, NULL);
	S(setgroups, 40L, BAD);
	S(setgroups, 1 << 30, groups);
	for (int i = 0; i < 40; i++)
		groups[i] = i * 10;
	S(setgroups, 40L, groups);
	struct __user_cap_header_struct cap = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct caps[2];
	S(capget, &cap, caps);
	S(capget, &cap, NULL);
	caps[0].effective = 1;
	caps[0].permitted = 0x5;
	caps[0].inheritable = 0;
	caps[1].effective = caps[1].permitted = caps[1].inheritable = 0;
	cap.pid = -5;
	S(capset, &cap, caps);
	cap.version = 77;
	S(capget, &cap, caps);
	S(capset, NULL, NULL);
	/* Of another process, so that none of these sets is taken. */
	unsigned sets[][2] = {{0, 0}, {1, 0}, {0, 1}, {-1, 0x1ff}, {-1, -1}, {0x80000000, 0x200}, {0xa80425fb, 0x601}};
	unsigned versions[] = {_LINUX_CAPABILITY_VERSION_1, _LINUX_CAPABILITY_VERSION_2, _LINUX_CAPABILITY_VERSION_3, 5};
	for (int i = 0; i < 28; i++) {
		for (int half = 0; half < 2; half++) {
			caps[half].effective = caps[half].permitted = sets[i / 4][half];
			caps[half].inheritable = sets[6 - i / 4][half];
		}
		cap.version = versions[i % 4];
		cap.pid = 99999999;
		S(capset, &cap, caps);
	}
	S(personality, 0xffffffff);
	S(personality, 0x0040000);
	S(personality, 0x0040077);
	S(personality, 0);
	struct utsname name;
	S(uname, &name);
	S(uname, BAD);
	S(sethostname, BAD, 5);
	S(setdomainname, BAD, 5);
	struct sysinfo system;
	S(sysinfo, &system);
	S(sysinfo, NULL);
	struct tms tms;
	S(times, &tms);
	S(times, NULL);
	S(set_tid_address, &status);
	S(get_robust_list, 0, buffer, buffer + 8);
	S(get_robust_list, -1, NULL, BAD);
	S(set_robust_list, buffer, 24L);
	S(set_robust_list, NULL, 7L);
	S(rseq, NULL, 0, 0, 0);
	S(rseq, buffer, 32, 1, 0x53053053);
	S(arch_prctl, 0x1003, buffer);
	S(arch_prctl, 0x1011, 0);
	S(arch_prctl, 0x77, 0);
	S(getrandom, buffer, 16L, 1);
	S(getrandom, buffer, 0L, 2 | 0x100);
	S(getrandom, BAD, 5L, 0);
	S(getcpu, &a, &b, NULL);
	S(getcpu, NULL, BAD, NULL);
	S(unshare, 0);
	S(unshare, CLONE_NEWNS | 0x1);
	S(setns, -1, CLONE_NEWNET);
	S(kcmp, getpid(), getpid(), 0, 0, 1);
	S(kcmp, getpid(), getpid(), 3, 0, 1);
	S(pidfd_open, -1, 0);
	S(pidfd_open, getpid(), O_NONBLOCK);
	S(pidfd_getfd, -1, 1, 0);
	S(pidfd_send_signal, -1, SIGTERM, NULL, 0);
	S(membarrier, 0, 0, 0);
	S(membarrier, 8, 1, 0);
	S(iopl, 7);
	S(ioperm, 1L << 40, 1L, 1);
	S(alarm, 0);
}

static void handler(int number) { (void)number; }
static void action(int number, siginfo_t *info, void *context) { (void)number; (void)info; (void)context; }

static void signals(void)
{
	struct sigaction sa = {.sa_handler = handler};
	sigset_t set, old;
	struct kernel_sigaction { void *handler; unsigned long flags; void *restorer; unsigned long mask; } raw = {0};
	sigaction(SIGUSR1, &sa, NULL);
	sa.sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER;
	sa.sa_sigaction = action;
	sigfillset(&sa.sa_mask);
	sigaction(SIGUSR2, &sa, NULL);
	sigaction(SIGUSR1, NULL, &sa);
	S(rt_sigaction, SIGPIPE, NULL, &raw, 8L);
	raw.handler = (void *)1;
	S(rt_sigaction, SIGPIPE, &raw, NULL, 8L);
	raw.handler = (void *)-1;
	S(rt_sigaction, SIGPIPE, &raw, &raw, 7L);
	S(rt_sigaction, SIGRTMIN + 2, NULL, NULL, 8L);
	S(rt_sigaction, 99, BAD, BAD, 8L);
	S(rt_sigaction, SIGKILL, NULL, &raw, 8L);
	sigemptyset(&set);
	S(rt_sigprocmask, SIG_BLOCK, &set, NULL, 8L);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGRTMIN + 5);
	S(rt_sigprocmask, SIG_BLOCK, &set, &old, 8L);
	S(rt_sigprocmask, SIG_SETMASK, NULL, &old, 8L);
	S(rt_sigprocmask, 77, &set, &old, 8L);
	S(rt_sigprocmask, SIG_UNBLOCK, BAD, &old, 8L);
	S(rt_sigprocmask, SIG_UNBLOCK, &set, &old, 4L);
	sigfillset(&set);
	S(rt_sigprocmask, SIG_SETMASK, &set, NULL, 8L);
	sigdelset(&set, SIGTERM);
	S(rt_sigprocmask, SIG_SETMASK, &set, NULL, 8L);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	S(rt_sigprocmask, SIG_SETMASK, &set, &old, 8L);
	S(kill, getpid(), SIGUSR1);
	S(rt_sigpending, &old, 8L);
	S(rt_sigpending, BAD, 8L);
	siginfo_t info;
	memset(&info, 0, sizeof info);
	struct timespec none = {0, 0};
	S(rt_sigtimedwait, &set, &info, &none, 8L);
	S(rt_sigtimedwait, &set, &info, &none, 8L);
	S(rt_sigtimedwait, &set, NULL, NULL, 7L);
	info.si_code = SI_QUEUE;
	info.si_pid = 12;
	info.si_uid = 13;
	info.si_value.sival_int = 42;
	S(rt_sigqueueinfo, getpid(), SIGUSR1, &info);
	S(rt_sigtimedwait, &set, &info, &none, 8L);
	S(rt_sigqueueinfo, getpid(), 0, &info);
	info.si_code = 77;
	S(rt_sigqueueinfo, -1, SIGUSR1, &info);
	S(rt_sigqueueinfo, getpid(), SIGUSR1, NULL);
	S(rt_tgsigqueueinfo, getpid(), getpid(), 0, &info);
	S(rt_tgsigqueueinfo, -1, -1, SIGRTMIN, BAD);
	int fd = S(signalfd4, -1, &set, 8L, O_CLOEXEC | O_NONBLOCK);
	S(signalfd, -1, &set, 8L);
	S(signalfd4, -1, NULL, 8L, 0);
	S(signalfd4, fd, &set, 8L, 0x100);
	S(tgkill, getpid(), getpid(), 0);
	S(tkill, getpid(), 0);
	S(tkill, -1, SIGRTMAX);
	S(kill, -99999, SIGTERM);
	S(kill, getpid(), 0);
	S(kill, getpid(), 77);
	stack_t stack = {.ss_sp = malloc(8192), .ss_size = 8192, .ss_flags = 0};
	S(sigaltstack, NULL, &stack);
	stack.ss_sp = buffer;
	stack.ss_size = 8192;
	stack.ss_flags = 0;
	S(sigaltstack, &stack, NULL);
	S(sigaltstack, NULL, &stack);
	stack.ss_flags = SS_DISABLE;
	S(sigaltstack, &stack, &stack);
	S(sigaltstack, BAD, BAD);
	sigemptyset(&set);
	S(rt_sigprocmask, SIG_SETMASK, &set, NULL, 8L);
	S(kill, getpid(), SIGUSR1);
	S(kill, getpid(), SIGUSR2);
	struct itimerval timer = {.it_value = {0, 20000}};
	sa.sa_flags = 0;
	sa.sa_handler = handler;
	sigaction(SIGALRM, &sa, NULL);
	S(setitimer, ITIMER_REAL, &timer, NULL);
	S(rt_sigsuspend, &set, 8L);
	S(rt_sigsuspend, NULL, 7L);
	S(setitimer, ITIMER_REAL, &timer, NULL);
	S(pause);
}

static void times_(void)
{
	struct timespec ts = {1, 5}, none = {0, 100}, bad = {-1, 2000000000};
	struct timeval tv = {1234567890, 42}, tv2[2] = {{1, 2}, {1234567890, 4}};
	struct timezone tz = {5, 6};
	struct itimerval timer = {{1, 2}, {300, 4}};
	S(nanosleep, &none, NULL);
	S(nanosleep, &none, &ts);
	S(nanosleep, &bad, &ts);
	S(nanosleep, NULL, BAD);
	S(clock_nanosleep, CLOCK_MONOTONIC, 0, &none, NULL);
	S(clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &none, &ts);
	S(clock_nanosleep, 77, 2, BAD, NULL);
	S(clock_gettime, CLOCK_REALTIME, &ts);
	S(clock_gettime, CLOCK_BOOTTIME, BAD);
	S(clock_gettime, 77, &ts);
	S(clock_gettime, -6, &ts);
	S(clock_gettime, ~0U << 3 | 6, &ts);
	S(clock_getres, CLOCK_MONOTONIC_RAW, &ts);
	S(clock_getres, CLOCK_PROCESS_CPUTIME_ID, NULL);
	S(clock_settime, CLOCK_MONOTONIC, &ts);
	S(clock_settime, CLOCK_REALTIME, &bad);
	S(gettimeofday, &tv, &tz);
	S(gettimeofday, &tv, NULL);
	S(gettimeofday, BAD, NULL);
	S(settimeofday, BAD, &tz);
	S(time, NULL);
	S(time, &ts);
	S(getitimer, ITIMER_REAL, &timer);
	timer = (struct itimerval){{1, 2}, {300, 4}};
	S(setitimer, ITIMER_REAL, &timer, &timer);
	S(setitimer, ITIMER_PROF, NULL, &timer);
	S(setitimer, 77, &timer, NULL);
	timer = (struct itimerval){{0, 0}, {0, 0}};
	S(setitimer, ITIMER_REAL, &timer, NULL);
	S(alarm, 100);
	S(alarm, 0);
	timer_t id = 0;
	struct sigevent event = {.sigev_notify = SIGEV_NONE, .sigev_signo = SIGUSR1};
	event.sigev_value.sival_int = 7;
	struct itimerspec its = {{0, 0}, {100, 5}};
	S(timer_create, CLOCK_MONOTONIC, &event, &id);
	event.sigev_notify = SIGEV_SIGNAL;
	S(timer_create, CLOCK_REALTIME, &event, &id);
	event.sigev_notify = SIGEV_THREAD_ID;
	S(timer_create, CLOCK_REALTIME, &event, &id);
	event.sigev_notify = 77;
	S(timer_create, CLOCK_REALTIME, &event, &id);
	S(timer_create, CLOCK_REALTIME, NULL, &id);
	S(timer_create, CLOCK_REALTIME, BAD, NULL);
	S(timer_settime, 0L, TIMER_ABSTIME, &its, &its);
	S(timer_settime, 0L, 0, &its, NULL);
	S(timer_settime, 77L, 2, NULL, NULL);
	S(timer_gettime, 1L, &its);
	S(timer_gettime, 77L, &its);
	S(timer_getoverrun, 0L);
	S(timer_delete, 0L);
	S(timer_delete, 77L);
	int fd = S(timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	S(timerfd_create, 77, 0x100);
	its = (struct itimerspec){{1, 0}, {100, 5}};
	S(timerfd_settime, fd, TFD_TIMER_ABSTIME, &its, &its);
	S(timerfd_settime, fd, TFD_TIMER_CANCEL_ON_SET | 0x10, &its, NULL);
	S(timerfd_settime, -1, 0, BAD, NULL);
	S(timerfd_gettime, fd, &its);
	S(timerfd_gettime, -1, &its);
	S(open, "file", O_RDWR | O_CREAT, 0644);
	struct utimbuf ut = {1234567890, 0};
	S(utime, "file", &ut);
	S(utime, "file", NULL);
	S(utime, "nofile", BAD);
	S(utimes, "file", tv2);
	S(utimes, "nofile", NULL);
	S(futimesat, AT_FDCWD, "file", tv2);
	struct timespec two[2] = {{1234567890, 5}, {0, UTIME_OMIT}};
	S(utimensat, AT_FDCWD, "file", two, 0);
	two[0].tv_nsec = UTIME_NOW;
	S(utimensat, AT_FDCWD, "file", two, AT_SYMLINK_NOFOLLOW);
	two[1].tv_nsec = UTIME_NOW;
	S(utimensat, AT_FDCWD, "file", two, 0);
	two[1].tv_sec = 5;
	two[1].tv_nsec = 2000000000;
	S(utimensat, AT_FDCWD, NULL, two, 1);
	S(utimensat, AT_FDCWD, "file", NULL, 0);
	S(utimensat, AT_FDCWD, "file", BAD, 0);
	struct timex timex;
	memset(&timex, 0, sizeof timex);
	S(adjtimex, &timex);
	memset(&timex, 0, sizeof timex);
	S(clock_adjtime, CLOCK_REALTIME, &timex);
	S(clock_adjtime, 77, &timex);
	S(adjtimex, NULL);
}

static void polls(void)
{
	int pipes[2];
	S(pipe, pipes);
	fd_set in, out, except;
	struct timeval tv = {0, 1000}, negative = {-1, 5};
	struct timespec ts = {0, 1000};
	sigset_t set;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&except);
	S(select, 0, NULL, NULL, NULL, &tv);
	FD_SET(pipes[0], &in);
	tv = (struct timeval){0, 1000};
	S(select, pipes[0] + 1, &in, NULL, NULL, &tv);
	FD_SET(pipes[0], &in);
	FD_SET(pipes[1], &in);
	FD_SET(pipes[1], &out);
	tv = (struct timeval){10, 0};
	S(select, pipes[1] + 1, &in, &out, &except, &tv);
	S(write, pipes[1], "x", 1);
	FD_SET(pipes[0], &in);
	S(select, pipes[1] + 1, &in, NULL, NULL, NULL);
	S(select, 1025, &in, BAD, NULL, &negative);
	S(select, -1, &in, NULL, NULL, NULL);
	FD_SET(1000, &in);
	S(select, 1024, &in, NULL, NULL, NULL);
	struct { sigset_t *set; size_t size; } mask = {&set, 8};
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	FD_ZERO(&in);
	FD_SET(pipes[0], &in);
	S(pselect6, pipes[0] + 1, &in, NULL, NULL, &ts, &mask);
	S(pselect6, pipes[0] + 1, &in, NULL, NULL, NULL, NULL);
	mask.set = NULL;
	ts.tv_nsec = 1000;
	FD_ZERO(&in);
	S(pselect6, 0, &in, NULL, NULL, &ts, &mask);
	S(pselect6, 0, NULL, NULL, NULL, BAD, BAD);
	static struct pollfd fds[64]; /* zeros after those that are used */
	fds[0] = (struct pollfd){pipes[0], POLLIN | POLLPRI, 0};
	fds[1] = (struct pollfd){pipes[1], POLLOUT | POLLWRNORM, 0};
	fds[2] = (struct pollfd){-1, 0, 0};
	S(poll, fds, 3, 1000);
	S(poll, fds, 1, -1);
	S(read, pipes[0], buffer, 10);
	S(poll, fds, 1, 0);
	S(poll, NULL, 0, 0);
	S(poll, NULL, 3, 0);
	S(poll, BAD, 1, 0);
	S(poll, fds, 1 << 30, 0);
	S(poll, at_end(fds, 3 * sizeof *fds), 5, 0);
	fds[0].fd = 99;
	fds[0].events = 0x7fff;
	S(poll, fds, 1, 0);
	struct pollfd more[36];
	for (int i = 0; i < 36; i++)
		more[i] = (struct pollfd){pipes[1], POLLOUT, 0};
	S(poll, more, 36, 0);
	ts = (struct timespec){0, 1000};
	S(ppoll, fds + 1, 1, &ts, &set, 8L);
	S(ppoll, fds + 2, 1, &ts, NULL, 0L);
	S(ppoll, fds, 1, NULL, NULL, 0L);
	S(ppoll, NULL, 1, BAD, BAD, 8L);
	int fd = S(epoll_create, 5);
	int fd2 = S(epoll_create1, EPOLL_CLOEXEC);
	S(epoll_create1, 77);
	struct epoll_event event = {.events = EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.u64 = 5}, events[4];
	S(epoll_ctl, fd, EPOLL_CTL_ADD, pipes[1], &event);
	event.events = EPOLLIN | EPOLLONESHOT | EPOLLEXCLUSIVE | 0x8000;
	event.data.u64 = 0x123456789abcdef0;
	S(epoll_ctl, fd, EPOLL_CTL_MOD, 99, &event);
	S(epoll_ctl, fd2, 77, pipes[0], &event);
	S(epoll_ctl, fd2, EPOLL_CTL_DEL, pipes[0], NULL);
	S(epoll_ctl, fd2, EPOLL_CTL_DEL, pipes[0], &event);
	S(epoll_ctl, fd2, EPOLL_CTL_ADD, pipes[0], BAD);
	S(epoll_wait, fd, events, 4, -1);
	S(epoll_wait, fd, events, 4, 0);
	S(epoll_wait, fd2, events, 0, 0);
	S(epoll_wait, fd2, events, 1, 0);
	S(epoll_pwait, fd2, events, 1, 0, &set, 8L);
	S(epoll_pwait, fd2, events, 1, 0, NULL, 8L);
	ts = (struct timespec){0, 1000};
	S(epoll_pwait2, fd2, events, 1, &ts, &set, 8L);
	S(epoll_pwait2, fd2, events, 1, NULL, BAD, 7L);
}

int main(int argc, char **argv)
{
	static const struct { const char *name; void (*calls)(void); } groups[] = {
		{"files", files}, {"directories", directories}, {"vectors", vectors}, {"attributes", attributes},
		{"mounts", mounts}, {"memory", memory}, {"processes", processes}, {"signals", signals},
		{"times", times_}, {"polls", polls},
	};
	if (argc < 3 || chdir(argv[1]))
		return 1;
	page_end = (char *)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 4096;
	munmap(page_end, 4096);
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		if (!strcmp(argv[2], groups[i].name))
			groups[i].calls();
	return 0;
}

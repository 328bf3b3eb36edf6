/* Calls whose arguments depend on another one, and of the kernel's own; each with telling arguments. All are harmless. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <net/if.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define BAD ((void *)0xdead000UL)
#define call(name, ...) syscall(SYS_##name, __VA_ARGS__)

static char space[4096];

static void fcntls(void) {
    int fd = open("/dev/null", O_RDWR | O_APPEND), pair[2];
    struct flock lock = {F_RDLCK, SEEK_SET, 1, 2, 0};
    fcntl(fd, F_GETFD);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_GETFD);
    fcntl(fd, F_SETFD, 0x10);
    fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, O_RDONLY | O_NONBLOCK);
    close(fcntl(fd, F_DUPFD, 10));
    close(fcntl(fd, F_DUPFD_CLOEXEC, 20));
    fcntl(fd, F_SETLK, &lock);
    fcntl(fd, F_GETLK, &lock);
    fcntl(fd, F_SETLK, NULL);
    fcntl(fd, F_SETLKW, BAD);
    fcntl(fd, F_OFD_SETLK, &lock);
    fcntl(fd, F_GETOWN);
    fcntl(fd, F_SETOWN, -5);
    fcntl(fd, F_GETSIG);
    fcntl(fd, F_SETSIG, SIGUSR1);
    fcntl(fd, F_GETSIG);
    fcntl(fd, F_GETLEASE);
    fcntl(fd, F_SETLEASE, F_UNLCK);
    fcntl(fd, F_NOTIFY, DN_ACCESS | DN_MULTISHOT);
    fcntl(fd, F_GET_SEALS);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL);
    fcntl(fd, F_GETOWN_EX, space);
    fcntl(fd, F_SETOWN_EX, (int[]){1, 0});
    pipe(pair);
    fcntl(pair[0], F_GETPIPE_SZ);
    fcntl(pair[0], F_SETPIPE_SZ, 4096);
    fcntl(fd, F_GET_RW_HINT, space);
    fcntl(fd, 999, 7);
    fcntl(-1, F_GETFL);
    fcntl(-1, F_GETFD);
    close(pair[0]);
    close(pair[1]);
    close(fd);
    fd = call(memfd_create, "seals", 2);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    fcntl(fd, F_GET_SEALS);
    close(fd);
}

static void prctls(void) {
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    prctl(PR_GET_PDEATHSIG, space);
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_GET_DUMPABLE);
    prctl(PR_SET_DUMPABLE, 1);
    prctl(PR_SET_NAME, "a name\twith more than sixteen");
    prctl(PR_GET_NAME, space);
    prctl(PR_SET_NAME, BAD);
    prctl(PR_GET_KEEPCAPS);
    prctl(PR_SET_KEEPCAPS, 0);
    prctl(PR_GET_SECCOMP);
    prctl(PR_CAPBSET_READ, 5);
    prctl(PR_CAPBSET_READ, 500);
    prctl(PR_CAPBSET_DROP, 500);
    prctl(PR_GET_SECUREBITS);
    prctl(PR_SET_SECUREBITS, 0x1000000);
    prctl(PR_GET_TIMERSLACK);
    prctl(PR_SET_TIMERSLACK, 50000);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    prctl(PR_GET_CHILD_SUBREAPER, space);
    prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0);
    prctl(PR_GET_TSC, space);
    prctl(PR_GET_TID_ADDRESS, space);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 5, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0);
    prctl(PR_SET_SPECULATION_CTRL, 77, 2, 0, 0);
    prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
    prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
    prctl(PR_MCE_KILL, PR_MCE_KILL_SET, 9, 0, 0);
    prctl(PR_SET_PTRACER, -1);
    prctl(PR_SET_MM, 99, 1, 2, 3);
    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0, 0, "name");
    prctl(PR_SCHED_CORE, 0, 0, 1, space);
    prctl(PR_GET_IO_FLUSHER, 1, 2, 3, 4);
    prctl(12345, 1, 2, 3, 4);
    struct sock_filter filter[] = {{0x20, 0, 0, 0}, {0x15, 0, 1, 9}, {0x6, 0, 0, 0x7fff0000}, {0x6, 0, 0, 0x50001}, {0x54, 0, 0, 7}, {0x87, 0, 0, 0}};
    struct sock_fprog program = {6, filter};
    prctl(PR_SET_SECCOMP, 99, &program);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, BAD);
    program.len = 0;
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    program.len = 6;
    call(seccomp, SECCOMP_SET_MODE_FILTER, 0x1000, &program);
    call(seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC | 0x1000, NULL);
    call(seccomp, SECCOMP_GET_ACTION_AVAIL, 0, (int[]){0x7fff0000});
    call(seccomp, SECCOMP_GET_ACTION_AVAIL, 0, (int[]){0x12345678});
    call(seccomp, SECCOMP_GET_NOTIF_SIZES, 0, space);
    call(seccomp, 99, 1, space);
    call(seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL);
}

static void futexes(void) {
    int word = 5, other = 0;
    struct timespec t = {0, 1000}, wrong = {-1, 0};
    call(futex, &word, FUTEX_WAIT_PRIVATE, 6, NULL);
    call(futex, &word, FUTEX_WAIT, 5, &t);
    call(futex, &word, FUTEX_WAIT, 5, &wrong);
    call(futex, &word, FUTEX_WAIT, 5, BAD);
    call(futex, &word, FUTEX_WAKE_PRIVATE, 0x7fffffff);
    call(futex, &word, FUTEX_WAKE, -1);
    call(futex, &word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 5, &t, NULL, -1);
    call(futex, &word, FUTEX_WAIT_BITSET, 6, NULL, NULL, 3);
    call(futex, &word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 3);
    call(futex, &word, FUTEX_REQUEUE, 1, 2, &other);
    call(futex, &word, FUTEX_CMP_REQUEUE_PRIVATE, 1, 0x7fffffff, &other, 5);
    call(futex, &word, FUTEX_WAKE_OP_PRIVATE, 1, 1, &other, FUTEX_OP(FUTEX_OP_SET, 3, FUTEX_OP_CMP_GT, 1));
    call(futex, &word, FUTEX_WAKE_OP, 1, 1, &other, 0xf7ff);
    call(futex, &word, FUTEX_LOCK_PI, 0, &t);
    call(futex, &word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL);
    call(futex, &word, FUTEX_TRYLOCK_PI, 0, NULL);
    call(futex, &word, FUTEX_WAIT_REQUEUE_PI, 6, NULL, &other);
    call(futex, &word, FUTEX_CMP_REQUEUE_PI, 1, 2, &other, 6);
    call(futex, &word, FUTEX_FD, 1);
    call(futex, &word, 99, 1, &t, &other, 7);
    call(futex, NULL, FUTEX_WAKE, 1);
    struct futex_waitv waiters[2] = {{6, (unsigned long)&word, FUTEX_32, 0}, {0, 0, FUTEX_32 | FUTEX_PRIVATE_FLAG, 7}};
    call(futex_waitv, waiters, 2, 0, NULL, CLOCK_MONOTONIC);
    call(futex_waitv, waiters, 1, 0, &t, CLOCK_REALTIME);
    call(futex_waitv, NULL, 1, 7, NULL, 99);
    call(futex_waitv, BAD, 3, 0, NULL, 0);
}

static void clones(void) {
    int tid = 0, fd = 0;
    int pid = call(clone, SIGCHLD, NULL, NULL, NULL, 0);
    if (!pid)
        _exit(3);
    waitpid(pid, NULL, 0);
    pid = call(clone, CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_SETTLS * 0 | SIGCHLD, NULL, &tid, &fd, 0);
    if (!pid)
        _exit(3);
    waitpid(pid, NULL, 0);
    pid = call(clone, CLONE_PIDFD | SIGCHLD, NULL, &fd, NULL, 0);
    if (!pid)
        _exit(3);
    close(fd);
    waitpid(pid, NULL, 0);
    call(clone, CLONE_THREAD, NULL, NULL, NULL, 0);
    call(clone, CLONE_SIGHAND | CLONE_SETTLS | CLONE_CHILD_SETTID | 0xff, 0x1000, 1, 2, 3);
    call(clone, CLONE_THREAD | CLONE_PARENT_SETTID, 0x1000, &tid, 2, 3);
    struct clone_args args = {.flags = CLONE_PARENT_SETTID | CLONE_PIDFD, .pidfd = (long)&fd, .parent_tid = (long)&tid, .exit_signal = SIGCHLD};
    pid = call(clone3, &args, sizeof args);
    if (!pid)
        _exit(3);
    close(fd);
    waitpid(pid, NULL, 0);
    args = (struct clone_args){.flags = CLONE_THREAD, .stack = 0x1000, .stack_size = 0x2000, .tls = 5, .exit_signal = 99};
    call(clone3, &args, sizeof args);
    call(clone3, &args, 64);
    call(clone3, &args, 10);
    call(clone3, NULL, 88);
    call(clone3, BAD, 88);
    args = (struct clone_args){.flags = CLONE_INTO_CGROUP | CLONE_SETTLS | CLONE_CHILD_SETTID | 1ull << 60, .set_tid = (long)(int[]){1, 2}, .set_tid_size = 2, .cgroup = 7, .exit_signal = 200};
    call(clone3, &args, sizeof args);
}

static void ipcs(void) {
    int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    void *at = shmat(id, NULL, SHM_RDONLY);
    shmdt(at);
    shmctl(id, IPC_STAT, (void *)space);
    ((struct shmid_ds *)space)->shm_perm.mode = 0644;
    shmctl(id, IPC_SET, (void *)space);
    shmctl(id, IPC_RMID, NULL);
    shmctl(id, IPC_STAT, (void *)space);
    shmget(0x1234567, 4096, 0);
    shmget(5, 0, IPC_EXCL | SHM_HUGETLB | 21 << 26 | 0777);
    shmat(-1, (void *)0x1000, SHM_RND);
    shmctl(-1, 99, (void *)space);
    id = semget(IPC_PRIVATE, 2, 0666 | IPC_CREAT);
    struct sembuf operations[2] = {{0, 1, 0}, {1, -1, IPC_NOWAIT | SEM_UNDO}};
    semop(id, operations, 1);
    semop(id, operations, 2);
    semop(id, BAD, 2);
    semtimedop(id, operations, 1, (struct timespec[]){{1, 2}});
    semctl(id, 0, GETVAL);
    semctl(id, 1, SETVAL, 7);
    semctl(id, 0, IPC_RMID);
    semctl(-1, 0, 99, 3);
    id = msgget(IPC_PRIVATE, 0600);
    struct { long type; char text[50]; } message = {5, "hello\n"};
    msgsnd(id, &message, 6, IPC_NOWAIT);
    msgsnd(id, &message, 40, 0);
    msgsnd(id, BAD, 40, 0);
    msgrcv(id, &message, 50, 0, MSG_NOERROR);
    msgrcv(id, &message, 50, -5, IPC_NOWAIT | MSG_EXCEPT);
    msgrcv(id, &message, 50, 5, IPC_NOWAIT);
    msgctl(id, IPC_STAT, (void *)space);
    msgctl(id, IPC_SET, (void *)space);
    msgctl(id, IPC_RMID, NULL);
    msgctl(id, IPC_RMID, NULL);
    struct mq_attr attributes = {0, 3, 100, 0};
    int mq = call(mq_open, "insitu-test", O_RDWR | O_CREAT, 0600, &attributes);
    call(mq_open, "insitu-none", O_RDONLY);
    call(mq_open, "insitu-none", O_RDONLY | O_CREAT, 0600, NULL);
    call(mq_open, BAD, O_RDONLY | O_CREAT, 0600, BAD);
    call(mq_timedsend, mq, "text", 4, 7, NULL);
    unsigned priority;
    call(mq_timedreceive, mq, space, 100, &priority, NULL);
    call(mq_timedreceive, mq, space, 100, &priority, (struct timespec[]){{1, 2}});
    attributes.mq_flags = O_NONBLOCK;
    call(mq_getsetattr, mq, &attributes, &attributes);
    call(mq_getsetattr, mq, NULL, space);
    call(mq_notify, mq, NULL);
    call(mq_unlink, "insitu-test");
    call(mq_unlink, "insitu-none");
    close(mq);
}

static void aios(void) {
    aio_context_t context = 0;
    call(io_setup, 5, &context);
    call(io_setup, 5, BAD);
    int fd = open("/etc/passwd", O_RDONLY);
    struct iocb read_block = {.aio_data = 7, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (long)space, .aio_nbytes = 4};
    struct iocb write_block = {.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = -1, .aio_buf = (long)"text", .aio_nbytes = 4, .aio_offset = 3, .aio_reqprio = 5};
    struct iocb sync_block = {.aio_lio_opcode = IOCB_CMD_FSYNC, .aio_fildes = fd, .aio_flags = 1, .aio_resfd = 9};
    struct iocb *blocks[] = {&read_block, &write_block, &sync_block, NULL, BAD};
    call(io_submit, context, 1, blocks);
    call(io_submit, context, 1, blocks + 1);
    call(io_submit, context, 2, blocks + 2);
    call(io_submit, context, 1, blocks + 4);
    call(io_submit, context, 0, blocks);
    call(io_submit, context, 1, BAD);
    call(io_getevents, context, 0, 3, space, NULL);
    call(io_getevents, context, 0, 3, space, (struct timespec[]){{0, 5}});
    call(io_cancel, context, &read_block, space);
    call(io_destroy, context);
    call(io_destroy, 0);
    close(fd);
}

static void keys(void) {
    int key = call(add_key, "user", "insitu:test", "payload", 7, KEY_SPEC_PROCESS_KEYRING);
    call(add_key, NULL, "x", NULL, 0, KEY_SPEC_THREAD_KEYRING);
    call(request_key, "user", "insitu:none", NULL, KEY_SPEC_SESSION_KEYRING);
    call(keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0);
    call(keyctl, KEYCTL_READ, key, space, 100);
    call(keyctl, KEYCTL_READ, key, NULL, 0);
    call(keyctl, KEYCTL_DESCRIBE, -99, space, 100);
    call(keyctl, KEYCTL_UPDATE, key, "new", 3);
    call(keyctl, KEYCTL_CHOWN, key, -1, 0);
    call(keyctl, KEYCTL_SETPERM, key, 0x01020000);
    call(keyctl, KEYCTL_SEARCH, KEY_SPEC_PROCESS_KEYRING, "user", "insitu:test", 0);
    call(keyctl, KEYCTL_LINK, key, KEY_SPEC_THREAD_KEYRING);
    call(keyctl, KEYCTL_UNLINK, key, KEY_SPEC_THREAD_KEYRING);
    call(keyctl, KEYCTL_SET_TIMEOUT, key, 100);
    call(keyctl, KEYCTL_SET_REQKEY_KEYRING, -1);
    call(keyctl, KEYCTL_ASSUME_AUTHORITY, 0);
    call(keyctl, KEYCTL_INSTANTIATE, key, "x", 1, 0);
    call(keyctl, KEYCTL_NEGATE, key, 5, 0);
    call(keyctl, KEYCTL_REVOKE, key);
    call(keyctl, KEYCTL_CLEAR, 0);
    call(keyctl, KEYCTL_INVALIDATE, key);
    call(keyctl, KEYCTL_SESSION_TO_PARENT + 1000, 1, 2, 3, 4);
    call(keyctl, KEYCTL_JOIN_SESSION_KEYRING, BAD);
}

static void traces(void) {
    ptrace(PTRACE_SEIZE, -1, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC);
    ptrace(PTRACE_ATTACH, -1, 0, 0);
    ptrace(PTRACE_CONT, -1, 1, SIGUSR1);
    ptrace(PTRACE_SYSCALL, -1, 0, 0);
    ptrace(PTRACE_DETACH, -1, 0, 0);
    ptrace(PTRACE_PEEKDATA, -1, space, space);
    ptrace(PTRACE_POKEDATA, -1, space, 7);
    ptrace(PTRACE_PEEKUSER, -1, 8 * 15, 0);
    ptrace(PTRACE_GETREGS, -1, 0, space);
    ptrace(PTRACE_SETOPTIONS, -1, 0, 0x100008);
    ptrace(PTRACE_GETSIGINFO, -1, 0, space);
    ptrace(PTRACE_GETEVENTMSG, -1, 0, space);
    ptrace(PTRACE_INTERRUPT, -1, 0, 0);
    ptrace(PTRACE_KILL, -1, 0, 0);
    ptrace(PTRACE_GETREGSET, -1, 1, (struct iovec[]){{space, 20}});
    ptrace(PTRACE_GET_SYSCALL_INFO, -1, 88, space);
    ptrace(9999, -1, 1, 2);
}

static void events(void) {
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_CPU_CLOCK};
    close(call(perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
    attr = (struct perf_event_attr){.type = PERF_TYPE_HARDWARE, .size = 64, .config = 0x100000001, .sample_freq = 99, .freq = 1, .sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID, .read_format = 1, .disabled = 1, .exclude_kernel = 1, .precise_ip = 2, .watermark = 1, .wakeup_watermark = 5, .comm = 1, .sample_id_all = 1};
    call(perf_event_open, &attr, -1, -1, 77, 0x100);
    attr = (struct perf_event_attr){.type = PERF_TYPE_HW_CACHE, .size = 112, .config = 0x10203, .config1 = 3, .config2 = 4, .branch_sample_type = 3, .sample_regs_user = 5, .sample_stack_user = 6, .clockid = 1, .use_clockid = 1, .sample_max_stack = 9};
    call(perf_event_open, &attr, -1, -1, -1, 0);
    attr = (struct perf_event_attr){.type = PERF_TYPE_BREAKPOINT, .size = 112, .bp_type = 3, .bp_addr = 0x1000, .bp_len = 4};
    call(perf_event_open, &attr, -1, -1, -1, 0);
    attr = (struct perf_event_attr){.type = 99, .size = 5000};
    call(perf_event_open, &attr, -1, -1, -1, 0);
    attr = (struct perf_event_attr){.type = PERF_TYPE_TRACEPOINT, .size = 0, .config = 123};
    call(perf_event_open, &attr, -1, -1, -1, 0);
    call(perf_event_open, NULL, -1, -1, -1, 0);
    call(perf_event_open, BAD, -1, -1, -1, 0);
    struct io_uring_params params = {.flags = IORING_SETUP_CLAMP};
    int ring = call(io_uring_setup, 4, &params);
    call(io_uring_setup, 4, NULL);
    call(io_uring_setup, 4, BAD);
    params = (struct io_uring_params){.flags = IORING_SETUP_ATTACH_WQ | 1u << 31, .wq_fd = 99, .sq_thread_cpu = 3};
    call(io_uring_setup, 4, &params);
    call(io_uring_enter, ring, 0, 0, IORING_ENTER_GETEVENTS, NULL, 8);
    call(io_uring_register, ring, IORING_REGISTER_BUFFERS, (struct iovec[]){{space, 4}}, 1);
    call(io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
    call(io_uring_register, ring, IORING_REGISTER_FILES, (int[]){0, -1}, 2);
    call(io_uring_register, ring, IORING_REGISTER_EVENTFD, (int[]){77}, 1);
    call(io_uring_register, ring, 99, space, 1);
    close(ring);
}

static void bpfs(void) {
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 2};
    strcpy(attr.map_name, "a_map");
    int map = call(bpf, BPF_MAP_CREATE, &attr, sizeof attr);
    call(bpf, BPF_MAP_CREATE, &attr, 20);
    call(bpf, BPF_MAP_CREATE, &attr, 72);
    int key = 1;
    long value = 5;
    memset(&attr, 0, sizeof attr);
    attr.map_fd = map;
    attr.key = (long)&key;
    attr.value = (long)&value;
    call(bpf, BPF_MAP_UPDATE_ELEM, &attr, 32);
    call(bpf, BPF_MAP_LOOKUP_ELEM, &attr, 32);
    call(bpf, BPF_MAP_DELETE_ELEM, &attr, 16);
    call(bpf, BPF_MAP_GET_NEXT_KEY, &attr, 24);
    struct bpf_insn insns[] = {{0xb7, 0, 0, 0, 7}, {0x95, 0, 0, 0, 0}};
    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attr.insn_cnt = 2;
    attr.insns = (long)insns;
    attr.license = (long)"GPL";
    int prog = call(bpf, BPF_PROG_LOAD, &attr, 48);
    attr.insn_cnt = 1;
    strcpy(attr.prog_name, "a_program");
    call(bpf, BPF_PROG_LOAD, &attr, 120);
    memset(&attr, 0, sizeof attr);
    attr.pathname = (long)"/sys/fs/bpf/none";
    call(bpf, BPF_OBJ_GET, &attr, 16);
    attr.pathname = (long)BAD;
    attr.bpf_fd = prog;
    call(bpf, BPF_OBJ_PIN, &attr, 16);
    memset(&attr, 0, sizeof attr);
    attr.target_fd = -1;
    attr.attach_bpf_fd = prog;
    attr.attach_type = 3;
    call(bpf, BPF_PROG_ATTACH, &attr, 16);
    call(bpf, BPF_PROG_DETACH, &attr, 16);
    call(bpf, BPF_PROG_QUERY, &attr, 32);
    memset(&attr, 0, sizeof attr);
    attr.info.bpf_fd = prog;
    attr.info.info_len = 8;
    attr.info.info = (long)space;
    call(bpf, BPF_OBJ_GET_INFO_BY_FD, &attr, 16);
    memset(&attr, 0, sizeof attr);
    attr.start_id = 0x7fffffff;
    call(bpf, BPF_PROG_GET_NEXT_ID, &attr, 12);
    call(bpf, BPF_PROG_GET_FD_BY_ID, &attr, 12);
    attr.raw_tracepoint.name = (long)"none";
    attr.raw_tracepoint.prog_fd = -1;
    call(bpf, BPF_RAW_TRACEPOINT_OPEN, &attr, 16);
    memset(&attr, 0, sizeof attr);
    attr.btf = (long)space;
    attr.btf_size = 4;
    call(bpf, BPF_BTF_LOAD, &attr, 28);
    memset(&attr, 0, sizeof attr);
    attr.link_create.prog_fd = -1;
    call(bpf, BPF_LINK_CREATE, &attr, 16);
    call(bpf, 9999, &attr, 16);
    call(bpf, BPF_MAP_CREATE, NULL, 16);
    call(bpf, BPF_MAP_CREATE, BAD, 16);
    call(bpf, BPF_MAP_FREEZE, &attr, 4);
    close(map);
    close(prog);
}

/* Every code of an instruction, classic and extended. */
static void programs(void) {
    struct sock_filter filter[512];
    struct bpf_insn insns[256];
    for (int code = 0; code < 512; code++)
        filter[code] = (struct sock_filter){code, code & 1, 0, code % 8 == 6 ? code << 16 | 1 : -0x1000 + code};
    for (int code = 0; code < 256; code++) /* but BPF_JMP32, of which strace shows the number */
        insns[code] = (struct bpf_insn){code - (code % 8 == 6), code & 15, code >> 4, -code, code - 3};
    unsigned offsets[] = {-0x1000, -0x1000 + 60, -0x1000 + 64, -0x100000, -0x100000 + 14, -0x200000, -0x200000 + 1};
    for (int at = 0; at < 14; at++)
        filter[498 + at] = (struct sock_filter){at % 2 ? 0x20 : 0x40, 0, 0, offsets[at / 2]};
    struct sock_fprog whole = {512, filter}, none = {0, filter}, bad = {5, BAD};
    call(seccomp, SECCOMP_SET_MODE_FILTER, 0x100, &whole);
    call(seccomp, SECCOMP_SET_MODE_FILTER, 0x100, &none);
    call(seccomp, SECCOMP_SET_MODE_FILTER, 0x100, &bad);
    setsockopt(-1, SOL_SOCKET, SO_ATTACH_FILTER, &whole, sizeof whole);
    union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 256, .insns = (long)insns};
    call(bpf, BPF_PROG_LOAD, &attr, 48);
}

/* Every bit and every speed of a terminal's settings. */
static void terminals(void) {
    struct termios settings;
    memset(&settings, 0, sizeof settings);
    for (int bit = 0; bit < 32; bit++) {
        settings.c_iflag = settings.c_oflag = settings.c_cflag = settings.c_lflag = 1u << bit;
        settings.c_line = bit % 28;
        settings.c_cc[bit % 19] = bit;
        ioctl(-1, TCSETS, &settings);
    }
    for (int speed = 0; speed < 32; speed++) {
        settings.c_cflag = (speed & 16 ? 0x1000 : 0) | (speed & 15);
        settings.c_oflag = speed << 9;
        ioctl(-1, TCSETSW, &settings);
    }
}

static void ioctls(void) {
    int null = open("/dev/null", O_RDONLY), pair[2], master = open("/dev/ptmx", O_RDWR | O_NOCTTY), value = 1;
    struct termios settings;
    struct winsize size = {24, 80, 0, 0};
    ioctl(null, TCGETS, space);
    ioctl(null, TIOCGWINSZ, space);
    ioctl(master, TCGETS, &settings);
    ioctl(master, TCSETS, &settings);
    ioctl(master, TCSETSW, BAD);
    ioctl(master, TCSETSF, NULL);
    ioctl(master, TIOCSWINSZ, &size);
    ioctl(master, TIOCGWINSZ, &size);
    ioctl(master, TIOCGPTN, &value);
    ioctl(master, TIOCSPTLCK, (int[]){0});
    ioctl(master, TIOCGPGRP, &value);
    ioctl(master, TIOCSPGRP, (int[]){5});
    ioctl(master, TCFLSH, TCIOFLUSH);
    ioctl(master, TCXONC, TCOON);
    ioctl(master, TCSBRK, 1);
    ioctl(master, TIOCOUTQ, &value);
    ioctl(master, TIOCGSID, &value);
    ioctl(master, TIOCMGET, &value);
    ioctl(master, TIOCGETD, &value);
    ioctl(master, TIOCEXCL);
    ioctl(master, TIOCNXCL);
    ioctl(master, TIOCSTI, "x");
    ioctl(null, TIOCSCTTY, 0);
    ioctl(null, TIOCNOTTY);
    pipe(pair);
    ioctl(pair[0], FIONREAD, &value);
    ioctl(pair[0], FIONBIO, (int[]){1});
    ioctl(pair[0], FIOASYNC, (int[]){0});
    ioctl(pair[0], FIOCLEX);
    ioctl(pair[0], FIONCLEX);
    ioctl(null, BLKGETSIZE64, space);
    ioctl(null, BLKSSZGET, space);
    ioctl(null, BLKROGET, NULL);
    ioctl(null, FS_IOC_GETFLAGS, &value);
    ioctl(null, FS_IOC_SETFLAGS, (long[]){0x10});
    ioctl(null, FICLONE, -1);
    struct file_clone_range range = {-1, 1, 2, 3};
    ioctl(null, FICLONERANGE, &range);
    ioctl(null, FIFREEZE, 0);
    ioctl(null, 0x5430);
    ioctl(null, _IOR('T', 0x99, int), 5);
    ioctl(null, _IOWR('z', 0x99, long), space);
    ioctl(null, 0, 0);
    ioctl(-1, 0x12345678, BAD);
    ioctl(null, PERF_EVENT_IOC_ENABLE, 1);
    ioctl(null, PERF_EVENT_IOC_PERIOD, (long[]){7});
    ioctl(null, PERF_EVENT_IOC_ID, space);
    ioctl(null, 0xb701);
    ioctl(null, 0xae00, 0);
    ioctl(null, 0x80045200, &value);
    ioctl(null, 0x80247009, space);
    ioctl(null, 0x80ff4506, space);
    ioctl(null, 0xc020aa3f, space);
    ioctl(null, 0x5000940e, space);
    int net = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq interface = {"lo"};
    ioctl(net, SIOCGIFFLAGS, &interface);
    ioctl(net, SIOCGIFINDEX, &interface);
    ioctl(net, SIOCGIFADDR, &interface);
    ioctl(net, SIOCGIFNETMASK, &interface);
    ioctl(net, SIOCGIFMTU, &interface);
    ioctl(net, SIOCGIFHWADDR, &interface);
    ioctl(net, SIOCGIFMETRIC, &interface);
    ioctl(net, SIOCGIFTXQLEN, &interface);
    interface.ifr_ifindex = 1;
    ioctl(net, SIOCGIFNAME, &interface);
    strcpy(interface.ifr_name, "none");
    ioctl(net, SIOCGIFFLAGS, &interface);
    ioctl(net, SIOCSIFMTU, &interface);
    interface.ifr_flags = 1;
    ioctl(net, SIOCSIFFLAGS, &interface);
    struct ifconf list = {80, {space}};
    ioctl(net, SIOCGIFCONF, &list);
    list.ifc_buf = NULL;
    ioctl(net, SIOCGIFCONF, &list);
    ioctl(net, SIOCGIFCONF, BAD);
    close(net);
    close(pair[0]);
    close(pair[1]);
    close(master);
    close(null);
}

static void others(void) {
    struct landlock_ruleset_attr rules = {LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE};
    call(landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    int fd = call(landlock_create_ruleset, &rules, 8, 0);
    struct landlock_path_beneath_attr rule = {LANDLOCK_ACCESS_FS_EXECUTE, -1};
    call(landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    call(landlock_add_rule, -1, 99, &rule, 1);
    call(landlock_restrict_self, -1, 3);
    close(fd);
    call(syslog, 10, NULL, 0);
    call(syslog, 9, NULL, 0);
    call(syslog, 99, space, 5);
    call(reboot, 1, 2, 3, 4);
    call(delete_module, "insitu_none", O_NONBLOCK);
    call(init_module, space, 0, "x=1");
    call(finit_module, -1, "x=1", 3);
    call(kexec_load, 0, 0, NULL, 0x3e0000 | 8);
    call(kexec_file_load, -1, -1, 3, "ab", 9);
    call(process_vm_readv, -1, (struct iovec[]){{space, 4}}, 1, (struct iovec[]){{BAD, 4}}, 1, 0);
    call(process_vm_writev, -1, (struct iovec[]){{"abcd", 4}}, 1, NULL, 0, 0);
    call(userfaultfd, 1 | O_CLOEXEC);
    call(kcmp, -1, -1, 0, 1, 2);
    call(pidfd_open, -1, 0);
    call(pidfd_getfd, -1, 1, 0);
    call(pidfd_send_signal, -1, SIGUSR1, NULL, 0);
    call(swapon, "/none", 0x8000 | 5);
    call(swapoff, "/none");
    call(acct, "/none");
    call(quotactl, 0x80000700, "/none", 0, space);
    call(setns, -1, 0x20000);
    call(unshare, 0x7);
    call(membarrier, 0, 0);
}

int main(int argc, char **argv) {
    write(-1, "begin", 5);
    if (!strcmp(argv[1], "fcntls"))
        fcntls();
    if (!strcmp(argv[1], "prctls"))
        prctls();
    if (!strcmp(argv[1], "futexes"))
        futexes();
    if (!strcmp(argv[1], "clones"))
        clones();
    if (!strcmp(argv[1], "ipcs"))
        ipcs();
    if (!strcmp(argv[1], "aios"))
        aios();
    if (!strcmp(argv[1], "keys"))
        keys();
    if (!strcmp(argv[1], "traces"))
        traces();
    if (!strcmp(argv[1], "events"))
        events();
    if (!strcmp(argv[1], "bpfs"))
        bpfs();
    if (!strcmp(argv[1], "programs"))
        programs();
    if (!strcmp(argv[1], "terminals"))
        terminals();
    if (!strcmp(argv[1], "ioctls"))
        ioctls();
    if (!strcmp(argv[1], "others"))
        others();
    return 0;
}

"""Numbers of the BPF helpers that programs call (include/uapi/linux/bpf.h: ___BPF_FUNC_MAPPER)."""

from enum import IntEnum

__all__ = ["SAME_THROUGHOUT", "Helper"]


class Helper(IntEnum):
    """bpf_NAME() of bpf-helpers(7)."""

    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    PROBE_READ = 4
    KTIME_GET_NS = 5
    TRACE_PRINTK = 6
    GET_PRANDOM_U32 = 7
    GET_SMP_PROCESSOR_ID = 8
    TAIL_CALL = 12
    GET_CURRENT_PID_TGID = 14
    GET_CURRENT_UID_GID = 15
    GET_CURRENT_COMM = 16
    GET_STACKID = 27
    GET_CURRENT_TASK = 35
    PROBE_WRITE_USER = 36
    GET_NUMA_NODE_ID = 42
    PROBE_READ_STR = 45
    GET_SOCKET_COOKIE = 46
    OVERRIDE_RETURN = 58
    GET_STACK = 67
    GET_CURRENT_CGROUP_ID = 80
    JIFFIES64 = 118
    SEND_SIGNAL = 109
    PROBE_READ_USER = 112
    PROBE_READ_KERNEL = 113
    PROBE_READ_USER_STR = 114
    PROBE_READ_KERNEL_STR = 115
    SEND_SIGNAL_THREAD = 117
    KTIME_GET_BOOT_NS = 125
    SEQ_PRINTF = 126
    SEQ_WRITE = 127
    RINGBUF_OUTPUT = 130
    RINGBUF_RESERVE = 131
    RINGBUF_SUBMIT = 132
    RINGBUF_DISCARD = 133
    RINGBUF_QUERY = 134
    GET_NS_CURRENT_PID_TGID = 120
    D_PATH = 147
    GET_CURRENT_TASK_BTF = 158
    FOR_EACH_MAP_ELEM = 164
    GET_FUNC_IP = 173
    GET_ATTACH_COOKIE = 174
    TASK_PT_REGS = 175
    LOOP = 181
    MAP_LOOKUP_PERCPU_ELEM = 195
    KTIME_GET_TAI_NS = 208


# What these return does not change while a program runs: LLVM may call them once for several uses.
SAME_THROUGHOUT = frozenset(
    {
        Helper.GET_CURRENT_PID_TGID,
        Helper.GET_CURRENT_UID_GID,
        Helper.GET_CURRENT_TASK,
        Helper.GET_CURRENT_TASK_BTF,
        Helper.TASK_PT_REGS,
        Helper.GET_SMP_PROCESSOR_ID,
        Helper.GET_NUMA_NODE_ID,
        Helper.GET_CURRENT_CGROUP_ID,
    }
)

"""The part of the script for system calls (syscalls_script.py) about signals: delivered ones, and stops."""

from __future__ import annotations

__all__ = ["SIGNALS", "killed"]

_FIELDS = """code=$i.si_code, errno=$i.si_errno,
            sender_pid=%s, sender_uid=%s,
            status=$i._sifields._sigchld._status, utime=$i._sifields._sigchld._utime,
            stime=$i._sifields._sigchld._stime, address=$i._sifields._sigfault._addr,
            value=$i._sifields._rt._sigval.sival_ptr"""

# signal_deliver: not SIGKILL, which ptrace(2) does not report, and as which each thread of a process gets what kills
# it. signal_generate has what that was, and what is ignored: nothing of these is delivered. Its info is a number if
# the kernel is the sender (include/linux/sched/signal.h: SEND_SIG_NOINFO 0, SEND_SIG_PRIV 1); its result is 0 for
# signals that are delivered, 1 for ignored ones (include/trace/events/signal.h).
# jobctl: include/linux/sched/jobctl.h, JOBCTL_STOPPED (since 5.19) and JOBCTL_STOP_SIGMASK.
SIGNALS = f"""
rawtracepoint:signal_deliver {{
    if (args.sig != 9 && @task[tid] != 0) {{
        $i = args.info;
        emit("signal", (number=(uint64)args.sig, {_FIELDS % ("$i._sifields._kill._pid", "$i._sifields._kill._uid")}));
    }}
}}

rawtracepoint:signal_generate {{
    $to = (uint32)args.task.pid;
    if (args.sig == 9 || @task[$to] == 0) {{ return; }}
    $dies = args.task.signal.flags & 4;
    $fatal = $dies && args.result == 0 && args.task.signal.group_exit_code == args.sig;
    if (!$fatal && ($dies || args.result != 1)) {{ return; }}
    $i = args.info;
    $kind = (uint64)$i;
    $sender = $kind == 0 ? (uint64)pid : (uint64)$i._sifields._kill._pid;
    $user = $kind == 0 ? (uint64)uid : (uint64)$i._sifields._kill._uid;
    $code = $kind == 1 ? (uint64)0x80 : (uint64)$i.si_code;
    emit("sent", (to_tid=(uint64)$to, to_pid=(uint64)args.task.tgid, fatal=(uint64)$fatal, number=(uint64)args.sig,
        {(_FIELDS % ("$sender", "$user")).replace("code=$i.si_code", "code=$code")}));
}}

rawtracepoint:sched_switch {{
    if (args.preempt || (curtask.jobctl & 0x4000000) == 0 || @task[tid] == 0) {{ return; }}
    emit("stopped", (number=(uint64)curtask.jobctl & 0xffff));
}}
"""


def killed() -> list[str]:
    """At exit, of a thread that gets SIGKILL instead of a restart: to the program, and to ptrace(2), the call never
    returns."""
    return [
        "if ($ret <= -512 && $ret >= -516 && curtask.pending.signal.sig[0] & 0x100) {",
        '    emit("killed", (call=$new, ret=$ret));',
        "    return;",
        "}",
    ]

"""One recording of a CPU profile: events opened, rings drained into a session's raw files, until its end."""

import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import Any, Final

from insitu.errors import InsituError
from insitu.kernel import perf_event, procfs
from insitu.record.attach import Attached, open_on_processes, open_on_task
from insitu.record.events import Event
from insitu.record.interrupts import Interrupts
from insitu.record.raw_files import RawFiles
from insitu.record.request import Outcome, Request
from insitu.record.synthesized import Synthesized, lost_in_records
from insitu.record.workload import Workload

__all__ = ["Recorder"]

# A recorder that is killed loses at most what came within this time; a wake-up costs some 50 microseconds.
_FLUSH_MS: Final = 1000

# How long a command may take to end by itself after Ctrl-C, which it got too, before it is sent SIGTERM.
_GRACE_S: Final = 1.0


class Recorder:
    """A recording, from opened rings on."""

    def __init__(
        self,
        request: Request,
        path: Path,
        events: list[Event],
        notes: list[str],
        attached: Attached,
        workload: Workload | None,
        interrupts: Interrupts,
    ) -> None:
        self._request = request
        self._path = path
        self._events = events
        self._notes = notes + attached.notes
        self._attached = attached
        self._workload = workload
        self._interrupts = interrupts
        self._failure = ""

    def run(self) -> Outcome:
        """Record until the end. Raises InsituError if it cannot begin."""
        from insitu.session import store

        self._open_events()
        start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        store.create(self._path, self._info(start_ns))
        files = RawFiles(self._path / "raw", self._attached.rings)
        try:
            end_ns, lost = self._record(files, start_ns)
        finally:
            files.close()
        self._attached.close_events()
        abandoned = self._end_workload() if self._workload else False
        status = self._exit_status(abandoned)
        try:
            store.update(
                self._path,
                end_monotonic_ns=end_ns,
                exit_status=status,
                notes=self._notes + ([self._failure] if self._failure else []),
            )
        except OSError as error:
            self._failure = self._failure or f"{self._path}: {error.strerror}"
        total = sum(lost.values()) if lost else -1
        return Outcome(status, files.bytes_written, total, self._notes, self._failure, abandoned)

    def _record(self, files: RawFiles, start_ns: int) -> tuple[int, dict[int, int]]:
        """Everything between the first record and the last: when that was, and the losses by CPU."""
        raw = self._path / "raw"
        if self._request.whole_system or not self._workload:  # else exec(2) enables the events
            for fd in self._attached.cpu_of:
                perf_event.enable(fd)
        # After enabling: what is mapped in between is then told twice, and not never.
        self._write_start_records(raw, start_ns)
        if self._workload:
            self._release(self._workload)
        self._drain_until_over(files)
        for fd in self._attached.cpu_of:
            perf_event.disable(fd)
        self._drain(files)
        end_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        lost = self._lost()
        try:
            self._write_end_records(raw, end_ns, lost)
        except OSError as error:
            self._failure = self._failure or f"{self._path}: {error.strerror}"
        return end_ns, lost

    def _open_events(self) -> None:
        if self._request.whole_system:
            open_on_task(self._attached, self._events, -1, inherit=False)
        elif self._workload:
            for event in self._events:
                event.attr.enable_on_exec = 1
            open_on_task(self._attached, self._events, self._workload.pid, inherit=True)
        else:
            self._notes += open_on_processes(self._attached, self._events, self._request.pids)

    def _info(self, start_ns: int) -> dict[str, Any]:
        request, kernel = self._request, os.uname()
        options = {
            "pids": list(request.pids),
            "whole_system": request.whole_system,
            "seconds": request.seconds,
            "stacks": request.stacks,
            "stack_bytes": request.stack_bytes if request.stacks == "dwarf" else 0,
            "user": request.user,
            "kernel": request.kernel,
        }
        return {
            "command": list(request.command),
            "options": options,
            "host": kernel.nodename,
            "kernel": kernel.release,
            "machine": kernel.machine,
            "cpus": len(procfs.online_cpus()),
            "start_monotonic_ns": start_ns,
            "start_realtime_ns": time.time_ns() - (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - start_ns),
            "events": [
                {
                    "name": event.name,
                    "attr": bytes(event.attr).hex(),
                    "ids": [perf_event.event_id(fd) for fd in self._attached.descriptors[event.name]],
                }
                for event in self._events
            ],
            "frequency_hz": request.frequency,
            "notes": self._notes,
        }

    def _synthesized(self, time_ns: int) -> Synthesized:
        first = self._events[0]
        event_id = perf_event.event_id(self._attached.descriptors[first.name][0])
        return Synthesized(first.attr.sample_type, event_id, time_ns)

    def _write_start_records(self, raw: Path, start_ns: int) -> None:
        records = self._synthesized(start_ns)
        with (raw / "start.records").open("xb") as file:
            if self._request.whole_system:
                file.writelines(records.of_processes(procfs.pids()))
            elif self._workload:
                # Forked before the events were open. Its name comes with exec.
                file.write(records.fork(self._workload.pid, os.getpid(), self._workload.pid, os.getpid()))
            else:
                file.writelines(records.of_processes(self._request.pids))

    def _write_end_records(self, raw: Path, end_ns: int, lost: dict[int, int]) -> None:
        """Tell of losses after which the ring never had room again for the kernel to tell of them."""
        records = self._synthesized(end_ns)
        untold = {
            cpu: count - lost_in_records((raw / f"cpu{cpu}.records").read_bytes())
            for cpu, count in lost.items()
            if count
        }
        if any(count > 0 for count in untold.values()):
            with (raw / "end.records").open("xb") as file:
                file.writelines(records.lost(count, cpu) for cpu, count in untold.items() if count > 0)

    def _release(self, workload: Workload) -> None:
        try:
            workload.release()
        except InsituError:
            import shutil

            shutil.rmtree(self._path, ignore_errors=True)
            raise

    def _drain_until_over(self, files: RawFiles) -> None:
        """Drain until the target is gone, the time is up, somebody asks to stop or the disk is full."""
        poll = select.poll()
        for ring in self._attached.rings.values():
            poll.register(ring.fd, select.POLLIN)
        poll.register(self._interrupts.fd, select.POLLIN)
        targets = self._target_pidfds()
        for pidfd in targets:
            poll.register(pidfd, select.POLLIN)
        if self._request.pids and not targets:
            return
        deadline = None if self._request.seconds is None else time.monotonic() + self._request.seconds
        try:
            while not self._interrupts.seen() and not self._failure:
                wait_ms = _FLUSH_MS if deadline is None else min(_FLUSH_MS, (deadline - time.monotonic()) * 1000)
                if wait_ms <= 0:
                    return
                for fd, _ in poll.poll(wait_ms):
                    if fd in targets:
                        poll.unregister(fd)
                        targets.remove(fd)
                        if not targets:
                            return
                self._drain(files)
        finally:
            if not self._workload:
                for pidfd in targets:
                    os.close(pidfd)

    def _target_pidfds(self) -> set[int]:
        if self._workload:
            return {self._workload.pidfd}
        descriptors = set()
        for pid in self._request.pids:
            with contextlib.suppress(ProcessLookupError):
                descriptors.add(os.pidfd_open(pid))
        return descriptors

    def _drain(self, files: RawFiles) -> None:
        if self._failure:
            return
        try:
            files.drain()
        except InsituError as error:
            self._failure = f"{self._path}: {error}"

    def _lost(self) -> dict[int, int]:
        """Lost records by CPU, by the kernel's own count; empty where it does not keep one."""
        lost: dict[int, int] = {}
        for event in self._events:
            if event.attr.read_format & perf_event.ReadFormat.LOST:
                for fd in self._attached.descriptors[event.name]:
                    cpu = self._attached.cpu_of[fd]
                    lost[cpu] = lost.get(cpu, 0) + perf_event.read_lost(fd)
        return lost

    def _end_workload(self) -> bool:
        """See the command to its end; whether somebody asked a second time and it was left behind."""
        workload = self._workload
        assert workload
        poll = select.poll()
        poll.register(workload.pidfd, select.POLLIN)
        poll.register(self._interrupts.fd, select.POLLIN)
        if not self._failure:  # else it runs on unrecorded
            if self._interrupts.count:
                poll.poll(_GRACE_S * 1000)
            workload.signal(signal.SIGTERM)
        asked = self._interrupts.seen()
        while not workload.ended():
            poll.poll(None)
            if self._interrupts.seen() > asked:
                return True
        return False

    def _exit_status(self, abandoned: bool) -> int:
        if not self._workload:
            return 0
        if abandoned:
            return 128 + signal.SIGINT
        status = self._workload.exit_status
        # Ended by us because the time was up: that is no failure.
        ours = not self._interrupts.count and not self._failure and status == 128 + signal.SIGTERM
        return 0 if ours and self._request.seconds is not None else status

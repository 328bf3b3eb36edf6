#!/bin/sh
# The guest's agent: reads scripts from the control port and runs them in this shell. A script is sent as a line with
# its length in bytes, then its text; it calls the functions below.
#
# Descriptors: 3 is the control port, 4 the commands' standard output, 5 their standard error (pipes to their ports).

# Prints the device of a port. The kernel gets the ports' names one by one, some time after it has found the device.
port() {
    tries=0
    while [ $tries -lt 500 ]; do
        for entry in /sys/class/virtio-ports/*; do
            { read -r name <"$entry/name"; } 2>/dev/null
            [ "$name" = "$1" ] && echo "/dev/${entry##*/}" && return
        done
        # Without the driver there will be no port.
        [ -d /sys/class/virtio-ports ] || [ $tries -lt 20 ] || return
        tries=$((tries + 1))
        $busybox usleep 10000
    done
}

# Mounts the host's files with a tmpfs over them, and makes that the root. $1: 9p or virtiofs. $2: the kernel modules'
# directory in the host's files, or nothing.
enter_root() {
    $busybox mount -t tmpfs -o mode=755 upper /upper
    $busybox mkdir /upper/data /upper/work
    share "$1" root ro /lower || return
    # Without redirect_dir a directory of the host could not be renamed, as an older session is.
    overlay=lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work
    if ! $busybox mount -t overlay -o $overlay,redirect_dir=on overlay /host; then
        echo "failed cannot mount an overlay over the host's files" >&3
        return
    fi
    for kind in proc sysfs:sys devtmpfs:dev tmpfs:run; do
        $busybox mount -t "${kind%:*}" "${kind%:*}" "/host/${kind#*:}" && continue
        echo "failed cannot mount ${kind%:*}" >&3
        return
    done
    cd /host/dev && $busybox mkdir -p pts shm && cd /
    $busybox mount -t devpts -o mode=620,ptmxmode=666 devpts /host/dev/pts
    $busybox mount -t tmpfs -o mode=1777 tmpfs /host/dev/shm
    [ -e /host/dev/fd ] || $busybox ln -s /proc/self/fd /host/dev/fd
    $busybox mount -t tracefs tracefs /host/sys/kernel/tracing 2>/dev/null
    $busybox mount -t debugfs debugfs /host/sys/kernel/debug 2>/dev/null
    $busybox mount -t bpf bpf /host/sys/fs/bpf 2>/dev/null
    $busybox mount -t cgroup2 cgroup2 /host/sys/fs/cgroup 2>/dev/null
    $busybox mkdir -p /host/run/insitu-lab
    $busybox cp /bin/busybox /agent /host/run/insitu-lab/
    if [ -n "$2" ]; then
        release=$($busybox uname -r)
        $busybox mkdir -p "/host/lib/modules/$release"
        $busybox mount -o bind "/host$2" "/host/lib/modules/$release"
    fi
    $busybox hostname insitu-lab
    $busybox ip link set lo up
    export busybox=/run/insitu-lab/busybox entered=yes
    cd /host || return
    /bin/busybox mount -o move . /
    exec /bin/busybox chroot . $busybox sh /run/insitu-lab/agent
}

# Mounts one of the host's shared directories. $1: 9p or virtiofs. $2: tag. $3: ro or rw. $4: where.
share() {
    # Read-only files are cached (names and attributes until the next command); a writable share is not.
    case $1-$3 in
        9p-ro) options=trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro ;;
        9p-rw) options=trans=virtio,version=9p2000.L,msize=524288,cache=mmap ;;
        virtiofs-*) options=$3 ;;
    esac
    $busybox mount -t "$1" -o "$options" "$2" "$4" && return
    echo "failed cannot mount the host's $2 share over $1" >&3
    return 1
}

# Gives the guest the address that QEMU's user-mode network has for it.
network_up() {
    device=$($busybox ls /sys/class/net | $busybox grep -v lo | $busybox head -n 1)
    $busybox ip link set "$device" up
    $busybox ip address add 10.0.2.15/24 dev "$device"
    $busybox ip route add default via 10.0.2.2
    $busybox rm -f /etc/resolv.conf
    echo nameserver 10.0.2.3 >/etc/resolv.conf
}

# Runs a command. $1: the token that ends its output. $2: yes if standard input will be sent. $3: directory.
# The rest: env's arguments, that is NAME=VALUE ... COMMAND ARGUMENT ...
command_run() {
    token=$1 input=$2 directory=$3
    shift 3
    $busybox rm -f /run/insitu-lab/pid
    (
        if [ "$input" = yes ]; then
            # Opening fails while a process of an earlier command has the port open.
            until command exec 6<"$stdin_port"; do $busybox usleep 1000; done 2>/dev/null
            # The host sends the token first: until it has connected, reading returns end of file.
            until read -r line <&6 && [ "$line" = "$token" ]; do $busybox usleep 1000; done
        else
            exec 6</dev/null
        fi
        (
            exec <&6 >&4 2>&5 3>&- 4>&- 5>&- 6<&-
            exec $busybox setsid $busybox sh -c \
                'echo $$ >/run/insitu-lab/pid; cd "$0" || exit 126; exec /usr/bin/env -i "$@"' "$directory" "$@"
        )
        status=$?
        # Before the host is notified of the end: closing discards what has arrived on the port.
        exec 6<&-
        echo "$token" >&4
        echo "$token" >&5
        echo "exit $status" >&3
    ) &
}

# Runs a command on the terminal /dev/hvc0. $1: rows. $2: columns. $3: directory. The rest: as above.
terminal_run() {
    rows=$1 columns=$2 directory=$3
    shift 3
    (
        # The terminal keeps its size only while it is open, so the command's own shell sets it.
        $busybox setsid -c $busybox sh -c \
            '$busybox stty sane rows "$1" cols "$2"; cd "$0" || exit 126; shift 2; exec /usr/bin/env -i "$@"' \
            "$directory" "$rows" "$columns" "$@" </dev/hvc0 >/dev/hvc0 2>&1 3>&- 4>&- 5>&-
        echo "exit $?" >&3
    ) &
}

command_signal() {
    [ -e /run/insitu-lab/pid ] && read -r leader </run/insitu-lab/pid && $busybox kill "-$1" "-$leader"
}

if [ -z "$entered" ]; then
    if [ -z "$(port insitu.stderr)" ]; then
        echo "insitu-lab: cannot reach the host: the kernel has no driver for virtio serial ports" \
            "(CONFIG_VIRTIO_PCI and CONFIG_VIRTIO_CONSOLE), neither built in nor as a module found with its image"
        $busybox poweroff -f
    fi
    exec 3<>"$(port insitu.control)" 4>"$(port insitu.stdout)" 5>"$(port insitu.stderr)"
    # A port writes at most 32 KiB of a write(2) and returns that, which many programs ignore. A pipe writes all.
    $busybox mkfifo /stdout /stderr
    $busybox cat </stdout >&4 3>&- 5>&- &
    $busybox cat </stderr >&5 3>&- 4>&- &
    exec 4<>/stdout 5<>/stderr
    stdin_port=$(port insitu.stdin)
    export stdin_port
    echo ready >&3
else
    echo entered >&3
fi
while read -r length <&3; do
    script=$($busybox dd bs="$length" count=1 iflag=fullblock <&3 2>/dev/null)
    eval "$script"
done

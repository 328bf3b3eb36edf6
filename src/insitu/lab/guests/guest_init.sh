#!/bin/sh
# The guest's first process: mounts what the agent needs, loads the modules, becomes the agent.
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
while read -r module; do
    $busybox insmod "/modules/$module" || echo "insitu-lab: cannot load $module"
done </modules/order
export busybox
exec $busybox sh /agent

// SPDX-License-Identifier: GPL-2.0
/*
 * Sections that are made long: echo "NAME MS" > /proc/long_sections. How long the last one took by its own clock is
 * in the parameter took_ns. Who reads the file sleeps until somebody runs "wakeup".
 */
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/proc_fs.h>
#include <linux/sched/signal.h>
#include <linux/sched/clock.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#define DEEP_BYTES 3000

static DECLARE_WAIT_QUEUE_HEAD(queue);
static unsigned int wakeups;
static u64 took_ns;
module_param(took_ns, ullong, 0400);

/* Not mdelay(): emulation may let the kernel calibrate the delays of its second CPU a thousand times too short. */
static void busy(unsigned int ms)
{
	u64 start = local_clock(), begin = ktime_get_raw_fast_ns();

	while (ktime_get_raw_fast_ns() - begin < (u64)ms * NSEC_PER_MSEC)
		cpu_relax();
	took_ns = local_clock() - start;
}

noinline void without_interrupts(unsigned int ms)
{
	unsigned long flags;

	local_irq_save(flags);
	busy(ms);
	local_irq_restore(flags);
}

noinline void without_preemption(unsigned int ms)
{
	preempt_disable();
	busy(ms);
	preempt_enable();
}

/* A task that is woken on this CPU has to wait. It may take long until it sleeps. */
noinline void waking_late(unsigned int ms)
{
	while (!waitqueue_active(&queue) && !fatal_signal_pending(current))
		msleep(20);
	msleep(200);
	preempt_disable();
	WRITE_ONCE(wakeups, wakeups + 1);
	wake_up(&queue);
	busy(ms);
	preempt_enable();
}

noinline void at_the_bottom(volatile char *bytes)
{
	bytes[0] = 1;
}

noinline void with_a_deep_stack(unsigned int unused)
{
	volatile char bytes[DEEP_BYTES];

	at_the_bottom(bytes);
}

static const struct {
	const char *name;
	void (*run)(unsigned int ms);
} sections[] = {
	{ "irqsoff", without_interrupts },
	{ "preemptoff", without_preemption },
	{ "wakeup", waking_late },
	{ "stack", with_a_deep_stack },
};

static ssize_t run(struct file *file, const char __user *from, size_t size, loff_t *at)
{
	char line[32] = "", name[16];
	unsigned int ms, index;

	if (size >= sizeof(line) || copy_from_user(line, from, size))
		return -EINVAL;
	if (sscanf(line, "%15s %u", name, &ms) != 2 || ms > 1000)
		return -EINVAL;
	for (index = 0; index < ARRAY_SIZE(sections); index++) {
		if (!strcmp(name, sections[index].name)) {
			sections[index].run(ms);
			return size;
		}
	}
	return -ENOENT;
}

static ssize_t sleep(struct file *file, char __user *to, size_t size, loff_t *at)
{
	unsigned int before = READ_ONCE(wakeups);

	return wait_event_interruptible(queue, READ_ONCE(wakeups) != before);
}

static const struct proc_ops operations = { .proc_write = run, .proc_read = sleep };

static int __init begin(void)
{
	return proc_create("long_sections", 0600, NULL, &operations) ? 0 : -ENOMEM;
}

static void __exit end(void)
{
	remove_proc_entry("long_sections", NULL);
}

module_init(begin);
module_exit(end);
MODULE_LICENSE("GPL");

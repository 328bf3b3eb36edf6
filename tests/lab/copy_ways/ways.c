// SPDX-License-Identifier: GPL-2.0
/* Three ways to copy pages, each called by copy_pages(), which has a clock of its own around them. */
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/prefetch.h>
#include <linux/sched/clock.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#define BYTES (1024 * PAGE_SIZE)
#define TIMES 200

typedef void copy_function(u64 *to, const u64 *from, size_t words);

void copy_by_assembly(u64 *to, const u64 *from, size_t words);

noinline void copy_by_loop(u64 *to, const u64 *from, size_t words)
{
	size_t i;

	for (i = 0; i < words; i++)
		WRITE_ONCE(to[i], from[i]);
}

noinline void copy_with_prefetch(u64 *to, const u64 *from, size_t words)
{
	size_t i;

	for (i = 0; i < words; i += 8) {
		prefetch(from + i + 64);
		memcpy(to + i, from + i, 64);
	}
}

static u64 clock_ns[TIMES];

/* What all three are called by. */
noinline void copy_pages(copy_function *copy, u64 *to, const u64 *from, int time)
{
	u64 start = local_clock();

	copy(to, from, BYTES / sizeof(u64));
	clock_ns[time] = local_clock() - start;
}

static const char *const names[] = { "loop", "assembly", "prefetch" };
static copy_function *const ways[] = { copy_by_loop, copy_by_assembly, copy_with_prefetch };

static int run(const char *value, const struct kernel_param *parameter)
{
	u64 *to = vmalloc(BYTES), *from = vzalloc(BYTES);
	int way = sysfs_match_string(names, value), time;
	unsigned long flags;

	if (way >= 0 && to && from) {
		memset(to, 0, BYTES); /* every page is there before the clock runs */
		for (time = 0; time < TIMES; time++) {
			local_irq_save(flags);
			copy_pages(ways[way], to, from, time);
			local_irq_restore(flags);
		}
	}
	vfree(to);
	vfree(from);
	return way < 0 ? way : 0;
}

static int clocks(char *text, const struct kernel_param *parameter)
{
	int time, length = 0;

	for (time = 0; time < TIMES; time++)
		length += sysfs_emit_at(text, length, "%llu\n", clock_ns[time]);
	return length;
}

static const struct kernel_param_ops operations = { .set = run, .get = clocks };
module_param_cb(run, &operations, NULL, 0600);
MODULE_LICENSE("GPL");

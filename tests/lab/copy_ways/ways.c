// SPDX-License-Identifier: GPL-2.0
/* Three ways to copy pages, each called by copy_pages(), with a clock of our own around it. */
#include <linux/irqflags.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/prefetch.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#define BYTES (1024 * PAGE_SIZE)
#define TIMES 400

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

/* What all three are called by. */
noinline void copy_pages(copy_function *copy, u64 *to, const u64 *from)
{
	copy(to, from, BYTES / sizeof(u64));
	barrier();
}

static u64 clock_ns[3];
static const char *const names[] = { "loop", "assembly", "prefetch" };
static copy_function *const ways[] = { copy_by_loop, copy_by_assembly, copy_with_prefetch };

static int run(const char *value, const struct kernel_param *parameter)
{
	u64 *to = vmalloc(BYTES), *from = vzalloc(BYTES), start;
	unsigned long flags;
	int way, i;

	way = sysfs_match_string(names, value);
	if (way >= 0 && to && from) {
		memset(to, 0, BYTES); /* every page is there before the clock runs */
		clock_ns[way] = 0;
		for (i = 0; i < TIMES; i++) {
			local_irq_save(flags);
			start = ktime_get_ns();
			copy_pages(ways[way], to, from);
			clock_ns[way] += ktime_get_ns() - start;
			local_irq_restore(flags);
		}
	}
	vfree(to);
	vfree(from);
	return way < 0 ? way : 0;
}

static int clocks(char *text, const struct kernel_param *parameter)
{
	return sysfs_emit(text, "%s %llu\n%s %llu\n%s %llu\n", names[0], clock_ns[0], names[1], clock_ns[1], names[2],
			  clock_ns[2]);
}

static const struct kernel_param_ops operations = { .set = run, .get = clocks };
module_param_cb(run, &operations, NULL, 0600);
MODULE_LICENSE("GPL");

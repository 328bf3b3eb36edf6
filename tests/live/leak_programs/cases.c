/* Small programs with leaks: each case is one, by name. What is kept in main's frame is in `held`. */
#define _GNU_SOURCE
#include "rounded.h"
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#define HELD 4
struct link {
	struct link *next, *previous;
	char rest[40];
};
static void *kept, *kept_too;
static __thread void *of_thread;
static char *inside;
static struct link *list;
static pthread_barrier_t meet;
static void *held_in_register;

static void nothing(void **held) { }
static void freed(void **held) { free(block(100)); kept = block(60); free(kept); }
static void lost_one(void **held) { block(100); }
static void lost_sizes(void **held) { for (size_t size = 1; size < 3000; size += 77) block(size); }
static void lost_strings(void **held) { for (int at = 0; at < 9; at++) strcpy(block(40), "the same text each time"); }
static void by_global(void **held) { kept = block(100); }
static void by_static(void **held) { static void *own; own = block(70); }
static void by_stack(void **held) { held[0] = block(100); held[1] = block(24); }
static void by_thread_local(void **held) { of_thread = block(90); }
static void by_inside(void **held) { inside = (char *)block(300) + 13; }
static void by_last_byte(void **held) { size_t size = rounded(50); inside = (char *)block(50) + size - 1; }
static void by_end(void **held) { size_t size = rounded(400); inside = (char *)block(400) + size; }
static void by_both(void **held) { kept = block(300); inside = (char *)kept + 16; }

static void two_in_a_circle(void **held)
{
	void **one = block(50), **two = block(50);
	*one = two;
	*two = one;
}

static void circle_with_tail(void **held)
{
	void **one = block(24), **two = block(24), **three = block(24), **tail = block(200);
	*one = two;
	*two = three;
	three[0] = one;
	three[1] = tail;
}

static void itself(void **held) { void **one = block(64); one[2] = one; }
static void circle_kept(void **held) { two_in_a_circle(held); void **one = block(24), **two = block(40); *one = two; *two = one; kept = two; }

/* The last block leads to the middle of the circle. */
static void into_a_circle(void **held)
{
	void **one = block(24), **two = block(24), **three = block(24);
	*one = two;
	*two = one;
	*three = two;
}

/* The first block leads to it. */
static void before_a_circle(void **held)
{
	void **three = block(24), **one = block(24), **two = block(24);
	*one = two;
	*two = one;
	*three = two;
}

static struct link *chain(int length)
{
	struct link *first = NULL;
	while (length--) {
		struct link *one = block(sizeof *one);
		one->next = first;
		if (first)
			first->previous = one;
		first = one;
	}
	return first;
}

static void double_list_lost(void **held) { chain(50); }
static void double_list_kept(void **held) { list = chain(50); }
static void list_by_middle(void **held) { list = chain(50)->next->next->next; }
static void long_list_lost(void **held) { chain(10000); }
static void list_cut(void **held)
{
	list = chain(20);
	struct link *cut = list->next->next;
	cut->next->previous = NULL;
	cut->next = NULL;
}

static void **tree(int depth)
{
	void **top = block(40);
	if (depth) {
		top[0] = tree(depth - 1);
		top[1] = tree(depth - 1);
	}
	return top;
}

static void tree_lost(void **held) { tree(6); }
static void tree_kept(void **held) { kept = tree(6); }
static void tree_by_inside(void **held) { inside = (char *)tree(6) + 20; }
static void two_trees_share(void **held)
{
	void **one = tree(3), **two = tree(3);
	one[2] = two[0];
}
static void child_by_inside(void **held) { void **top = block(30); *top = (char *)block(70) + 9; }
static void kept_child_by_inside(void **held) { void **top = block(30); *top = (char *)block(70) + 9; kept = top; }
static void below_possible(void **held)
{
	void **top = block(30), **child = block(50);
	*top = child;
	*child = block(70);
	inside = (char *)top + 3;
}
static void possible_and_kept(void **held)
{
	void **top = block(30), **child = block(50);
	*top = child;
	inside = (char *)top + 3;
	kept = child;
}
static void hidden(void **held) { kept = (void *)((uintptr_t)block(100) ^ ~(uintptr_t)0); }
static void unaligned(void **held)
{
	static struct { char one; void *pointer; } __attribute__((packed)) place;
	place.pointer = block(100);
}
static void array_of_blocks(void **held)
{
	void **array = block(100 * sizeof(void *));
	for (int at = 0; at < 100; at++)
		array[at] = block(at);
	kept = array;
}
static void array_lost(void **held)
{
	void **array = block(100 * sizeof(void *));
	for (int at = 0; at < 100; at++)
		array[at] = block(at);
}
static void array_emptied(void **held)
{
	void **array = block(100 * sizeof(void *));
	for (int at = 0; at < 100; at++)
		array[at] = block(at);
	kept = array;
	for (int at = 0; at < 100; at += 3)
		array[at] = NULL;
}
static void grown(void **held)
{
	char *whole = block(30);
	for (size_t size = 30; size < 5000; size += 111)
		whole = realloc(whole, rounded(size));
	memset(whole, 0, rounded(4900));
	kept = whole;
}
static void grown_and_lost(void **held)
{
	char *whole = block(30);
	for (size_t size = 30; size < 5000; size += 111)
		whole = realloc(whole, rounded(size));
	memset(whole, 0, rounded(4900));
}
static void grown_elsewhere(void **held)
{
	kept = block(40);
	block(40);
	inside = realloc(kept, rounded(900));
	memset(inside, 0, rounded(900));
	kept = NULL;
	inside += 40;
}
static void shrunk(void **held) { kept = realloc(block(900), rounded(72)); block(500); }
static void half_freed(void **held)
{
	struct link *all[64];
	for (int at = 0; at < 64; at++)
		all[at] = block(24 + 16 * at);
	for (int at = 0; at < 64; at += 2)
		free(all[at]);
	memset(all, 0, sizeof all);
}
static void caches_full(void **held)
{
	void *all[200];
	for (int size = 24; size < 1500; size += 16) {
		for (int at = 0; at < 30; at++)
			all[at] = block(size);
		for (int at = 0; at < 29; at++)
			free(all[at]);
	}
	memset(all, 0, sizeof all);
}
/* Blocks of 128 KiB and more have mappings of their own: pages, less a header of 16 bytes, and 8 bytes that nobody can
   ask for. */
static void *large(size_t pages) { return calloc(1, pages * 4096 - 24); }
static void large_lost(void **held) { large(64); large(70); }
static void large_kept(void **held) { void **one = large(64); kept = one; one[9999] = large(100); }
static void large_by_inside(void **held) { inside = (char *)large(64) + 100000; }
static void large_freed(void **held) { free(large(64)); kept = large(65); }
static void aligned(void **held)
{
	kept = memalign(64, rounded(200));
	memset(kept, 0, rounded(200));
	memset(memalign(4096, rounded(1000)), 0, rounded(1000));
}
static void by_anonymous_memory(void **held)
{
	void **page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page[700] = block(100);
}
static void by_shared_memory(void **held)
{
	void **page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	page[700] = block(100);
}
static void by_unmapped(void **held)
{
	void **page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page[700] = block(100);
	munmap(page, 8192);
}
static void by_constant_memory(void **held)
{
	void **page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page[700] = block(100);
	mprotect(page, 8192, PROT_READ);
}
static void by_sbrk(void **held)
{
	block(100);
	void **own = sbrk(4096);
	own[3] = block(300000 / 4);
	block(3000);
}
static void by_register(void **held) { held_in_register = block(100); }
static void by_key(void **held)
{
	static pthread_key_t key;
	pthread_key_create(&key, NULL);
	pthread_setspecific(key, block(100));
}
static void by_environment(void **held) { setenv("A_NAME", "123456789012345", 1); }
static void handler(void) { }
static void many_handlers(void **held) { for (int at = 0; at < 100; at++) atexit(handler); }
static void by_file(void **held)
{
	FILE *file = fopen("/dev/null", "w");
	setvbuf(file, NULL, _IONBF, 0);
	fputs("x", file);
}
static void string_copied(void **held) { kept = strdup("12345678901234567890123"); strdup("12345678901234567890124"); }
static void length_first(void **held) { uint64_t *one = block(100); *one = rounded(100) - 8; inside = (char *)(one + 1); }
static void wrong_length_first(void **held) { uint64_t *one = block(100); *one = 1000; inside = (char *)(one + 1); }
static void count_first(void **held) { uint64_t *one = block(8 + 48); *one = 16; inside = (char *)(one + 1); }
static void old_string(void **held)
{
	size_t size = rounded(100);
	uint64_t *one = block(100);
	one[0] = 50;
	one[1] = size - 25;
	inside = (char *)(one + 3);
}

static void *waits(void *unused)
{
	void *volatile own[2] = { block(100), NULL };
	of_thread = block(60);
	block(200);
	scrub();
	pthread_barrier_wait(&meet);
	for (;;)
		pause();
	return own[0];
}
static void *ends(void *unused)
{
	void *volatile own[2] = { block(100), NULL };
	of_thread = block(60);
	return own[0];
}
static void living_thread(void **held)
{
	pthread_t thread;
	pthread_barrier_init(&meet, NULL, 2);
	pthread_create(&thread, NULL, waits, NULL);
	pthread_barrier_wait(&meet);
	usleep(100000);
}
static void five_threads(void **held)
{
	pthread_t thread;
	pthread_barrier_init(&meet, NULL, 6);
	for (int at = 0; at < 5; at++)
		pthread_create(&thread, NULL, waits, NULL);
	pthread_barrier_wait(&meet);
	usleep(100000);
}
static void ended_thread(void **held)
{
	pthread_t thread;
	pthread_create(&thread, NULL, ends, NULL);
	pthread_join(thread, NULL);
}

static const struct {
	const char *name;
	void (*run)(void **held);
} cases[] = {
#define CASE(name) { #name, name }
	CASE(nothing), CASE(freed), CASE(lost_one), CASE(lost_sizes), CASE(lost_strings), CASE(by_global), CASE(by_static),
	CASE(by_stack), CASE(by_thread_local), CASE(by_inside), CASE(by_last_byte), CASE(by_end), CASE(by_both),
	CASE(two_in_a_circle), CASE(circle_with_tail), CASE(itself), CASE(circle_kept), CASE(into_a_circle),
	CASE(before_a_circle), CASE(double_list_lost), CASE(double_list_kept), CASE(list_by_middle), CASE(long_list_lost),
	CASE(list_cut), CASE(tree_lost), CASE(tree_kept), CASE(tree_by_inside), CASE(two_trees_share),
	CASE(child_by_inside), CASE(kept_child_by_inside), CASE(below_possible), CASE(possible_and_kept), CASE(hidden),
	CASE(unaligned), CASE(array_of_blocks), CASE(array_lost), CASE(array_emptied), CASE(grown), CASE(grown_and_lost),
	CASE(grown_elsewhere), CASE(shrunk), CASE(half_freed), CASE(caches_full), CASE(large_lost), CASE(large_kept),
	CASE(large_by_inside), CASE(large_freed), CASE(aligned), CASE(by_anonymous_memory), CASE(by_shared_memory),
	CASE(by_unmapped), CASE(by_constant_memory), CASE(by_sbrk), CASE(by_register), CASE(by_key), CASE(by_environment),
	CASE(many_handlers), CASE(by_file), CASE(string_copied), CASE(length_first), CASE(wrong_length_first),
	CASE(count_first), CASE(old_string), CASE(living_thread), CASE(five_threads), CASE(ended_thread),
};

int main(int count, char **arguments)
{
	void *volatile held[HELD] = { NULL };
	for (size_t at = 0; at < sizeof cases / sizeof *cases; at++) {
		if (count < 2) {
			dprintf(1, "%s\n", cases[at].name);
		} else if (is_asked(cases[at].name, arguments[1])) {
			cases[at].run((void **)held);
			scrub();
			register void *kept_here __asm__("r12") = held_in_register;
			held_in_register = NULL;
			__asm__ volatile("" : "+r"(kept_here));
			look();
		}
	}
	return 0;
}

/* Allocates and frees at random in three threads, waits, and prints its blocks: address and malloc_usable_size(). */
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCKS 20000
#define ROUNDS 200000
static void *live[3][BLOCKS];
static pthread_barrier_t done;

static void *work(void *number)
{
	uint32_t seed = (uintptr_t)number * 77 + 5;
	void **mine = live[(uintptr_t)number];
	for (int round = 0; round < ROUNDS; round++) {
		seed = seed * 1664525 + 1013904223;
		void **place = &mine[(seed >> 8) % BLOCKS];
		size_t size = (seed >> 13) % (seed >> 28 == 3 ? 300000 : 700);
		if (*place && seed >> 30 == 0) {
			*place = realloc(*place, size + 1);
		} else if (*place) {
			free(*place);
			*place = NULL;
		} else if (seed >> 29 == 1) {
			*place = aligned_alloc(64, size);
		} else if (seed >> 28 == 7 && (seed >> 20) % 64 == 0) {
			*place = memalign(4096, size + 200000);
		} else {
			*place = malloc(size);
		}
	}
	pthread_barrier_wait(&done);
	while (number)
		pause();
	return NULL;
}

int main(void)
{
	static char room[4096];
	pthread_t thread;
	/* Else glibc raises it when the first block that is mapped by itself is freed. */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	setvbuf(stdout, room, _IOFBF, sizeof room);
	pthread_barrier_init(&done, NULL, 3);
	pthread_create(&thread, NULL, work, (void *)1);
	pthread_create(&thread, NULL, work, (void *)2);
	work(NULL);
	char byte;
	if (write(1, "\n", 1) != 1 || read(0, &byte, 1) < 0)
		return 1;
	for (int number = 0; number < 3; number++)
		for (int at = 0; at < BLOCKS; at++)
			if (live[number][at])
				printf("%p %zu\n", live[number][at], malloc_usable_size(live[number][at]));
	fflush(stdout);
	_exit(0);
}

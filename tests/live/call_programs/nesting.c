/* Calls whose frames end in every way that C has. Its last line on standard output: how often each function began. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noipa))

static int entered[8];
enum { LEAF, MIDDLE, THROWS, JUMPS, TAIL, HANDLER, THREAD, CHILD };

NOINLINE int leaf(int x)
{
	__atomic_fetch_add(&entered[LEAF], 1, __ATOMIC_RELAXED);
	return x + 1;
}

NOINLINE int middle(int x, const char *text)
{
	__atomic_fetch_add(&entered[MIDDLE], 1, __ATOMIC_RELAXED);
	return leaf(x) + (int)strlen(text);
}

static jmp_buf back;

NOINLINE void throws(int x)
{
	entered[THROWS]++;
	if (leaf(x) > 0)
		longjmp(back, 1);
	abort();
}

NOINLINE int jumps(int x)
{
	entered[JUMPS]++;
	if (setjmp(back) == 0)
		throws(x);
	return leaf(x);
}

NOINLINE int tail(int x)
{
	entered[TAIL]++;
	return leaf(x); /* a jump, at -O2 */
}

NOINLINE void handler(int number)
{
	entered[HANDLER]++;
	(void)leaf(number);
}

NOINLINE void *thread(void *count)
{
	__atomic_fetch_add(&entered[THREAD], 1, __ATOMIC_RELAXED);
	for (long i = 0; i < (long)count; i++)
		middle((int)i, "thread");
	return NULL;
}

NOINLINE int child(void)
{
	entered[CHILD]++;
	return leaf(40);
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 3;
	pthread_t threads[2];

	signal(SIGUSR1, handler);
	for (int i = 0; i < count; i++) {
		jumps(i);
		tail(i);
		raise(SIGUSR1);
	}
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, thread, (void *)count);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	fflush(stdout);
	if (fork() == 0)
		_exit(child() == 41 ? 0 : 1);
	wait(NULL);
	printf("leaf=%d middle=%d throws=%d jumps=%d tail=%d handler=%d thread=%d\n", entered[LEAF], entered[MIDDLE],
	       entered[THROWS], entered[JUMPS], entered[TAIL], entered[HANDLER], entered[THREAD]);
	exit(7);
}

/* What a traced program may do: a mode for each test of the ptrace engine. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void *one_call(void *unused)
{
	syscall(SYS_getppid);
	return unused;
}

static void threads(int n)
{
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	pthread_t *all = calloc(n, sizeof *all);
	for (int i = 0; i < n; i++)
		if (pthread_create(&all[i], &small, one_call, NULL))
			exit(9);
	for (int i = 0; i < n; i++)
		pthread_join(all[i], NULL);
}

static void processes(int n)
{
	for (int i = 0; i < n; i++) {
		pid_t pid = vfork();
		if (pid == 0)
			_exit(i & 63);
		int status;
		if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != (i & 63))
			exit(9);
	}
}

static void *exec_true(void *unused)
{
	execl("/bin/true", "true", (char *)NULL);
	return unused;
}

/* Echoes each byte of its input, from as many threads as it was told: proof that a program goes on. */
static void *sleep_long(void *unused)
{
	pause();
	return unused;
}

static void echo(int n)
{
	pthread_t thread;
	for (int i = 1; i < n; i++)
		pthread_create(&thread, NULL, sleep_long, NULL);
	char c;
	while (read(0, &c, 1) == 1)
		if (write(1, &c, 1) != 1)
			exit(9);
}

static int stop(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		raise(SIGSTOP);
		_exit(5);
	}
	int status;
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		return 9;
	kill(pid, SIGCONT);
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

static void memory(void)
{
	/* A string that ends where memory does, one that has no end, and pointers to nothing. */
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(page + 4096, 4096);
	strcpy(page + 4096 - 5, "/end");
	access(page + 4096 - 5, 0);
	memset(page, 'x', 4096);
	access(page + 4000, 0);
	access((char *)1, 0);
	access((char *)-1, 0);
	char *longest = malloc(10000);
	memset(longest, 'y', 9999);
	longest[9999] = 0;
	access(longest, 0);
	write(-1, (char *)1, 5);
	write(-1, longest, (size_t)-1);
	const char *words[] = {"a", (char *)1, NULL};
	syscall(SYS_execve, "/nonexistent", words, (char **)1);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	int n = argc > 2 ? atoi(argv[2]) : 0;
	if (!strcmp(mode, "threads"))
		threads(n);
	else if (!strcmp(mode, "processes"))
		processes(n);
	else if (!strcmp(mode, "exec-in-thread")) {
		pthread_t thread;
		pthread_create(&thread, NULL, exec_true, NULL);
		pause();
	} else if (!strcmp(mode, "echo"))
		echo(n);
	else if (!strcmp(mode, "stop"))
		return stop();
	else if (!strcmp(mode, "memory"))
		memory();
	else if (!strcmp(mode, "calls"))
		for (int i = 0; i < n; i++)
			syscall(SYS_getppid);
	return 0;
}

/* Three threads, one after the other, so that each makes the same calls in every run. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *work(void *name)
{
	char text[32];
	int size = snprintf(text, sizeof text, "thread %s\n", (char *)name);
	return write(1, text, size) == size ? NULL : name;
}

int main(void)
{
	char *names[] = {"one", "two", "three"};
	for (int i = 0; i < 3; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, work, names[i]))
			return 1;
		pthread_join(thread, NULL);
	}
	return 0;
}

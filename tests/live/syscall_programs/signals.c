/* Signals that are ignored, handled, fatal or stop; words[1] chooses. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void handler(int number) { }

static volatile int waiting;

/* Until a thread sleeps. */
static void asleep(int tid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", tid);
    while (state != 'S') {
        FILE *file = fopen(path, "r");
        fscanf(file, "%*d (%*[^)]) %c", &state);
        fclose(file);
    }
}

static void *waits(void *argument)
{
    waiting = syscall(SYS_gettid);
    for (;;)
        pause();
}

static void *executes(void *argument)
{
    while (!waiting)
        usleep(1000);
    asleep(waiting);
    execl("/bin/true", "true", (char *)0);
    return 0;
}

static void child(int number)
{
    int pid = fork();
    if (!pid) {
        if (number < 0)
            pause();
        kill(getpid(), number);
        _exit(7);
    }
    if (number < 0) {
        asleep(pid);
        kill(pid, -number);
    }
    if (number == SIGSTOP) {
        waitpid(pid, 0, WUNTRACED);
        kill(pid, SIGCONT);
    }
    waitpid(pid, 0, 0);
}

int main(int count, char **words)
{
    pthread_t thread;
    if (!strcmp(words[1], "ignored")) {
        signal(SIGUSR1, SIG_IGN);
        kill(getpid(), SIGUSR1);
        kill(getpid(), SIGWINCH);
        child(0);
        signal(SIGUSR2, handler);
        raise(SIGUSR2);
    } else if (!strcmp(words[1], "fatal")) {
        child(SIGTERM);
        child(SIGABRT);
        child(-SIGINT);
        child(-SIGKILL);
        alarm(1);
        pause();
    } else if (!strcmp(words[1], "stop")) {
        child(SIGSTOP);
    } else {
        pthread_create(&thread, 0, waits, 0);
        if (!strcmp(words[1], "execve")) {
            pthread_create(&thread, 0, executes, 0);
            pthread_join(thread, 0);
        }
        while (!waiting)
            usleep(1000);
        asleep(waiting);
        kill(getpid(), SIGTERM);
        waits(0);
    }
    return 0;
}

/*
 * pause - what a pod's first container runs: it waits for ever, takes its zombies, ends on SIGTERM
 * and SIGINT. An image with this file alone is all that a pod needs.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

int main(void)
{
	sigset_t set;
	int signal;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
		perror("pause: sigprocmask");
		return 1;
	}
	for (;;) {
		if (sigwait(&set, &signal) != 0)
			return 1;
		if (signal != SIGCHLD)
			return 0;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

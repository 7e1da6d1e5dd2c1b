/* The first process of every pod: holds its namespaces, reaps what is left behind
 * in them, ends at once when asked. Signals are blocked and waited for, so none is
 * lost between a check and a wait; a blocked signal also reaches PID 1 of a
 * namespace, which the kernel otherwise shields from signals without a handler. */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

int main(void)
{
	sigset_t wanted;

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGINT);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGCHLD);
	sigprocmask(SIG_BLOCK, &wanted, NULL);

	for (;;) {
		int caught = sigwaitinfo(&wanted, NULL);

		if (caught == SIGINT || caught == SIGTERM)
			return 0;
		if (caught == SIGCHLD)
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
	}
}

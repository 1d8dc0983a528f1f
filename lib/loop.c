#include "lib/loop.h"
#include "lib/cleanup.h"

#include <stdbool.h>
#include <sys/timerfd.h>

/* syscalls loop: epoll_wait epoll_ctl timerfd_create(0==CLOCK_MONOTONIC) timerfd_settime close */

#define ROUND 64 /* events taken from the kernel at once */

struct loop_source {
	struct loop *loop;
	struct loop_source *prev, *next;
	int fd;
	bool timer; /* fd is a timerfd of ours */
	bool dead;
	loop_fn fn;
	void *arg;
};

struct loop {
	int epfd;
	bool stop;
	int code;
	struct loop_source *live, *dead;
};

static void unlink_source(struct loop_source *s)
{
	if (s->prev)
		s->prev->next = s->next;
	else
		s->loop->live = s->next;
	if (s->next)
		s->next->prev = s->prev;
}

static void bury(struct loop *l)
{
	while (l->dead) {
		struct loop_source *s = l->dead;

		l->dead = s->next;
		free(s);
	}
}

struct loop *loop_new(struct error *err)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l) {
		error_set(err, "out of memory");
		return NULL;
	}
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0) {
		error_errno(err, "epoll_create1");
		free(l);
		return NULL;
	}
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	while (l->live)
		loop_remove(l->live);
	bury(l);
	close(l->epfd);
	free(l);
}

struct loop_source *loop_add(struct loop *l, int fd, uint32_t events, loop_fn fn, void *arg,
			     struct error *err)
{
	struct loop_source *s = calloc(1, sizeof(*s));
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (!s) {
		error_set(err, "out of memory");
		return NULL;
	}
	*s = (struct loop_source){.loop = l, .fd = fd, .fn = fn, .arg = arg, .next = l->live};
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		error_errno(err, "epoll_ctl");
		free(s);
		return NULL;
	}
	if (l->live)
		l->live->prev = s;
	l->live = s;
	return s;
}

void loop_set(struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	epoll_ctl(s->loop->epfd, EPOLL_CTL_MOD, s->fd, &ev);
}

void loop_remove(struct loop_source *s)
{
	if (!s || s->dead)
		return;
	epoll_ctl(s->loop->epfd, EPOLL_CTL_DEL, s->fd, NULL);
	if (s->timer)
		close(s->fd);
	unlink_source(s);
	s->dead = true;
	s->next = s->loop->dead;
	s->loop->dead = s;
}

struct loop_source *loop_timer(struct loop *l, uint64_t us, loop_fn fn, void *arg,
			       struct error *err)
{
	struct itimerspec when = {.it_value = {.tv_sec = (time_t)(us / 1000000),
					       .tv_nsec = (long)(us % 1000000) * 1000 + 1}};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	struct loop_source *s;

	if (fd < 0 || timerfd_settime(fd, 0, &when, NULL) < 0) {
		error_errno(err, "timerfd");
		close_fd(&fd);
		return NULL;
	}
	s = loop_add(l, fd, EPOLLIN, fn, arg, err);
	if (!s) {
		close_fd(&fd);
		return NULL;
	}
	s->timer = true;
	return s;
}

int loop_run(struct loop *l)
{
	struct epoll_event ev[ROUND];

	l->stop = false;
	while (!l->stop) {
		int n = epoll_wait(l->epfd, ev, ROUND, -1);

		for (int i = 0; i < n && !l->stop; i++) {
			struct loop_source *s = ev[i].data.ptr;
			loop_fn fn = s->fn;
			void *arg = s->arg;

			if (s->dead)
				continue;
			if (s->timer)
				loop_remove(s);
			fn(arg, ev[i].events);
		}
		bury(l);
	}
	return l->code;
}

void loop_stop(struct loop *l, int code)
{
	l->stop = true;
	l->code = code;
}
